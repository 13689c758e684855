"""Fitted routers to and from files: one .npz of plain arrays and a JSON header, no pickle."""

import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from l2d_utils.results import write_atomically
from l2d_utils.routers import DeferralRouter, DensityRatioScorer, PlugInRouter, Scorer

FORMAT = "l2d-router-1"
Router = DeferralRouter | DensityRatioScorer | PlugInRouter
_CLASSES = {kind.__name__: kind for kind in (DeferralRouter, DensityRatioScorer, PlugInRouter)}
_FITTED = ("offsets_", "log_normalisers_", "threshold_", "n_features_in_", "n_agents_", "n_iter_", "converged_")


def save(router: Router, path: str | Path) -> None:
    """Write a fitted router to one file, renamed into place.

    Of a plug-in router the fitted regression is kept: it loads with `regressor` set to LinearRegression (ridge and
    constant regressions) or KNeighborsRegressor. Of a loss of one's own the name is kept: the loaded router predicts.

    Raises:
        ValueError: a plug-in router with a regressor of another kind; parameters of the loss that are no plain data.
    """
    check_is_fitted(router, "n_features_in_")
    if isinstance(router, PlugInRouter):
        arrays, params = _regression(router), {"l2": router.l2}
    else:
        arrays = {f"scorer.{name}": value.numpy() for name, value in router.scorer_.state_dict().items()}
        params = router.get_params()
        if callable(params["loss"]):  # a dot is in no preset's name, so that no preset is taken for it
            kind = params["loss"] if hasattr(params["loss"], "__qualname__") else type(params["loss"])
            params["loss"] = f"{kind.__module__}.{kind.__qualname__}"
    arrays |= {name: np.asarray(getattr(router, name)) for name in _FITTED if hasattr(router, name)}
    header = {"format": FORMAT, "class": type(router).__name__, "params": params}
    try:
        text = json.dumps(header, default=lambda value: np.asarray(value, dtype=np.float64).tolist())
    except (TypeError, ValueError) as error:
        raise ValueError(f"only parameters that are numbers, names or arrays can be saved; found {params}") from error

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # a file, since numpy would append .npz to a name
            np.savez(file, **arrays, header=np.asarray(text))

    write_atomically(path, write)


def _regression(router: PlugInRouter) -> dict[str, NDArray]:
    """A fitted regression as arrays: its neighbours, or the coefficients of the linear map that it is."""
    regressor = router.regressor_
    if isinstance(regressor, KNeighborsRegressor):
        if regressor.weights != "uniform" or regressor.effective_metric_ != "euclidean":
            raise ValueError("only a KNeighborsRegressor with uniform weights and Euclidean distance can be saved")
        names = ("neighbours.X", "neighbours.costs", "neighbours.n_neighbors")
        return dict(zip(names, (*router.rows_, np.asarray(regressor.n_neighbors)), strict=True))
    *scalers, last = regressor.named_steps.values() if isinstance(regressor, Pipeline) else [regressor]
    linear = isinstance(last, (Ridge, LinearRegression, DummyRegressor))
    if not linear or not all(isinstance(step, StandardScaler) for step in scalers):
        raise ValueError(f"only linear, constant and nearest-neighbour regressors can be saved; found {regressor}")
    shape = router.n_agents_, router.n_features_in_
    constant = isinstance(last, DummyRegressor)
    coef, intercept = (np.zeros(shape), last.constant_[0]) if constant else (last.coef_, last.intercept_)
    for scaler in reversed(scalers):  # coef @ (x − mean)/scale + intercept
        coef = coef if scaler.scale_ is None else coef / scaler.scale_
        intercept = intercept - coef @ scaler.mean_ if scaler.with_mean else intercept
    return {"linear.coef": coef, "linear.intercept": np.broadcast_to(intercept, shape[0])}


def load(path: str | Path) -> Router:
    """Read a router that `save` wrote. Raises ValueError if it is no such file or a damaged one."""
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no router file, or damaged: {error}") from error
    header = json.loads(str(arrays["header"])) if "header" in arrays else {}
    if header.get("format") != FORMAT or header.get("class") not in _CLASSES:
        raise ValueError(f"{path} is no router of format {FORMAT}; its header is {header or 'missing'}")
    router = _CLASSES[header["class"]](**header["params"])
    if isinstance(router, PlugInRouter):
        router.regressor_, router.rows_ = _regressor(arrays)
        router.regressor = clone(router.regressor_)
    else:
        router.hidden = tuple(router.hidden)
        state = {n.removeprefix("scorer."): torch.from_numpy(a) for n, a in arrays.items() if n.startswith("scorer.")}
        n_outputs = len(state[f"layers.{len(router.hidden)}.bias"])
        router.scorer_ = Scorer(state["mean"], state["scale"], router.hidden, n_outputs, router.random_state)
        router.scorer_.load_state_dict(state)
    for name in (n for n in _FITTED if n in arrays):
        setattr(router, name, arrays[name] if arrays[name].ndim else arrays[name].item())
    return router


def _regressor(arrays: dict[str, NDArray]) -> tuple[KNeighborsRegressor | LinearRegression, tuple | None]:
    if "neighbours.X" in arrays:
        rows = arrays["neighbours.X"], arrays["neighbours.costs"]
        return KNeighborsRegressor(int(arrays["neighbours.n_neighbors"])).fit(*rows), rows
    linear = LinearRegression()
    linear.coef_, linear.intercept_ = arrays["linear.coef"], arrays["linear.intercept"]
    linear.n_features_in_ = linear.coef_.shape[1]
    return linear, None
