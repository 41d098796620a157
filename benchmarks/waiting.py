"""What passive waiting gains on a busy machine: two trainings at once, each with as many threads as there are cores.

    python -m benchmarks.waiting --pairs 3

Each pair runs both trainings with threads that spin while they wait (the default of OpenMP) and with threads that sleep
(``OMP_WAIT_POLICY=passive``, which fer asks for), in turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from typing import Final

from fer_cli.core.machine import usable_cpus

STEPS: Final = 4
TRAINING: Final = f"""
import sys, time, timm, torch

network = timm.create_model("resnet18", num_classes=8).train()
optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
images, labels = torch.randn(8, 3, 48, 48), torch.arange(8)

def step():
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimiser.step()

step()
print("ready", flush=True)
sys.stdin.readline()
begun = time.perf_counter()
for _ in range({STEPS}):
    step()
print(time.perf_counter() - begun)
"""


def seconds(policy: str | None) -> float:
    """Return how long the slower of two trainings took for its steps."""
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment = kept | {"OMP_NUM_THREADS": str(usable_cpus())} | ({"OMP_WAIT_POLICY": policy} if policy else {})
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    pipes = []
    for one in both:
        assert one.stdin is not None, "a pipe"
        assert one.stdout is not None, "a pipe"
        assert one.stdout.readline() == "ready\n", "a training failed"
        pipes.append((one.stdin, one.stdout))
    for to, _ in pipes:
        to.write("go\n")
        to.flush()
    took = max(float(answers.readline()) for _, answers in pipes)
    for one in both:
        one.wait()
    return took


def main() -> None:
    """Print each pair and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    ratios = []
    for number in range(parser.parse_args().pairs):
        took = {policy: seconds(policy) for policy in ((None, "passive") if number % 2 == 0 else ("passive", None))}
        ratios.append(took[None] / took["passive"])
        load = os.getloadavg()[0]
        print(f"spinning {took[None]:.1f} s, passive {took['passive']:.1f} s: {ratios[-1]:.1f} times (load {load:.1f})")
    print(f"median {statistics.median(ratios):.1f} times")


if __name__ == "__main__":
    main()
