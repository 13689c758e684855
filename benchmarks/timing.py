"""Paired timing: two pieces of work in turn in one process, so that a ratio survives a machine whose speed drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fastest(work: Callable[[], object], *, repeats: int = 3) -> float:
    """Seconds of the fastest of some runs: what else the machine does can only make a run longer."""
    return min(seconds(work) for _ in range(repeats))


def paired_ratio(work: Callable[[], object], reference: Callable[[], object], *, repeats: int = 15) -> float:
    """Median of time(work) / time(reference) over `repeats` pairs, after two warm-up pairs."""
    for _ in range(2):
        work(), reference()
    return statistics.median(seconds(work) / seconds(reference) for _ in range(repeats))


def report(name: str, value: float, bar: float, unit: str = "×") -> None:
    """Print one measured figure beside its bar."""
    print(f"{name:<62} {value:8.3f} {unit}   (bar {bar:g})")
