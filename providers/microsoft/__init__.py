"""Microsoft Graph v1.0, Outlook's calendars: the adapter."""
