"""`supacal keys`: a fresh key for SUPACAL_SECRET_KEYS."""

import argparse
import sys

from runtime.sealing import Keyring


def run(_: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    sys.stdout.write(f"{Keyring.generate()}\n")
    return 0
