"""What can stop the local stack; every message says what to do about it."""


class StackError(Exception):
    """The local stack cannot go on until somebody does what the message says."""
