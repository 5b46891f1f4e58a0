"""Doubles of the providers: their API, their pushes, their faults, on one machine."""
