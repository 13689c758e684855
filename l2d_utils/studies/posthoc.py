"""Post-hoc deferral: scorers for a fixed model and a fixed expert, all behind one interface `score(X) -> (n,)`.

The larger the score, the sooner the input is deferred. A scorer sees the base model's features as deployed (`features`)
and nothing of the expert's; the expert's answers enter only through the training targets. Every trained scorer is
linear in the same features and picks among the same number of settings by the validation area under the deferral
curve, so that objectives are compared and not function classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax, xlogy
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from l2d_utils.costs import costs_from_predictions
from l2d_utils.metrics import DeferralCurve, deferral_curve, gap_closed, interval, paired
from l2d_utils.routers import DeferralRouter, DensityRatioScorer
from l2d_utils.rules import threshold_for_rate
from l2d_utils.validate import check_matrix, check_same_rows

Score = Callable[[NDArray], NDArray[np.float64]]

#: Gradient tolerance of the fits: a smaller one changes the areas by less than the seeds do.
TOL = 1e-4


class Sample(NamedTuple):
    """Rows for a post-hoc scorer.

    X: (n, d) from `features`. model, expert: (n, L) class probabilities; only `X` may be used at test time.
    labels: int (n,).
    """

    X: NDArray
    model: NDArray
    expert: NDArray
    labels: NDArray[np.int64]

    @property
    def costs(self) -> NDArray[np.float64]:
        """(n, 2) errors of the model and of the expert, 0 or 1."""
        answers = np.column_stack([self.model.argmax(axis=1), self.expert.argmax(axis=1)])
        return costs_from_predictions(answers, self.labels)

    def at(self, rows: ArrayLike) -> Sample:
        """The same for some of the rows."""
        return Sample(*(part[rows] for part in self))


def features(penultimate: ArrayLike, probabilities: ArrayLike) -> NDArray:
    """What a scorer sees, (n, width + L + 3): penultimate layer, softmax, then 1 − max_y h_y, the entropy (nats) and
    1 − top-two margin. The last three are functions of the softmax; they put the confidence rule within a linear
    scorer's reach.

    Raises:
        ValueError: shapes that do not match, or rows that are no probabilities over at least 2 classes (named).
    """
    penultimate, p = check_matrix("penultimate", penultimate), check_matrix("probabilities", probabilities)
    check_same_rows(penultimate=penultimate, probabilities=p)
    bad = (p < 0).any(axis=1) | (np.abs(p.sum(axis=1) - 1) > 1e-4)
    if p.shape[1] < 2 or bad.any():
        row = int(bad.argmax())
        raise ValueError(f"probabilities must be ≥ 0 and sum to 1 over at least 2 classes; row {row} is {p[row]}")
    top = np.sort(p, axis=1)[:, -2:]
    entropy = -xlogy(p, p).sum(axis=1)
    return np.column_stack([penultimate, p, 1 - top[:, 1], entropy, 1 - (top[:, 1] - top[:, 0])])


def sample(base: Mapping[str, NDArray], expert: Mapping[str, NDArray], labels: ArrayLike) -> Sample:
    """A `Sample` from `logits` and `features` of the base model and the `logits` of the expert, on the same rows."""
    model = softmax(np.asarray(base["logits"], dtype=np.float64), axis=1)
    other = softmax(np.asarray(expert["logits"], dtype=np.float64), axis=1)
    labels = np.asarray(labels)
    check_same_rows(model=model, expert=other, labels=labels)
    X = features(np.asarray(base["features"], dtype=np.float64), model)
    return Sample(X, model, other, labels)


# ---------------------------------------------------------------- scores without training


def random(train: Sample) -> Score:
    """The same score everywhere: the curve shares ties out evenly, so this is random deferral in expectation."""
    return lambda X: np.zeros(len(X))


def confidence(train: Sample) -> Score:
    """1 − max_y h_y(x).  [prior: Chow 1970, with the model's own probabilities]"""
    return lambda X: np.asarray(X)[:, -3].astype(np.float64)


def entropy(train: Sample) -> Score:
    """−Σ_y h_y log h_y, nats.  [prior]"""
    return lambda X: np.asarray(X)[:, -2].astype(np.float64)


def margin(train: Sample) -> Score:
    """1 − (largest − second largest probability).  [prior]"""
    return lambda X: np.asarray(X)[:, -1].astype(np.float64)


def oracle(rows: Sample) -> Score:
    """c_h − c_m of these very rows: sees the labels. The bound, good for `rows.X` only."""
    gain = rows.costs @ np.array([1.0, -1.0])
    return lambda X: gain


# ---------------------------------------------------------------- learned scores


def _regression(X: NDArray, target: NDArray, l2: float) -> Score:
    # scikit-learn's ridge penalises the sum of squares, the routers here the mean: hence the factor n
    return make_pipeline(StandardScaler(), Ridge(alpha=l2 * len(X))).fit(X, target).predict


def _classifier(X: NDArray, target: NDArray, l2: float, weight: NDArray | None = None):
    total = len(X) if weight is None else weight.sum()
    scaled = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (l2 * total), max_iter=1000, tol=TOL))
    return scaled.fit(X, target, logisticregression__sample_weight=weight)


def diff_01(train: Sample, l2: float) -> Score:
    """Regress 1[m = y] − 1[h = y].  [prior: Jitkrittum et al. 2023]"""
    return _regression(train.X, train.costs @ np.array([1.0, -1.0]), l2)


def diff_prob(train: Sample, l2: float) -> Score:
    """Regress p_m(y) − p_h(y).  [prior: Jitkrittum et al. 2023]"""
    rows = np.arange(len(train.labels))
    return _regression(train.X, train.expert[rows, train.labels] - train.model[rows, train.labels], l2)


def max_prob(train: Sample, l2: float) -> Score:
    """Regress max_y p_m(y), and take the model's own confidence off: the expert's predicted lead in confidence.
    [prior: Jitkrittum et al. 2023]

    The regression alone would defer what the expert finds easy, which is also what the model finds easy.
    """
    expert = _regression(train.X, train.expert.max(axis=1), l2)
    own = confidence(train)
    return lambda X: expert(X) + own(X)


def plug_in(train: Sample, l2: float) -> Score:
    """P(h wrong | x) − P(m wrong | x), each from a logistic regression.  [prior: what a practitioner does first]

    Raises:
        ValueError: an agent is always right, or always wrong, on the training rows.
    """
    for name, cost in zip(("model", "expert"), train.costs.T, strict=True):
        if cost.min() == cost.max():
            raise ValueError(f"train: the {name} has cost {cost[0]:g} on all rows; nothing to estimate")
    model, expert = (_classifier(train.X, cost, l2) for cost in train.costs.T)
    return lambda X: model.predict_proba(X)[:, 1] - expert.predict_proba(X)[:, 1]


def two_stage(train: Sample, l2: float) -> Score:
    """Score difference of the two-stage router.  [prior: Mao, Mohri, Mohri, Zhong 2023]"""
    router = DeferralRouter("two_stage", l2=l2, tol=TOL).fit(train.X, train.costs)
    return lambda X: router.decision_function(X) @ np.array([-1.0, 1.0])


def mozannar_sontag(train: Sample, l2: float) -> Score:
    """Cross-entropy over the classes and "defer", trained as a head on the fixed features; the defer logit minus the
    largest class logit. [prior: Mozannar & Sontag 2020; after training, only the score is used]
    """
    n, n_classes = train.model.shape
    deferrable = np.flatnonzero(train.costs[:, 1] == 0)
    X = np.concatenate([train.X, train.X[deferrable]])
    target = np.concatenate([train.labels, np.full(len(deferrable), n_classes)])
    head = _classifier(X, target, l2)

    def score(X: NDArray) -> NDArray[np.float64]:
        logits = head.decision_function(X)
        return logits[:, -1] - logits[:, :-1].max(axis=1)

    return score


def dr_cpe(train: Sample, l2: float, temperature: float, **settings: Any) -> Score:
    """DR-CPE with 0–1 costs; settings of `routers.DensityRatioScorer` (ideal, loss, alpha); λ = temperature in errors.
    [paper, form reconstructed]
    """
    # the signal in the gradient shrinks like 1/λ: with a fixed tolerance the fit would end before it has begun
    tol = TOL * min(1.0, 1.0 / temperature)
    scorer = DensityRatioScorer(temperature=temperature, l2=l2, tol=tol, **settings)
    return scorer.fit(train.X, train.costs).decision_function


# ---------------------------------------------------------------- settings, and their choice

#: Scores that nothing is trained for.
UNTRAINED: dict[str, Callable[[Sample], Score]] = {
    "random": random,
    "confidence": confidence,
    "entropy": entropy,
    "margin": margin,
}

#: Trained baselines; each takes a ridge strength.
BASELINES: dict[str, Callable[..., Score]] = {
    "diff_01": diff_01,
    "diff_prob": diff_prob,
    "max_prob": max_prob,
    "plug_in": plug_in,
    "two_stage": two_stage,
    "mozannar_sontag": mozannar_sontag,
}

#: Settings of DR-CPE that are fixed by name.
DENSITY_RATIOS: dict[str, dict[str, Any]] = {
    "dr_cpe_joint": {"ideal": "joint", "loss": "log"},
    "dr_cpe_marginal": {"ideal": "marginal", "loss": "log"},
    "dr_cpe_square": {"ideal": "joint", "loss": "square"},
    "dr_cpe_exponential": {"ideal": "joint", "loss": "exponential"},
}

METHODS = (*UNTRAINED, *BASELINES, *DENSITY_RATIOS)


def settings_of(method: str, temperatures: Sequence[float], ridges: Sequence[float]) -> list[dict[str, Any]]:
    """The settings that a method is tuned over: as many for every trained method.

    DR-CPE: every λ (in errors) with every ridge strength (on standardised features). Baselines: a finer grid of
    ridge strengths, from a third of the smallest to three times the largest.

    Raises:
        ValueError: unknown method.
    """
    if method in UNTRAINED:
        return [{}]
    if method in DENSITY_RATIOS:
        return [{"temperature": t, "l2": l2} for t in temperatures for l2 in ridges]
    if method in BASELINES:
        finer = np.geomspace(min(ridges) / 3, max(ridges) * 3, len(temperatures) * len(ridges))
        return [{"l2": float(l2)} for l2 in finer]
    raise ValueError(f"method must be one of {METHODS}; found {method!r}")


def fit(method: str, train: Sample, **settings: Any) -> Score:
    """One score of a method at one setting of `settings_of`."""
    if method in DENSITY_RATIOS:
        return dr_cpe(train, **DENSITY_RATIOS[method], **settings)
    return {**UNTRAINED, **BASELINES}[method](train, **settings)


class Choice(NamedTuple):
    """The chosen score, its settings, and the validation `area` (mean cost over all rates) of each setting tried."""

    score: Score
    settings: dict[str, Any]
    areas: list[float]


def curve(score: Score, rows: Sample) -> DeferralCurve:
    """Exact deferral curve of the score on these rows."""
    return deferral_curve(score(rows.X), *rows.costs.T)


def choose(
    method: str, train: Sample, validation: Sample, temperatures: Sequence[float], ridges: Sequence[float]
) -> Choice:
    """Fit every setting of a method on `train`; keep the smallest area under the cost curve on `validation`.

    Ties go to the first setting.
    """
    grid = settings_of(method, temperatures, ridges)
    fitted = [fit(method, train, **settings) for settings in grid]
    areas = [curve(score, validation).area for score in fitted]
    best = int(np.argmin(areas))
    return Choice(fitted[best], grid[best], areas)


# ---------------------------------------------------------------- measurements


def measure(score: Score, validation: Sample, test: Sample, rates: Sequence[float]) -> dict[str, float]:
    """Numbers of one score on the test rows.

    Returns:
        area (mean system accuracy over all deferral rates), gap_closed (share of the random–oracle area),
        accuracy/r (system accuracy at exactly that deferral rate), and for thresholds set on `validation` for the same
        rates: got/r (deferral rate on test) and transferred/r (system accuracy there).
    """
    found, values = curve(score, test), score(test.X)
    numbers = {"area": 1 - found.area, "gap_closed": gap_closed(values, *test.costs.T)}
    numbers |= {f"accuracy/{r:g}": float(1 - found.cost_at(r)) for r in rates}
    seen = score(validation.X)
    for rate in rates:
        defer = values >= threshold_for_rate(seen, rate)
        cost = np.where(defer, test.costs[:, 1], test.costs[:, 0])
        numbers |= {f"got/{rate:g}": float(defer.mean()), f"transferred/{rate:g}": float(1 - cost.mean())}
    return numbers


def study(
    methods: Sequence[str],
    train: Sample,
    validation: Sample,
    test: Sample,
    *,
    temperatures: Sequence[float],
    ridges: Sequence[float],
    rates: Sequence[float],
    points: int = 21,
) -> list[dict[str, Any]]:
    """All methods and the oracle on one division of the rows; settings as in `settings_of`.

    Returns:
        Records (split, method, metric, value) for `results.tidy`. On test: the numbers of `measure` (for the oracle
        those without a threshold), curve/r (system accuracy on an even grid of `points` rates), and the accuracy of
        the two agents (method "best_single": the better one on validation). On validation: area, and chosen settings.
    """
    grid = np.linspace(0, 1, points)
    records = []

    def add(method: str, numbers: Mapping[str, float], split: str = "test") -> None:
        records.extend({"split": split, "method": method, "metric": k, "value": float(v)} for k, v in numbers.items())

    def add_curve(method: str, score: Score) -> None:
        values = 1 - curve(score, test).cost_at(grid)
        add(method, {f"curve/{r:.4g}": v for r, v in zip(grid, values, strict=True)})

    for method in methods:
        choice = choose(method, train, validation, temperatures, ridges)
        add(method, measure(choice.score, validation, test, rates))
        add_curve(method, choice.score)
        add(method, {"area": 1 - min(choice.areas)}, "validation")
        add(method, {f"chosen/{k}": v for k, v in choice.settings.items()}, "validation")
    bound = measure(oracle(test), test, test, rates)
    add("oracle", {k: v for k, v in bound.items() if not k.startswith(("got", "transferred"))})
    add_curve("oracle", oracle(test))
    accuracy = 1 - test.costs.mean(axis=0)
    best = int(validation.costs.mean(axis=0).argmin())
    add("best_single", {"accuracy": accuracy[best], "accuracy/model": accuracy[0], "accuracy/expert": accuracy[1]})
    return records


def each_setting(
    methods: Sequence[str],
    train: Sample,
    validation: Sample,
    test: Sample,
    *,
    temperatures: Sequence[float],
    ridges: Sequence[float],
) -> list[dict[str, Any]]:
    """What every single setting of the methods gives, chosen or not: to look into a choice, not to make it on test.

    Returns:
        Records (study = "λ=…, ridge=…", split, method, metric, value): area on validation, as `study` has it for the
        chosen setting, and gap_closed on test.
    """
    records = []
    for method in methods:
        for settings in settings_of(method, temperatures, ridges):
            score = fit(method, train, **settings)
            names = {"temperature": "λ", "l2": "ridge"}
            about = {"study": ", ".join(f"{names[k]}={v:g}" for k, v in settings.items()), "method": method}
            area, closed = 1 - curve(score, validation).area, gap_closed(score(test.X), *test.costs.T)
            records.append({**about, "split": "validation", "metric": "area", "value": area})
            records.append({**about, "split": "test", "metric": "gap_closed", "value": closed})
    return records


# ---------------------------------------------------------------- tables from tidy rows


def _test_rows(frame: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Test rows of the metrics prefix/number, with the number as the column `rate`."""
    rows = frame[(frame["split"] == "test") & frame["metric"].str.startswith(prefix + "/")]
    if rows.empty:
        raise ValueError(f"frame has no test rows of {prefix}/…")
    return rows.assign(rate=rows["metric"].str.removeprefix(prefix + "/").astype(float))


def curve_table(frame: pd.DataFrame, metric: str = "curve") -> pd.DataFrame:
    """Deferral curves with their 95 % bands over seeds: setting, method, x (rate), y (accuracy), low, high.

    frame: TIDY rows of `study`, one setting per value of `setting`.
    """
    found = []
    for (setting, method, rate), rows in _test_rows(frame, metric).groupby(["setting", "method", "rate"], sort=False):
        mean, low, high = interval(rows["value"])
        found.append({"setting": setting, "method": method, "x": rate, "y": mean, "low": low, "high": high})
    return pd.DataFrame(found)


def transfer_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Rate asked on validation against rate got on test: setting, method, seed, asked, got, off (got − asked)."""
    rows = _test_rows(frame, "got")
    table = rows.rename(columns={"rate": "asked", "value": "got"})[["setting", "method", "seed", "asked", "got"]]
    return table.assign(off=table["got"] - table["asked"]).reset_index(drop=True)


def chosen_member(frame: pd.DataFrame, members: Sequence[str], name: str) -> pd.DataFrame:
    """`frame` and once more, under the method `name`, the rows of the member with the largest validation area.

    Chosen anew in every setting and for every seed; the first member wins ties.
    """
    held = frame[(frame["split"] == "validation") & (frame["metric"] == "area")]
    areas = held.pivot(index=["setting", "seed"], columns="method", values="value")[list(members)]
    best = areas.idxmax(axis=1).rename("best").reset_index()
    rows = frame.merge(best, on=["setting", "seed"])
    rows = rows[rows["method"] == rows["best"]].drop(columns="best")
    return pd.concat([frame, rows.assign(method=name)], ignore_index=True)


def against_best(frame: pd.DataFrame, methods: Sequence[str], rivals: Sequence[str]) -> pd.DataFrame:
    """Paired difference of the share of the gap closed, method minus best rival, in every setting.

    The best rival is the one with the largest mean on test: the hardest comparison, in the rivals' favour.
    Columns setting, method, rival, mean, low, high.
    """
    rows = frame[(frame["metric"] == "gap_closed") & (frame["split"] == "test")]
    found = []
    for setting, part in rows.groupby("setting", sort=False):
        table = part.pivot(index="seed", columns="method", values="value")
        rival = str(table[list(rivals)].mean().idxmax())
        for method in methods:
            difference = paired(table[method], table[rival])
            found.append({"setting": setting, "method": method, "rival": rival, **difference._asdict()})
    return pd.DataFrame(found)


def ranks(frame: pd.DataFrame, methods: Sequence[str], metric: str = "gap_closed") -> pd.DataFrame:
    """Rank of each method in every setting by its mean over seeds (1 is best, ties share the mean rank).

    frame: TIDY rows. Returns columns method, one per setting, mean, worst; best worst rank first.
    """
    rows = frame[(frame["metric"] == metric) & (frame["split"] == "test") & frame["method"].isin(methods)]
    means = rows.groupby(["method", "setting"], sort=False)["value"].mean().unstack("setting")
    if means.empty or means.isna().any(axis=None):
        raise ValueError(f"frame must hold {metric!r} of every method in every setting")
    table = means.rank(ascending=False)
    table = table.assign(mean=table.mean(axis=1), worst=table.max(axis=1))
    return table.sort_values(["worst", "mean"]).rename_axis(columns=None).reset_index()


def member_ranks(
    frame: pd.DataFrame, others: Sequence[str], members: Sequence[str], metric: str = "gap_closed"
) -> pd.DataFrame:
    """`ranks` with one member of a family in the race at a time, so that relatives do not push anyone down.

    The ranks of `others` are those with the first member in the race.
    """
    races = [ranks(frame, [*others, member], metric).set_index("method") for member in members]
    table = pd.concat([races[0].loc[list(others)], *(r.loc[[m]] for r, m in zip(races, members, strict=True))])
    return table.sort_values(["worst", "mean"]).reset_index()
