"""What looks wrong about a table although every cell is in order: only reported, and nothing is changed.  [ours]"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

#: Links between agents, in standard deviations: within chance, and beyond doubt.
CHANCE, BEYOND_DOUBT = 2.5, 6.0
#: Fewer rows than this are no stretch in which an exchange of columns could be seen.
SHORTEST = 30


class Oddity(NamedTuple):
    """`found`: what is odd; `count`: of how many cells, rows or agents; `done`: what was done about it."""

    found: str
    count: int
    done: str


def suspicions(scores: NDArray, agents: tuple[str, ...], task: NDArray | None, test: NDArray | None) -> list[Oddity]:
    """Constant agents, agents with equal scores, shuffled agents, exchanged columns. Scores (n, K), NaN where missing;
    task (n,) and test (n,) bool, or None."""
    notes = []
    constant = np.nanmax(scores, axis=0) == np.nanmin(scores, axis=0)
    for k in np.flatnonzero(constant):
        what = f"agent {agents[k]!r} scores {np.nanmax(scores[:, k]):g} on every row"
        notes.append(Oddity(what, 1, "kept; nothing tells its rows apart"))
    for i in np.flatnonzero(~constant):
        for j in range(i):
            if np.array_equal(scores[:, i], scores[:, j], equal_nan=True):
                notes.append(
                    Oddity(f"agents {agents[j]!r} and {agents[i]!r} have equal scores on every row", 2, "kept")
                )
    for k in shuffled_agents(scores, task):
        what = f"scores of {agents[k]!r} have nothing to do with the other agents' on the same rows"
        notes.append(Oddity(what, 1, "kept; were its rows shuffled or joined wrongly?"))
    for stretch, rows, order in swapped_columns(scores, task, test):
        swap = ", ".join(f"{agents[i]!r} like {agents[j]!r}" for i, j in enumerate(order) if i != j)
        what = f"in {stretch} the agents seem to have changed places: {swap}"
        notes.append(Oddity(what, rows, "kept; look at those rows"))
    return notes


def shuffled_agents(scores: ArrayLike, task: ArrayLike | None = None) -> list[int]:
    """Agents whose rows look shuffled against the others'.  [ours]

    Prompts are easy or hard for everybody, so an agent's score goes with the mean of the others', and with the task.
    Agents are named that show neither link (both within chance) while another agent shows one beyond doubt.

    Args:
        scores: (n, K), NaN where missing. task: (n,) or None.
    """
    scores = np.asarray(scores, dtype=np.float64)
    centred = np.nan_to_num(scores - np.nanmean(scores, axis=0))
    total = centred.sum(axis=1)
    # squared correlations times n: about chi-square with 1 degree of freedom where there is no link
    with np.errstate(invalid="ignore", divide="ignore"):
        links = []
        for column in centred.T:
            rest = total - column
            links.append(len(column) * (column @ rest) ** 2 / ((column @ column) * (rest @ rest)))
        z = np.sqrt(np.nan_to_num(links))
    if task is not None:
        codes = pd.factorize(np.asarray(task))[0]
        z = np.maximum(z, [_between(column, codes) for column in centred.T])
    varies = np.nanmax(scores, axis=0) > np.nanmin(scores, axis=0)
    return [int(k) for k in np.flatnonzero(varies & (z < CHANCE))] if (z > BEYOND_DOUBT).any() else []


def _between(column: NDArray, codes: NDArray) -> float:
    """How far the variation between tasks exceeds chance, in standard deviations of its null distribution."""
    counts = np.bincount(codes)
    if len(counts) < 2 or not column.any():
        return 0.0
    between = (np.bincount(codes, weights=column) ** 2 / counts).sum() / column.var()
    return float((between - (len(counts) - 1)) / np.sqrt(2 * (len(counts) - 1)))


def swapped_columns(
    scores: ArrayLike, task: ArrayLike | None = None, test: ArrayLike | None = None, blocks: int = 10
) -> list[tuple[str, int, NDArray[np.int64]]]:
    """Stretches of rows in which the agents' columns seem to have changed places, as after a careless join.  [ours]

    In every tenth of the rows, and in the test part, each agent's mean is compared with what every agent scores on
    such tasks elsewhere. A stretch is named when the agents' own values miss by far more than chance while another
    order of the agents fits.

    Returns:
        (name of the stretch, number of rows, order (K,): agent k behaves like agent order[k]) per stretch.
    """
    scores = np.asarray(scores, dtype=np.float64)
    n, n_agents = scores.shape
    codes = np.zeros(n, dtype=np.int64) if task is None else pd.factorize(np.asarray(task))[0]
    stretches = [(f"rows {b[0]} to {b[-1]}", b) for b in np.array_split(np.arange(n), blocks) if len(b) >= SHORTEST]
    if test is not None:
        stretches.append(("the test part", np.flatnonzero(np.asarray(test))))
    there, values = np.isfinite(scores).astype(np.float64), np.nan_to_num(scores)

    def per_task(table: NDArray, rows: NDArray | slice = slice(None)) -> NDArray[np.float64]:
        size = codes.max() + 1
        return np.column_stack([np.bincount(codes[rows], weights=v, minlength=size) for v in table[rows].T])

    sums, counts = per_task(values), per_task(there)
    noise = np.nanvar(scores, axis=0) + 1e-6
    found = []
    for name, rows in stretches:
        inside, weight = per_task(values, rows), per_task(there, rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            elsewhere = (sums - inside) / (counts - weight)
        usable = np.isfinite(elsewhere).all(axis=1) & (weight > 0).all(axis=1)
        if weight[usable].sum() < SHORTEST * n_agents:
            continue
        own, many = inside[usable] / weight[usable], weight[usable] / noise
        # misfit[k, j]: agent k of this stretch against agent j elsewhere, over tasks; about chi-square if they agree
        misfit = np.einsum("tkj,tk->kj", (own[:, :, None] - elsewhere[usable][:, None, :]) ** 2, many)
        order = linear_sum_assignment(misfit)[1]
        kept, moved, free = np.trace(misfit), misfit[np.arange(n_agents), order].sum(), usable.sum() * n_agents
        # chi-square has mean `free`: the order found fits as if by chance, the given one misses by a multiple of that,
        # and by more than the best of K! orders, or short stretches, would win by luck
        if kept > 4 * free + 6 * n_agents + 25 and moved < min(2 * free, kept / 5):
            found.append((name, len(rows), order))
    return found
