"""What `supacal` ends with, besides 0 for well done and 1 for what did not work."""

BAD_SETTINGS = 2
INTERRUPTED = 130
