"""The command `supacal`."""
