"""Routers as scikit-learn estimators: `fit(X, costs)`, `decision_function(X)`, `predict(X)`, `score(X, costs)`.

`DeferralRouter` takes any preset of `losses.PRESETS`, or a loss of one's own, for K agents, `DensityRatioScorer` is
DR-CPE for one model and one expert, `PlugInRouter` is the simple control. The first two share one scorer (linear, or a
small network) and one solver (L-BFGS on the whole training set), so that losses are compared and not optimisers.
Fitted routers go to files and back by `saving`.
"""

import copy
import functools
import inspect
import itertools
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from l2d_utils.ideals import PROPER_LOSSES, alpha_density, cpe_loss, kl_log_density
from l2d_utils.losses import PRESETS, Objective, to_tensor_type
from l2d_utils.metrics import deferral_loss
from l2d_utils.rules import log_ratio_threshold
from l2d_utils.validate import check_matrix, check_per_agent, check_positive, check_same_rows, check_with_costs


class Scorer(torch.nn.Module):
    """x ↦ scores: standardise the features, then a linear map or a small SiLU network.

    The standardisation is folded into the first layer, so the (n, d) matrix is never copied. Constant features
    get scale 1.
    """

    def __init__(self, mean: Tensor, scale: Tensor, hidden: tuple[int, ...], n_outputs: int, random_state: int):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        widths = (len(mean), *hidden, n_outputs)
        # without Linear's own start, which would move the global generator
        linear = functools.partial(torch.nn.utils.skip_init, torch.nn.Linear, dtype=mean.dtype)
        self.layers = torch.nn.ModuleList(linear(a, b) for a, b in itertools.pairwise(widths))
        generator = torch.Generator().manual_seed(random_state)
        for layer in self.layers:
            torch.nn.init.zeros_(layer.bias)
            torch.nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        # Scores start equal: a convex problem then has one reproducible start, and no agent is favoured.
        torch.nn.init.zeros_(self.layers[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layers[0].weight / self.scale
        h = torch.nn.functional.linear(x, weight, self.layers[0].bias - weight @ self.mean)
        for layer in self.layers[1:]:
            h = layer(torch.nn.functional.silu(h))
        return h


#: Scores (n, K) → mean loss and its gradient (n, K).
ValueAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]


def _minimise(
    scorer: Scorer, x: Tensor, loss: ValueAndGradient, unit: float, l2: float, max_iter: int, tol: float
) -> tuple[int, bool]:
    """L-BFGS on loss/unit + l2·½‖weights‖², biases free; returns the number of iterations and whether it converged."""
    parameters = list(scorer.parameters())
    is_weight = np.concatenate([np.full(p.numel(), p.ndim == 2) for p in parameters])

    def value_and_gradient(vector: NDArray) -> tuple[float, NDArray]:
        vector_to_parameters(torch.from_numpy(vector).to(x), parameters)
        scores = scorer(x)
        value, pull = loss(scores.detach())
        gradient = parameters_to_vector(torch.autograd.grad(scores, parameters, pull)).cpu().numpy().astype(np.float64)
        weights = np.where(is_weight, vector, 0.0)
        return float(value) / unit + 0.5 * l2 * float(weights @ weights), gradient / unit + l2 * weights

    start = parameters_to_vector(parameters).detach().cpu().numpy().astype(np.float64)
    # float32 scores carry about 1e-7 of rounding: asking for much more would only make the line search fail.
    ftol, tol = (1e-12, tol) if x.dtype == torch.float64 else (1e-8, max(tol, 1e-4))
    options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": ftol, "gtol": tol, "maxcor": 20}
    result = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    if not np.isfinite(result.fun):
        raise FloatingPointError("the training loss is not finite; check the scale of the features and the margins")
    vector_to_parameters(torch.from_numpy(result.x).to(x), parameters)
    return int(result.nit), result.status == 0


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature (1 for a constant one), by blocks that fit a cache."""
    mean = sum(block.sum(dim=0).double() for block in x.split(4096)) / len(x)
    centre = mean.to(x)
    scale = (sum((block - centre).square_().sum(dim=0).double() for block in x.split(4096)) / len(x)).sqrt()
    # a constant feature may show rounding noise in place of 0
    scale[scale <= 10 * torch.finfo(x.dtype).eps * mean.abs()] = 1.0
    return centre, scale.to(x)


class _Routes(BaseEstimator):
    """What every router here has: `predict` and `score` from its `decision_function`."""

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Agent index per row, (n,)."""
        return self.decision_function(X).argmax(axis=1)

    def score(self, X: ArrayLike, costs: ArrayLike) -> float:
        """−deferral loss: larger is better, as grid search expects."""
        return -deferral_loss(costs, self.predict(X))


class _WithOffsets(_Routes):
    """A router with `offsets_` (K,), which its `decision_function` adds to its scores."""

    def with_offsets(self, offsets: ArrayLike) -> "_WithOffsets":
        """A fitted copy whose scores have `offsets` (K,) added: a new operating point without retraining."""
        check_is_fitted(self, "offsets_")
        moved = copy.copy(self)
        moved.offsets_ = self.offsets_ + check_per_agent("offsets", offsets, self.n_agents_)
        return moved


class _ScorerEstimator(_Routes):
    """What the two trained estimators share: their common parameters, fitting a `Scorer` and applying it."""

    def __init__(self, l2, hidden, max_iter, tol, random_state, warm_start):
        self.l2, self.hidden, self.max_iter, self.tol = l2, hidden, max_iter, tol
        self.random_state, self.warm_start = random_state, warm_start

    def _checked(self, X: ArrayLike, costs: ArrayLike) -> tuple[NDArray, NDArray[np.float64]]:
        X, costs = check_with_costs("X", X, costs)
        check_positive("l2", self.l2, or_zero=True)
        if self.max_iter < 1:
            raise ValueError(f"max_iter must be ≥ 1; found {self.max_iter}")
        return X, costs

    def _fit_scorer(self, x: Tensor, loss: ValueAndGradient, unit: float, n_outputs: int) -> None:
        scorer = Scorer(*_moments(x), tuple(self.hidden), n_outputs, self.random_state)
        if self.warm_start and hasattr(self, "scorer_"):
            try:
                scorer.layers.load_state_dict(self.scorer_.layers.state_dict())
            except RuntimeError as error:
                raise ValueError(f"warm_start needs the shapes of the fit before: {error}") from None
        self.n_iter_, self.converged_ = _minimise(scorer, x, loss, unit, self.l2, self.max_iter, self.tol)
        self.scorer_, self.n_features_in_ = scorer, x.shape[1]
        if not self.converged_ and not self.hidden:
            short = f"after {self.n_iter_} iterations (max_iter={self.max_iter}) short of tol={self.tol}"
            warnings.warn(f"L-BFGS stopped {short}", ConvergenceWarning, stacklevel=3)

    def _raw_scores(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self, "scorer_")
        X = check_matrix("X", X, columns=self.n_features_in_)
        with torch.no_grad():
            return self.scorer_(_tensor(X).to(self.scorer_.mean)).numpy().astype(np.float64)


class DeferralRouter(_ScorerEstimator, _WithOffsets):
    """Routes each input to one of K agents; trained with a named loss of `losses.PRESETS`, or with one's own.

    Args:
        loss: preset name, for example "two_stage", "mild", "dr_cpe_joint"; or a function costs (n, K) → objective,
            made by `losses.pair_loss` or any torch function scores (n, K) → mean loss.
        loss_params: keyword arguments of the preset or function, for example {"gamma": 0.3}.
        l2: ridge strength on standardised features; the loss is divided by its mean row weight, so that one value
            means the same under every preset.
        hidden: widths of hidden layers; () is a linear router.
        max_iter, tol: L-BFGS iterations and gradient tolerance.
        random_state: seed of the hidden layers' start and of the cross-fitting folds.
        warm_start: start at the weights of the fit before (scikit-learn's meaning), for paths over settings.

    Attributes (after fit):
        offsets_: (K,) added to the scores before the argmax; starts at the preset's decision offset.
        scorer_, n_features_in_, n_agents_, n_iter_, converged_.

    Example:
        >>> X = np.array([[-1.0], [-0.5], [0.5], [1.0]])
        >>> costs = np.array([[0, 1], [0, 1], [1, 0], [1, 0]])  # 2 agents, each right on one side
        >>> router = DeferralRouter("mild", {"gamma": 0.3}).fit(X, costs)
        >>> router.decision_function(X).shape, router.predict([[-2.0], [2.0]])
        ((4, 2), array([0, 1]))
    """

    def __init__(
        self, loss="two_stage", loss_params=None, l2=1e-3, hidden=(), max_iter=1000, tol=1e-6, random_state=0,
        warm_start=False,
    ):  # fmt: skip
        super().__init__(l2, hidden, max_iter, tol, random_state, warm_start)
        self.loss, self.loss_params = loss, loss_params

    def fit(self, X: ArrayLike, costs: ArrayLike) -> "DeferralRouter":
        """Train on features (n, d) and costs (n, K). float32 features train in float32, all else in float64.

        Raises:
            ValueError: bad X, costs or parameter (named), unknown loss, rows that differ.
        """
        X, costs = self._checked(X, costs)
        preset = PRESETS.get(self.loss) if isinstance(self.loss, str) else None
        if not preset and not callable(self.loss):
            raise ValueError(f"loss must be one of {sorted(PRESETS)}, or a function of costs; found {self.loss!r}")
        build, params = preset.build if preset else self.loss, dict(self.loss_params or {})
        try:
            inspect.signature(build).bind(costs, **params)
        except TypeError as error:
            raise ValueError(f"loss_params of {self.loss!r}: {error}") from None
        expected = preset and preset.expected_costs
        table = cross_fitted_costs(X, costs, self.l2, self.random_state) if expected else costs
        x = _tensor(X)
        loss, row_weight, offsets = _bound(build(table, **params), costs.shape, x)
        self._fit_scorer(x, loss, row_weight, costs.shape[1])
        self.n_agents_, self.offsets_ = costs.shape[1], offsets
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores plus offsets, (n, K)."""
        return self._raw_scores(X) + self.offsets_


def _bound(
    objective: Objective | Callable[[Tensor], Tensor], shape: tuple[int, int], like: Tensor
) -> tuple[ValueAndGradient, float, NDArray[np.float64]]:
    """What the solver needs of an objective: value and gradient, the mean row weight, the decision offset (K,)."""
    if isinstance(objective, Objective):
        if objective.weights.shape != shape or not objective.weights.any():
            raise ValueError(f"loss: its weights must have shape {shape}, as the costs, and not be all 0")
        objective = to_tensor_type(objective, like)
        row_weight = float(objective.weights.sum() / shape[0])
        return objective.value_and_gradient, row_weight, objective.decision_offset.numpy().astype(np.float64)
    if not callable(objective):
        raise ValueError(f"loss must return an objective, as losses.pair_loss does; found {type(objective).__name__}")
    return _by_autograd(objective), 1.0, np.zeros(shape[1])


def _by_autograd(loss: Callable[[Tensor], Tensor]) -> ValueAndGradient:
    def value_and_gradient(scores: Tensor) -> tuple[Tensor, Tensor]:
        value = loss(scores.requires_grad_())
        if not (isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad):
            raise ValueError("loss must return a scalar tensor that depends on the scores (n, K)")
        return value.detach(), torch.autograd.grad(value, scores)[0]

    return value_and_gradient


class DensityRatioScorer(_ScorerEstimator):
    """DR-CPE for one model and one expert: learns s(x) whose link is log Q_m(x)/Q_h(x).  [paper, form reconstructed]

    Args:
        loss: "log", "square" or "exponential" (`ideals.PROPER_LOSSES`).
        temperature: λ > 0, in the unit of the costs.
        ideal: "joint" weighs rows by their observed costs, "marginal" by cross-fitted estimates of E[c|x].
        alpha: order of the divergence of the ideals; 1 is KL.
        l2, hidden, max_iter, tol, random_state, warm_start: as in `DeferralRouter`.

    Attributes (after fit):
        log_normalisers_: (2,) log Z of model and expert (KL ideals only, else zeros).
        threshold_: log τ used by `predict`: Chow's rule at price 0 for KL ideals, 0 (equal densities) otherwise.

    Example:
        >>> X = np.array([[-1.0], [-0.5], [0.5], [1.0]])
        >>> scorer = DensityRatioScorer().fit(X, [[0, 1], [0, 1], [1, 0], [1, 0]])  # the expert is right where x > 0
        >>> scorer.log_ratio(X).shape, scorer.predict([[-2.0], [2.0]])
        ((4,), array([0, 1]))
    """

    def __init__(
        self, loss="log", temperature=1.0, ideal="joint", alpha=1.0, l2=1e-3, hidden=(), max_iter=1000, tol=1e-6,
        random_state=0, warm_start=False,
    ):  # fmt: skip
        super().__init__(l2, hidden, max_iter, tol, random_state, warm_start)
        self.loss, self.temperature, self.ideal, self.alpha = loss, temperature, ideal, alpha

    def fit(self, X: ArrayLike, costs: ArrayLike) -> "DensityRatioScorer":
        """Train on features (n, d) and costs (n, 2): column 0 the model h, column 1 the expert m."""
        X, costs = self._checked(X, costs)
        if costs.shape[1] != 2:
            raise ValueError(f"costs must have 2 columns, model and expert; found {costs.shape[1]}")
        if self.loss not in PROPER_LOSSES:
            raise ValueError(f"loss must be one of {sorted(PROPER_LOSSES)}; found {self.loss!r}")
        if self.ideal not in ("joint", "marginal"):
            raise ValueError(f"ideal must be 'joint' or 'marginal'; found {self.ideal!r}")
        check_positive("temperature", self.temperature)
        table = costs if self.ideal == "joint" else cross_fitted_costs(X, costs, self.l2, self.random_state)
        densities = np.stack([alpha_density(c, self.temperature, self.alpha) for c in table.T])
        kl = self.alpha == 1.0
        self.log_normalisers_ = kl_log_density(table, self.temperature)[1] if kl else np.zeros(2)
        self.threshold_ = self.threshold_for_price(0.0) if kl else 0.0
        x = _tensor(X)
        model, expert = torch.from_numpy(densities).to(x)
        loss = _by_autograd(lambda scores: cpe_loss(scores[:, 0], expert, model, self.loss))
        self._fit_scorer(x, loss, 1.0, 1)
        return self

    def threshold_for_price(self, price: float) -> float:
        """log τ at which deferring iff log ratio ≥ log τ is Chow's rule at `price` (KL ideals)."""
        if self.alpha != 1.0:
            raise ValueError(f"only KL ideals (alpha=1) turn a price into a threshold; alpha is {self.alpha}")
        return log_ratio_threshold(price, self.temperature, *self.log_normalisers_)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Learned score s(x), (n,), increasing in the ratio; larger defers sooner."""
        return self._raw_scores(X)[:, 0]

    def log_ratio(self, X: ArrayLike) -> NDArray[np.float64]:
        """Estimate of log Q_m(x)/Q_h(x) through the loss's link, (n,), nats."""
        return PROPER_LOSSES[self.loss].log_ratio(torch.from_numpy(self.decision_function(X))).numpy()

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """1 where the input goes to the expert, else 0."""
        return (self.log_ratio(X) >= self.threshold_).astype(np.int64)


class PlugInRouter(_WithOffsets):
    """Estimate E[c_k|x] for every agent by regression and route to the smallest: what a practitioner does first.

    Args:
        l2: strength of the default ridge regression, on the scale of `DeferralRouter.l2`.
        regressor: any multi-output scikit-learn regressor instead, for example KNeighborsRegressor.

    Attributes (after fit):
        regressor_, n_features_in_, n_agents_; offsets_: (K,) added to the scores before the argmax, first 0.
        rows_: features and costs that nearest neighbours were fitted on, else None.

    Example:
        >>> router = PlugInRouter().fit([[-1.0], [-0.5], [0.5], [1.0]], [[0, 1], [0, 1], [1, 0], [1, 0]])
        >>> router.predict([[-2.0], [2.0]])
        array([0, 1])
    """

    def __init__(self, l2=1e-3, regressor=None):
        self.l2, self.regressor = l2, regressor

    def fit(self, X: ArrayLike, costs: ArrayLike) -> "PlugInRouter":
        """Fit on features (n, d) and costs (n, K)."""
        X, costs = check_with_costs("X", X, costs)
        model = self.regressor if self.regressor is not None else _ridge(self.l2, len(X))
        self.regressor_ = clone(model).fit(X, costs)
        self.rows_ = (X, costs) if isinstance(model, KNeighborsRegressor) else None
        self.n_features_in_, self.n_agents_ = X.shape[1], costs.shape[1]
        self.offsets_ = np.zeros(self.n_agents_)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """−E[c_k|x] as estimated, plus offsets, (n, K)."""
        check_is_fitted(self, "regressor_")
        return self.offsets_ - self.regressor_.predict(check_matrix("X", X, columns=self.n_features_in_))


class LabelRouter(_Routes):
    """Guess the label, then ask whom to ask: expected costs under a logistic regression's P(label | x).  [ours]

    The regression is trained on labels, not on the agents' answers, and the agents' expected costs given the label are
    taken as known. No luck of an agent can mislead it: what remains is doubt about the label. The ridge strength l2 is
    on the scale of `DeferralRouter.l2`.
    """

    def __init__(self, l2=1e-3):
        self.l2 = l2

    def fit(self, X: ArrayLike, costs: ArrayLike, *, labels: ArrayLike, expected: ArrayLike) -> "LabelRouter":
        """Fit on features (n, d) and labels (n,); expected (n, K): costs given the label. The costs are not used."""
        X, expected = check_with_costs("X", X, expected, "expected")
        labels = np.asarray(labels)
        check_same_rows(X=X, labels=labels)
        regression = LogisticRegression(C=1 / (self.l2 * len(X)), tol=1e-3, max_iter=500)
        self.classifier_ = make_pipeline(StandardScaler(), regression).fit(X, labels)
        self.by_label_ = np.stack([expected[labels == label][0] for label in self.classifier_.classes_])
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """−Σ_y P(y|x)·E[c_k|y], (n, K)."""
        check_is_fitted(self, "classifier_")
        return -(self.classifier_.predict_proba(check_matrix("X", X)) @ self.by_label_)


def _ridge(l2: float, n: int):
    # scikit-learn's ridge penalises the sum of squares, the routers here the mean: hence the factor n
    return make_pipeline(StandardScaler(), Ridge(alpha=l2 * n))


def cross_fitted_costs(X: NDArray, costs: NDArray, l2: float, random_state: int, folds: int = 5) -> NDArray[np.float64]:
    """Estimates of E[c_k|x], (n, K), in the range of the costs: ridge regressions on other rows.  [reconstructed]"""
    split = KFold(min(folds, len(X)), shuffle=True, random_state=random_state)
    estimate = cross_val_predict(_ridge(l2, len(X) * (folds - 1) // folds), X, costs, cv=split)
    return np.clip(estimate, costs.min(), costs.max())


def _tensor(X: NDArray) -> Tensor:
    # torch shares numpy's memory, and warns where that is read-only (a data frame's, a memory map's)
    return torch.from_numpy(np.require(X, requirements=["C", "W"]))
