"""Cal.com webhooks and API v2: the adapter."""
