"""The tests. What stands here is set before anything heavy is imported."""

import os
import sys

# Many tests start processes; where the environment forbids bytecode each would compile torch anew, 14 s instead of 3.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Two workers share two cores: one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
