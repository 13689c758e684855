"""The rule of the claims ledger: from readings of a claim to one of five verdicts, and to what could have been seen.

A *reading* is one place where the claim can be looked at: an effect in favour of the claim, measured in replicates of
the whole pipeline, with the uncertainty that the test rows add. Effects are counted in units of what routing earns
there, so that one margin serves both papers. The numbers of the rule stand in `notebooks/rule.yaml`.  [ours]
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

REPRODUCED, IN_PART, UNDECIDED, CONTRADICTED, NOT_COMPARABLE = VERDICTS = (
    "REPRODUCED", "HOLDS IN PART", "NOT DECIDED", "CONTRADICTED", "NOT COMPARABLE",
)  # fmt: skip
#: Two-sided level of all intervals; chance of being noticed at which a detectable effect is stated.
LEVEL, POWER = 0.05, 0.8


class Reading(NamedTuple):
    """One look at a claim.

    name: where it was looked. values: (r,) effects in favour of the claim, one per replicate of the whole pipeline,
    r ≥ 2. rows_se: standard error that the test rows add where the replicates share them, 0 where each has its own.
    unit: what routing earns there, in the unit of the values, > 0.
    """

    name: str
    values: NDArray[np.float64]
    rows_se: float = 0.0
    unit: float = 1.0


class Estimate(NamedTuple):
    """An effect in units of what routing earns: mean, standard error, degrees of freedom."""

    mean: float
    se: float
    df: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval over replicates and rows."""
        half = float(stats.t.ppf(1 - LEVEL / 2, self.df)) * self.se
        return self.mean - half, self.mean + half

    @property
    def detectable(self) -> float:
        """The smallest true effect that an interval above 0 would have shown with 80 % chance."""
        return float(stats.t.ppf(1 - LEVEL / 2, self.df) + stats.t.ppf(POWER, self.df)) * self.se

    def p_above(self, limit: float) -> float:
        """One-sided p-value against "the effect is at most `limit`"."""
        return float(stats.t.sf((self.mean - limit) / max(self.se, 1e-300), self.df))


class Judged(NamedTuple):
    """A verdict, in words why, and the estimate over all readings that it rests on."""

    verdict: str
    why: str
    pooled: Estimate


def estimate(reading: Reading) -> Estimate:
    """The effect of one reading with both sources of uncertainty: se² = s²/r + rows_se².

    Raises:
        ValueError: fewer than two replicates, a value that is no number, a unit that is not positive.
    """
    values = np.asarray(reading.values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values: {reading.name!r} needs at least 2 finite replicates; found {values}")
    if not reading.unit > 0:
        raise ValueError(f"unit: routing earns {reading.unit} in {reading.name!r}, so nothing can be measured by it")
    se = np.hypot(values.std(ddof=1) / np.sqrt(len(values)), reading.rows_se)
    return Estimate(float(values.mean() / reading.unit), float(se / reading.unit), len(values) - 1.0)


def pooled(readings: Sequence[Reading]) -> Estimate:
    """The mean effect over the readings. Replicates of the same number are averaged first, since settings share them;
    what the rows add is taken as common to all, which can only widen the interval."""
    count = min(len(reading.values) for reading in readings)
    per_replicate = np.mean([np.asarray(r.values[:count], dtype=np.float64) / r.unit for r in readings], axis=0)
    rows_se = float(np.mean([r.rows_se / r.unit for r in readings]))
    return estimate(Reading("all readings", per_replicate, rows_se))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values of one family, (m,): the chance of any false discovery stays below the level.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted[np.argsort(order)]


def better(readings: Sequence[Reading], margin: float) -> Judged:
    """The verdict on "A is better than B".

    REPRODUCED: over all readings the interval lies above 0, the effect is not shown to be smaller than the margin, and
    no reading is against. HOLDS IN PART: some readings hold, or the effect is there but smaller than the margin.
    CONTRADICTED: the interval lies below 0, or within the margin on both sides, and no reading holds. Single readings
    hold, or are against, after Holm's correction over all of them.
    """
    every, whole = [estimate(r) for r in readings], pooled(readings)
    holds = holm([e.p_above(0.0) for e in every]) < LEVEL / 2
    against = holm([1 - e.p_above(0.0) for e in every]) < LEVEL / 2
    low, high = whole.interval
    within = whole.p_above(-margin) < LEVEL / 2 and 1 - whole.p_above(margin) < LEVEL / 2
    names = ", ".join(r.name for r, h in zip(readings, holds, strict=True) if h)
    opposed = f"against in {against.sum()} of {len(readings)}"
    if low > 0 and not within and not against.any():
        return Judged(REPRODUCED, f"over {len(readings)} readings the effect lies above 0", whole)
    if holds.any():
        return Judged(IN_PART, f"holds in {names}; {opposed}", whole)
    if low > 0:
        but = f"within ±{margin:g} of what routing earns" if within else opposed
        return Judged(IN_PART, f"above 0 over all readings, but {but}", whole)
    if high < 0:
        return Judged(CONTRADICTED, "over all readings the effect lies below 0", whole)
    if within:
        return Judged(CONTRADICTED, f"equal to within ±{margin:g} of what routing earns", whole)
    return Judged(UNDECIDED, f"an effect of {whole.detectable:.2g} could have been seen", whole)


def not_worse(readings: Sequence[Reading], margin: float) -> Judged:
    """The verdict on "A is competitive with B": not worse by more than the margin, in every reading.

    REPRODUCED: every interval lies above −margin (all must, so nothing is corrected). CONTRADICTED: over all readings
    the interval lies below −margin. HOLDS IN PART: some readings are not worse, and others are, after Holm.
    """
    every, whole = [estimate(r) for r in readings], pooled(readings)
    fine = np.array([e.p_above(-margin) < LEVEL / 2 for e in every])
    worse = holm([1 - e.p_above(-margin) for e in every]) < LEVEL / 2
    if fine.all():
        return Judged(REPRODUCED, f"not worse by more than {margin:g} of what routing earns, everywhere", whole)
    if whole.interval[1] < -margin:
        return Judged(CONTRADICTED, f"worse by more than {margin:g} of what routing earns", whole)
    if worse.any() and fine.any():
        names = ", ".join(r.name for r, w in zip(readings, worse, strict=True) if w)
        return Judged(IN_PART, f"not in {names}", whole)
    detectable = max(e.detectable for e in every)
    return Judged(UNDECIDED, f"a deficit of {detectable:.2g} could have been hidden", whole)


def near(readings: Sequence[Reading], target: float, tolerance: float) -> Judged:
    """The verdict on "A reaches the published figure": the whole interval within the tolerance, or wholly outside."""
    whole = pooled(readings)
    low, high = whole.interval
    if target - tolerance <= low and high <= target + tolerance:
        return Judged(REPRODUCED, f"within ±{tolerance:g} of {target:g}", whole)
    if high < target - tolerance or low > target + tolerance:
        return Judged(CONTRADICTED, f"farther than {tolerance:g} from {target:g}", whole)
    return Judged(UNDECIDED, f"known to ±{(high - low) / 2:.2g}, wanted to ±{tolerance:g}", whole)


def chance_to_pass(readings: Sequence[Reading], effect: float, margin: float, draws: int, random_state: int) -> float:
    """How often `better` would say REPRODUCED if the effect were `effect` (in units of what routing earns) everywhere.

    Replicates and the error of the rows are drawn anew from normal distributions with the spreads of the readings.
    """
    rng = np.random.default_rng(random_state)
    passed = 0
    for _ in range(draws):
        shared = rng.normal()  # the rows are common to all readings, as `pooled` takes them
        drawn = []
        for r in readings:
            noise = rng.normal(0.0, np.std(r.values, ddof=1), len(r.values))
            drawn.append(r._replace(values=r.unit * effect + r.rows_se * shared + noise))
        passed += better(drawn, margin).verdict == REPRODUCED
    return passed / draws
