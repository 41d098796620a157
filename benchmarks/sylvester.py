"""SciPy's Sylvester solver beside the eigendecomposition path, in one process, on the same regularised A and B.

    python benchmarks/sylvester.py --d 1280 2048

SciPy solves A W + W B = C for one lambda; ours decomposes once and then solves for twenty. The yardstick is the time
of 9 n^3 floating point operations (the symmetric QR algorithm with eigenvectors, Golub & Van Loan) at the speed of
this machine's matrix product, measured in the same process. It is no strict bound: divide and conquer may deflate.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import scipy.linalg

from fer_cli.core.labels import EXPRESSIONS
from fer_cli.systems.ahm.fit import RELATIVE_LAMBDAS
from fer_cli.systems.ahm.hierarchy import default_hierarchy, semantic_prototypes
from fer_cli.systems.ahm.projection import Array, ProjectionPath


def training_sums(d: int, samples: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return SS' (16, 16), XX' (d, d) and SX' (16, d) of correlated, standardised features of eight unequal classes."""
    P, _ = semantic_prototypes(default_hierarchy(), EXPRESSIONS)
    share = np.geomspace(1.0, 0.02, P.shape[1])
    y = rng.choice(P.shape[1], samples, p=share / share.sum())
    hidden = rng.standard_normal((samples, d)) * np.geomspace(1.0, 0.01, d)
    hidden[:, : P.shape[1]] += np.eye(P.shape[1])[y]
    X = hidden @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    S = P[:, y]
    return S @ S.T, X.T @ X, S @ X


def gemm_speed(n: int, rng: np.random.Generator) -> float:
    """Return the best of three speeds of an n x n float64 matrix product, in FLOP/s."""
    M = rng.standard_normal((n, n))
    best = np.inf
    for _ in range(3):
        started = time.perf_counter()
        M @ M
        best = min(best, time.perf_counter() - started)
    return 2.0 * n**3 / best


def compare(d: int, rng: np.random.Generator) -> None:
    A, B, C = training_sums(d, 2 * d, rng)
    speed = gemm_speed(d, rng)

    started = time.perf_counter()
    path = ProjectionPath(A, B, C)
    decomposed = time.perf_counter() - started
    started = time.perf_counter()
    solutions = {r: path.solve(r * path.balance) for r in RELATIVE_LAMBDAS}
    solved = time.perf_counter() - started

    middle = RELATIVE_LAMBDAS[len(RELATIVE_LAMBDAS) // 2]
    lam, W = middle * path.balance, solutions[middle]
    started = time.perf_counter()
    reference = np.asarray(scipy.linalg.solve_sylvester(path.A, lam * path.B, (1.0 + lam) * path.C), dtype=np.float64)
    scipy_one = time.perf_counter() - started

    worst = max(path.residual(r * path.balance, solution) for r, solution in solutions.items())
    difference = np.linalg.norm(W - reference) / np.linalg.norm(reference)
    ours = decomposed + solved
    yardstick = 9.0 * (d**3 + len(A) ** 3) / speed
    print(f"d = {d}, k = {len(A)}, {len(solutions)} lambdas; matrix product {speed / 1e9:.0f} GFLOP/s")
    print(f"  scipy.linalg.solve_sylvester, 1 lambda     {scipy_one:8.3f} s")
    print(f"  ours: decomposition                        {decomposed:8.3f} s   (yardstick {yardstick:.3f} s)")
    print(f"  ours: {len(solutions)} lambdas                           {solved:8.3f} s")
    print(f"  ours, all lambdas / SciPy, one lambda      {ours / scipy_one:8.3f}")
    print(f"  relative difference of W at lambda {lam:<8.3g} {difference:.1e}")
    print(f"  worst relative residual: ours {worst:.1e}, SciPy {path.residual(lam, reference):.1e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, nargs="+", default=[1280, 2048], metavar="N", help="numbers of features")
    for d in parser.parse_args().d:
        compare(d, np.random.default_rng(0))


if __name__ == "__main__":
    main()
