"""Calendly API v2: the adapter."""
