"""What a process needs before it can work."""
