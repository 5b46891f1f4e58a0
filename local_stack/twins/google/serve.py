"""Serving the twin; nothing about it is Google's own."""

from local_stack.twins.serve import serving, serving_in_thread

__all__ = ["serving", "serving_in_thread"]
