"""What looks wrong about a table although every cell is in order: only reported, and nothing is changed.  [ours]"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

#: Links between agents, in standard deviations: within chance, and beyond doubt.
CHANCE, BEYOND_DOUBT = 2.5, 6.0
#: Exchanges of columns are looked for in as many stretches of rows, and not in shorter ones.
STRETCHES, SHORTEST = 10, 30


class Oddity(NamedTuple):
    """`found`: what is odd; `count`: of how many cells, rows or agents; `done`: what was done about it."""

    found: str
    count: int
    done: str


def suspicions(scores: NDArray, agents: tuple[str, ...], task: NDArray | None, test: NDArray | None) -> list[Oddity]:
    """Constant agents, agents with equal scores, shuffled agents, exchanged columns. Scores (n, K), NaN where missing;
    task (n,) of numbers from 0, and test (n,) bool, or None."""
    codes = np.zeros(len(scores), dtype=np.int64) if task is None else task
    highest = np.nanmax(scores, axis=0)
    varies = highest > np.nanmin(scores, axis=0)
    notes = [
        Oddity(f"agent {agents[k]!r} scores {highest[k]:g} on every row", 1, "kept; nothing tells its rows apart")
        for k in np.flatnonzero(~varies)
    ]
    notes += [
        Oddity(f"agents {agents[j]!r} and {agents[i]!r} have equal scores on every row", 2, "kept")
        for i in np.flatnonzero(varies)
        for j in range(i)
        if np.array_equal(scores[:, i], scores[:, j], equal_nan=True)
    ]
    for k in np.flatnonzero(varies & shuffled_agents(scores, codes)):
        what = f"scores of {agents[k]!r} have nothing to do with the other agents' on the same rows"
        notes.append(Oddity(what, 1, "kept; were its rows shuffled or joined wrongly?"))
    for stretch, rows, order in swapped_columns(scores, codes, test):
        swap = ", ".join(f"{agents[i]!r} like {agents[j]!r}" for i, j in enumerate(order) if i != j)
        what = f"in {stretch} the agents seem to have changed places: {swap}"
        notes.append(Oddity(what, rows, "kept; look at those rows"))
    return notes


def shuffled_agents(scores: NDArray, codes: NDArray) -> NDArray[np.bool_]:
    """Agents (K,) whose rows look shuffled against the others'.  [ours]

    Prompts are easy or hard for everybody, so an agent's score goes with the mean of the others', and with the task.
    Agents are named that show neither link (both within chance) while another agent shows one beyond doubt.
    """
    centred = np.nan_to_num(scores - np.nanmean(scores, axis=0))
    rest = centred.sum(axis=1, keepdims=True) - centred
    # squared correlations times n: about chi-square with 1 degree of freedom where there is no link
    with np.errstate(invalid="ignore", divide="ignore"):
        links = len(centred) * (centred * rest).sum(axis=0) ** 2 / ((centred**2).sum(axis=0) * (rest**2).sum(axis=0))
    z, counts = np.sqrt(np.nan_to_num(links)), np.bincount(codes)
    if (free := len(counts) - 1) > 0:
        # how far the variation between tasks exceeds chance, in standard deviations of its null distribution
        sums = np.column_stack([np.bincount(codes, weights=column) for column in centred.T])
        variance = np.where(centred.any(axis=0), centred.var(axis=0), np.inf)
        z = np.maximum(z, ((sums**2 / counts[:, None]).sum(axis=0) / variance - free) / np.sqrt(2 * free))
    return (z < CHANCE) & (z > BEYOND_DOUBT).any()


def swapped_columns(scores: NDArray, codes: NDArray, test: NDArray | None) -> list[tuple[str, int, NDArray[np.int64]]]:
    """Stretches of rows in which the agents' columns seem to have changed places, as after a careless join.  [ours]

    In every tenth of the rows, and in the test part, each agent's mean is compared with what every agent scores on
    such tasks elsewhere. A stretch is named when the agents' own values miss by far more than chance while another
    order of the agents fits: (name, number of rows, order (K,): agent k behaves like agent order[k]) of each.
    """
    n, n_agents = scores.shape
    tenths = [b for b in np.array_split(np.arange(n), STRETCHES) if len(b) >= SHORTEST]
    stretches = [(f"rows {b[0]} to {b[-1]}", b) for b in tenths]
    stretches += [] if test is None else [("the test part", np.flatnonzero(test))]
    there, values = np.isfinite(scores).astype(np.float64), np.nan_to_num(scores)

    def per_task(table: NDArray, rows: NDArray | slice = slice(None)) -> NDArray[np.float64]:
        size = codes.max() + 1
        return np.column_stack([np.bincount(codes[rows], weights=v, minlength=size) for v in table[rows].T])

    sums, counts = per_task(values), per_task(there)
    noise = np.nanvar(scores, axis=0) + 1e-6
    found = []
    for name, rows in stretches:
        inside, weight = per_task(values, rows), per_task(there, rows)
        usable = ((counts > weight) & (weight > 0)).all(axis=1)
        inside, weight, outside = inside[usable], weight[usable], (sums - inside)[usable]
        if weight.sum() < SHORTEST * n_agents:
            continue
        gap = (inside / weight)[:, :, None] - (outside / (counts[usable] - weight))[:, None, :]
        # misfit[k, j]: agent k of this stretch against agent j elsewhere, over tasks; about chi-square if they agree
        misfit = np.einsum("tkj,tk->kj", gap**2, weight / noise)
        order = linear_sum_assignment(misfit)[1]
        kept, moved, free = np.trace(misfit), misfit[np.arange(n_agents), order].sum(), usable.sum() * n_agents
        # chi-square has mean `free`: the order found fits as if by chance, the given one misses by a multiple of that,
        # and by more than the best of K! orders, or short stretches, would win by luck
        if kept > 4 * free + 6 * n_agents + 25 and moved < min(2 * free, kept / 5):
            found.append((name, len(rows), order))
    return found
