"""Scores for a fixed model and a fixed expert: from a sample, a function X (n, d) → (n,); larger defers sooner.

A score sees the base model's features as deployed (`features`) and nothing of the expert's; the expert's answers enter
only through the training targets. Trained scores share features and ridge, and most are linear in them: the plug-in is
a difference of two sigmoids, Max-Prob adds the model's own confidence, Mozannar–Sontag takes a maximum.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax, xlogy
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from l2d_utils.costs import costs_from_predictions
from l2d_utils.routers import DeferralRouter, DensityRatioScorer
from l2d_utils.validate import check_matrix, check_same_rows

Score = Callable[[NDArray], NDArray[np.float64]]

#: Gradient tolerance of the fits: a smaller one changes the areas by less than the seeds do.
TOL = 1e-4


class Sample(NamedTuple):
    """Rows for a post-hoc scorer: X (n, d) from `features`, all that may be used at test time; class probabilities
    (n, L) of model and expert; labels (n,)."""

    X: NDArray
    model: NDArray
    expert: NDArray
    labels: NDArray[np.int64]

    @property
    def costs(self) -> NDArray[np.float64]:
        """(n, 2) errors of the model and of the expert, 0 or 1."""
        answers = np.column_stack([self.model.argmax(axis=1), self.expert.argmax(axis=1)])
        return costs_from_predictions(answers, self.labels)

    def at(self, rows: ArrayLike) -> "Sample":
        """The same for some of the rows."""
        return Sample(*(part[rows] for part in self))


def features(penultimate: ArrayLike, probabilities: ArrayLike) -> NDArray:
    """What a scorer sees, (n, width + L + 3): penultimate layer, softmax, then 1 − max_y h_y, the entropy (nats) and
    1 − top-two margin. These three are functions of the softmax; they put the confidence rule within a linear scorer's
    reach. ValueError: shapes that do not match, or rows that are no probabilities over at least 2 classes (named).
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
    model, other = (softmax(np.asarray(found["logits"], dtype=np.float64), axis=1) for found in (base, expert))
    labels = np.asarray(labels)
    check_same_rows(model=model, expert=other, labels=labels)
    return Sample(features(np.asarray(base["features"], dtype=np.float64), model), model, other, labels)


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


def _regression(X: NDArray, target: NDArray, l2: float) -> Score:
    # scikit-learn's ridge penalises the sum of squares, the routers here the mean: hence the factor n
    return make_pipeline(StandardScaler(), Ridge(alpha=l2 * len(X))).fit(X, target).predict


def _classifier(X: NDArray, target: NDArray, l2: float):
    logistic = LogisticRegression(C=1 / (l2 * len(X)), max_iter=1000, tol=TOL)
    return make_pipeline(StandardScaler(), logistic).fit(X, target)


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
    expert, own = _regression(train.X, train.expert.max(axis=1), l2), confidence(train)
    return lambda X: expert(X) + own(X)


def plug_in(train: Sample, l2: float) -> Score:
    """P(h wrong | x) − P(m wrong | x), each from a logistic regression.  [prior: what a practitioner does first]
    ValueError: an agent is always right, or always wrong, on the training rows."""
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
