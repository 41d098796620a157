"""``python -m benchmarks.mutation [MODULE...]``: how many changes to the modules that decide numbers do tests notice?

Each mutant is one change that cosmic-ray makes to one place of a module: an operator, a comparison, a number, a
condition. The module's tests run on it until one fails; a mutant that no test fails on has survived. Annotations are
left out. With more places than ``--most``, a seeded sample of them is taken, and the table says of how many.

``--known`` runs the mistakes of ``known_mistakes.py`` instead: each must be noticed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.mutation.known_mistakes import MISTAKES
from benchmarks.mutation.mutants import Mutant, mutants
from benchmarks.mutation.sandbox import Sandbox

ROOT: Final = Path(__file__).resolve().parents[2]
TESTS: Final[dict[str, tuple[str, ...]]] = {
    "fer_cli/core/labels.py": ("tests/core/test_labels.py",),
    "fer_cli/metrics/values.py": ("tests/metrics/test_metrics.py", "tests/metrics/test_bootstrap.py"),
    "fer_cli/metrics/bootstrap.py": ("tests/metrics/test_bootstrap.py",),
    "fer_cli/metrics/paired.py": ("tests/metrics/test_paired.py", "tests/stages/test_compare.py"),
    "fer_cli/metrics/mcnemar.py": ("tests/metrics/test_mcnemar.py",),
    "fer_cli/evaluation/leakage.py": ("tests/stages/test_audit_model.py",),
    "fer_cli/evaluation/label_permutation.py": (
        "tests/evaluation/test_label_permutation.py",
        "tests/stages/test_audit_model.py",
    ),
    "fer_cli/datasets/overlap.py": ("tests/training/test_train_folds.py", "tests/stages/test_audit_model.py"),
    "fer_cli/systems/ahm/ahp.py": ("tests/systems/test_ahp.py",),
    "fer_cli/systems/ahm/projection.py": ("tests/systems/test_projection.py",),
    "fer_cli/losses/cross_entropy.py": ("tests/losses/test_cross_entropy.py", "tests/training/test_training_parts.py"),
    "fer_cli/losses/focal.py": ("tests/losses/test_focal.py",),
    "fer_cli/losses/island.py": ("tests/losses/test_island.py",),
}
"""Module -> the tests that should notice a change to it, the quickest first."""
SLACK: Final = 5.0
"""How much longer than the unchanged module's tests a mutant's may take."""


@dataclass(frozen=True, slots=True)
class Score:
    """What became of a module's mutants. ``places`` is the number of places that could have been changed."""

    module: str
    places: int
    killed: int
    survivors: list[Mutant]

    @property
    def mutants(self) -> int:
        """The number of mutants that were run."""
        return self.killed + len(self.survivors)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code: 1 where a known mistake survives."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as fer_cli/metrics/values.py [all]")
    parser.add_argument("--most", type=int, default=200, help="mutants per module [200]")
    parser.add_argument("--seed", type=int, default=0, help="of the sample [0]")
    parser.add_argument("--known", action="store_true", help="run the known mistakes instead")
    options = parser.parse_args(arguments)
    modules = options.modules or list(TESTS)
    if unknown := [name for name in modules if name not in TESTS]:
        parser.error(f"no tests are listed for {unknown[0]}; known: {', '.join(TESTS)}")
    with tempfile.TemporaryDirectory() as folder, Sandbox(ROOT, Path(folder) / "tree") as sandbox:
        if options.known:
            return _run_known(sandbox)
        scores = []
        for module in modules:
            scores.append(_run(sandbox, module, options.most, options.seed))
            _print_survivors(scores[-1])
        _print_table(scores)
    return 0


def _limit(sandbox: Sandbox, tests: Sequence[str]) -> float:
    """Return how long a mutant's tests may take: a multiple of what they take on the unchanged tree."""
    outcome, seconds = sandbox.run(tests, limit=1800)
    if outcome != "passed":
        sys.exit(f"{' '.join(tests)} {outcome} on the unchanged tree:\n{sandbox.log()}")
    return max(20.0, SLACK * seconds)


def _run(sandbox: Sandbox, module: str, most: int, seed: int) -> Score:
    tests = TESTS[module]
    limit = _limit(sandbox, tests)
    chosen, places = mutants(sandbox.source(module), most, seed)
    survivors = []
    for number, mutant in enumerate(chosen, start=1):
        with sandbox.changed(module, mutant.source):
            outcome, seconds = sandbox.run(tests, limit)
        print(f"{module}:{mutant.line} {number}/{len(chosen)} {outcome} {seconds:.1f} s", file=sys.stderr)
        if outcome == "passed":
            survivors.append(mutant)
    return Score(module, places, len(chosen) - len(survivors), survivors)


def _print_survivors(score: Score) -> None:
    for mutant in score.survivors:
        print(f"survived {score.module}:{mutant.line} {mutant.operator}\n{mutant.change}", flush=True)


def _print_table(scores: Sequence[Score]) -> None:
    print(f"\n{'module':<42}{'places':>8}{'mutants':>9}{'killed':>8}{'survived':>10}{'score':>8}")
    total = Score("all", 0, 0, [])
    for score in scores:
        total = Score(
            "all", total.places + score.places, total.killed + score.killed, total.survivors + score.survivors
        )
    for row in [*scores, total] if len(scores) > 1 else scores:
        share = row.killed / row.mutants if row.mutants else 1.0
        counts = f"{row.places:>8}{row.mutants:>9}{row.killed:>8}{len(row.survivors):>10}"
        print(f"{row.module:<42}{counts}{share:>8.1%}")


def _run_known(sandbox: Sandbox) -> int:
    limits = {tests: _limit(sandbox, tests) for tests in {mistake.tests for mistake in MISTAKES}}
    missed = []
    for mistake in MISTAKES:
        source = sandbox.source(mistake.module)
        if (count := source.count(mistake.right)) != 1:
            sys.exit(f"{mistake.name}: {mistake.module} has {mistake.right!r} {count} times, not once")
        with sandbox.changed(mistake.module, source.replace(mistake.right, mistake.wrong)):
            outcome, _ = sandbox.run(mistake.tests, limits[mistake.tests])
        print(f"{'MISSED' if outcome == 'passed' else 'noticed':<9}{mistake.module}: {mistake.name}", flush=True)
        if outcome == "passed":
            missed.append(mistake)
    print(f"{len(MISTAKES) - len(missed)} of {len(MISTAKES)} known mistakes are noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
