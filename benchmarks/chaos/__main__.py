"""``python -m benchmarks.chaos NAME [options]``: runs ``benchmarks/chaos/NAME.py``; without a name it lists them.

Each is seeded, prints what it tried and what it found, and exits with 1 where something was at fault.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

NAMES: Final = ("damage", "disk", "fuzz", "kills", "training")


def main() -> int:
    """Run the named experiment with the rest of the arguments."""
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print(f"{__doc__}\nNAME is one of {', '.join(NAMES)}")
        return 2
    name = sys.argv.pop(1)
    sys.argv[0] = f"benchmarks.chaos {name}"
    importlib.import_module(f"benchmarks.chaos.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
