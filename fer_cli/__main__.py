"""The command ``fer``, and ``python -m fer_cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from fer_cli.core.machine import wait_passively

    wait_passively()  # before anything loads torch
    from fer_cli.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
