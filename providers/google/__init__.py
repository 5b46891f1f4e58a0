"""Google Calendar API v3: the adapter."""
