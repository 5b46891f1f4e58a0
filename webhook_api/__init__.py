"""Delivery in, queue out: the web server that providers call."""
