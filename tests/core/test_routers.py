"""The estimators: scikit-learn's manners, exact round trips, named errors, and the optimum that they claim to find."""

import inspect
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from l2d_utils import losses, metrics, rules, saving, validate
from l2d_utils.ideals import PROPER_LOSSES
from l2d_utils.losses import PRESETS, pair_loss, two_stage
from l2d_utils.metrics import deferral_loss
from l2d_utils.routers import DeferralRouter, DensityRatioScorer, PlugInRouter

#: Score differences between neighbouring agents: what the argmax sees.
DIFFERENCES = np.array([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]])
PARAMS = {"mild_free": {"margins": [0.8, 1.0, 1.3]}}


def example(n=200, d=4, n_agents=3, seed=0):
    """Features and 0-1 costs whose error rates depend on the features."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.5, 5.0, d) + rng.normal(size=d)
    logits = (X - X.mean(axis=0)) / X.std(axis=0) @ rng.normal(size=(d, n_agents)) * 1.5
    return X, (rng.random((n, n_agents)) > 1 / (1 + np.exp(-logits))).astype(float)


def every_estimator():
    for name in sorted(PRESETS):
        yield pytest.param(DeferralRouter(name, PARAMS.get(name)), 3, id=name)
    yield pytest.param(DeferralRouter("mild", {"gamma": 0.2}, hidden=(6,), max_iter=30), 3, id="hidden")
    for loss in sorted(PROPER_LOSSES):
        yield pytest.param(DensityRatioScorer(loss), 2, id=f"ratio-{loss}")
    yield pytest.param(DensityRatioScorer(ideal="marginal", temperature=0.5), 2, id="ratio-marginal")
    yield pytest.param(DensityRatioScorer(alpha=3.0, hidden=(4,), max_iter=30), 2, id="ratio-alpha")
    yield pytest.param(PlugInRouter(), 3, id="plug-in")
    yield pytest.param(PlugInRouter(regressor=KNeighborsRegressor(15)), 3, id="plug-in-neighbours")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("estimator, n_agents", list(every_estimator()))
def test_estimators_keep_the_manners(estimator, n_agents):
    X, costs = example(n_agents=n_agents)
    assert set(estimator.get_params(deep=False)) == set(inspect.signature(type(estimator)).parameters)
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    X.flags.writeable = costs.flags.writeable = False
    first, second = clone(estimator).fit(X, costs), clone(estimator).fit(X, costs)
    scores = first.decision_function(X)
    np.testing.assert_array_equal(scores, second.decision_function(X))  # deterministic
    assert not hasattr(estimator, "n_features_in_") and first.n_features_in_ == 4
    routes = first.predict(X)
    assert routes.shape == (200,) and set(routes) <= set(range(n_agents))
    if scores.ndim == 2:
        assert scores.shape == (200, n_agents) and (routes == scores.argmax(axis=1)).all()
    assert first.score(X, costs) == -deferral_loss(costs, routes)
    assert first.score(X, costs) > -costs.mean()  # something was learned
    # frames, lists, float32 and reversed memory are all the same data
    np.testing.assert_allclose(clone(estimator).fit(pd.DataFrame(X), pd.DataFrame(costs)).decision_function(X), scores)
    backwards = np.ascontiguousarray(X[:, ::-1])[:, ::-1], np.asfortranarray(costs)
    again = clone(estimator).fit(*backwards)
    np.testing.assert_allclose(again.decision_function(X.tolist()), scores, rtol=1e-6, atol=1e-6)
    for bad, message in ((X[:, :3], "4 columns; found 3"), (np.where(X[7, 1] == X, np.nan, X), "row 7, column 1")):
        with pytest.raises(ValueError, match=message):
            first.predict(bad)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_float32_features(name):
    X, costs = example()
    double = DeferralRouter(name, PARAMS.get(name)).fit(X, costs)
    single = DeferralRouter(name, PARAMS.get(name)).fit(X.astype(np.float32), costs)
    np.testing.assert_allclose(single.decision_function(X), double.decision_function(X), atol=2e-2)
    assert single.decision_function(X).dtype == np.float64
    assert abs(single.score(X, costs) - double.score(X, costs)) <= 0.02


@pytest.mark.filterwarnings("error")
def test_grid_search_and_pipeline():
    X, costs = example()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), DeferralRouter("mild")),
        {"deferralrouter__loss_params": [{"gamma": 0.0}, {"gamma": 0.3}], "deferralrouter__l2": [1e-3, 1e-1]},
        cv=3,
    ).fit(X, costs)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ == max(search.cv_results_["mean_test_score"]) > -costs.mean(axis=0).min() - 0.1
    assert (search.predict(X) == search.best_estimator_.predict(X)).all()
    two = example(n_agents=2)
    for estimator, grid in (
        (DensityRatioScorer(), {"temperature": [0.3, 1.0]}),
        (PlugInRouter(), {"l2": [1e-3, 1.0]}),
    ):
        assert np.isfinite(GridSearchCV(estimator, grid, cv=3).fit(*two).best_score_)


@pytest.mark.parametrize("kind", [DeferralRouter, DensityRatioScorer])
def test_random_state_decides_the_network(kind):
    estimator = kind(hidden=[5], max_iter=20)
    X, costs = example(n_agents=2)
    seeds = [clone(estimator).set_params(random_state=s).fit(X, costs).decision_function(X) for s in (0, 0, 1)]
    np.testing.assert_array_equal(seeds[0], seeds[1])
    assert not np.allclose(seeds[0], seeds[2])


# ---------------------------------------------------------------------------------------------------------------
# the optimum


def test_linear_fit_is_the_weighted_logistic_regression():
    """Same optimum as scikit-learn's on the expanded problem: each row K times, target k, weight W_ik."""
    X, costs = example(n=150)
    l2, w = 0.02, 1.0 - costs
    router = DeferralRouter("two_stage", l2=l2, tol=1e-10, max_iter=5000).fit(X, costs)
    z = StandardScaler().fit_transform(X)
    reference = LogisticRegression(C=1.0 / (l2 * w.sum()), tol=1e-10, max_iter=5000)
    reference.fit(np.repeat(z, 3, axis=0), np.tile(np.arange(3), len(X)), sample_weight=w.ravel())
    want = reference.decision_function(z)
    got = router.decision_function(X)
    np.testing.assert_allclose(
        got - got.mean(axis=1, keepdims=True), want - want.mean(axis=1, keepdims=True), atol=1e-4
    )  # fmt: skip


def test_offset_free_scores_of_density_ratios_are_moved_by_log_z():
    X, costs = example()
    router = DeferralRouter("dr_cpe_joint", {"temperature": 0.3}).fit(X, costs)
    log_z = np.log(np.exp(-costs / 0.3).mean(axis=0))
    np.testing.assert_allclose(router.offsets_, log_z - log_z.mean(), atol=1e-12)


def test_two_agents_density_ratio_is_the_softmax_router():
    """K = 2: the softmax over two ideals is the log loss on their difference, up to how the ridge counts weights."""
    X, costs = example(n_agents=2)
    options = {"l2": 0.0, "tol": 1e-10, "max_iter": 5000}
    router = DeferralRouter("dr_cpe_joint", {"temperature": 0.4}, **options).fit(X, costs)
    scorer = DensityRatioScorer(temperature=0.4, **options).fit(X, costs)
    difference = router.decision_function(X) @ [-1.0, 1.0]
    np.testing.assert_allclose(scorer.log_ratio(X) - scorer.threshold_, difference, atol=1e-4)
    assert (scorer.predict(X) == router.predict(X)).mean() > 0.99


def test_density_ratio_thresholds():
    X, costs = example(n_agents=2)
    scorer = DensityRatioScorer(temperature=0.5).fit(X, costs)
    log_z = np.log(np.exp(-costs / 0.5).mean(axis=0))
    np.testing.assert_allclose(scorer.log_normalisers_, log_z, atol=1e-12)
    assert scorer.threshold_ == pytest.approx(log_z[0] - log_z[1])
    assert scorer.threshold_for_price(0.2) - scorer.threshold_ == pytest.approx(0.2 / 0.5)
    assert ((scorer.log_ratio(X) >= scorer.threshold_) == scorer.predict(X)).all()
    other = DensityRatioScorer(alpha=3.0).fit(X, costs)
    assert other.threshold_ == 0.0
    with pytest.raises(ValueError, match="only KL ideals"):
        other.threshold_for_price(0.1)


def test_expert_that_costs_the_same_everywhere_is_allowed():
    """Q_m = P: learning to reject."""
    X, costs = example(n_agents=2)
    costs[:, 1] = 0.3
    scorer = DensityRatioScorer(temperature=0.5).fit(X, costs)
    assert 0 < scorer.predict(X).mean() < 1 and scorer.score(X, costs) > -0.3


def test_constant_and_scaled_features():
    X, costs = example()
    plain = DeferralRouter().fit(X, costs)
    for constant in (0.0, 3.3, -1e7):
        wide = np.column_stack([X, np.full(len(X), constant)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = DeferralRouter().fit(wide, costs)
        np.testing.assert_allclose(again.decision_function(wide), plain.decision_function(X), atol=1e-3)
        assert np.isfinite(DeferralRouter().fit(wide.astype(np.float32), costs).decision_function(wide)).all()
    moved = X * [1e-3, 1.0, 1e3, 10.0] + [0.0, 100.0, -5.0, 1.0]
    again = DeferralRouter().fit(moved, costs)
    np.testing.assert_allclose(again.decision_function(moved), plain.decision_function(X), atol=1e-3)


def test_hidden_layers_learn_what_a_line_cannot():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(400, 2))
    right = (X[:, 0] * X[:, 1] > 0)[:, None] == [True, False]
    costs = 1.0 - right
    line = DeferralRouter(l2=1e-4).fit(X, costs)
    network = DeferralRouter(l2=1e-4, hidden=(16,), max_iter=200).fit(X, costs)
    assert -line.score(X, costs) > 0.3 > 0.05 > -network.score(X, costs)


def test_convergence_warning_and_counts():
    X, costs = example()
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        router = DeferralRouter(max_iter=2).fit(X, costs)
    assert not router.converged_ and router.n_iter_ <= 2
    assert DeferralRouter().fit(X, costs).converged_


def test_with_offsets():
    X, costs = example()
    router = DeferralRouter("dr_cpe_joint").fit(X, costs)
    before = router.decision_function(X)
    moved = router.with_offsets([0.0, 1.0, -2.0])
    np.testing.assert_allclose(moved.decision_function(X), before + [0.0, 1.0, -2.0], atol=1e-12)
    np.testing.assert_array_equal(router.decision_function(X), before)
    with pytest.raises(ValueError, match="offsets must be one number or 3"):
        router.with_offsets([1.0, 2.0])


# ---------------------------------------------------------------------------------------------------------------
# a loss of one's own, and what is checked how often


def my_loss(costs, power=1.0):
    return pair_loss((1.0 - costs) ** power, q=0.5)


class ByClass:
    def __call__(self, costs):
        return my_loss(costs)


def test_a_loss_of_ones_own_is_trained_like_a_preset():
    X, costs = example()
    mine = DeferralRouter(my_loss, {"power": 1.0}).fit(X, costs)
    preset = DeferralRouter("two_stage", {"q": 0.5}).fit(X, costs)
    np.testing.assert_array_equal(mine.decision_function(X), preset.decision_function(X))
    assert not np.array_equal(DeferralRouter(my_loss, {"power": 2.0}).fit(X, costs * 0.5).predict(X), mine.predict(X))
    assert clone(mine).loss is my_loss
    search = GridSearchCV(DeferralRouter(my_loss), {"loss_params": [{"power": p} for p in (1.0, 2.0)]}, cv=3)
    assert np.isfinite(search.fit(X, costs).best_score_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loss_in_plain_torch_is_derived_by_torch(dtype):
    X, costs = example()

    def cross_entropy(costs):
        weights = torch.from_numpy(1.0 - costs)
        mean_weight = weights.sum() / len(weights)  # the ridge is on the scale of a loss per unit of weight
        return lambda scores: torch.nn.functional.cross_entropy(scores, weights.to(scores)) / mean_weight

    mine = DeferralRouter(cross_entropy).fit(X.astype(dtype), costs)
    preset = DeferralRouter("two_stage").fit(X.astype(dtype), costs)
    atol = 1e-4 if dtype == np.float64 else 1e-2
    np.testing.assert_allclose(*(r.decision_function(X) @ DIFFERENCES for r in (mine, preset)), atol=atol)
    np.testing.assert_array_equal(mine.offsets_, 0.0)


@pytest.mark.parametrize(
    "loss, message",
    [
        (3, "loss must be one of .* or a function of costs; found 3"),
        (["two_stage"], "loss must be one of"),
        (lambda costs: 1.0, "loss must return an objective, as losses.pair_loss does; found float"),
        (lambda costs: pair_loss(1.0 - costs[:, :2]), r"weights must have shape \(200, 3\)"),
        (lambda costs: pair_loss(0.0 * costs), "not be all 0"),
        (lambda costs: pair_loss(-costs), "weights must be non-negative"),
        (lambda costs: lambda scores: scores, "scalar tensor"),
        (lambda costs: lambda scores: 1.0, "scalar tensor"),
        (lambda costs: lambda scores: torch.tensor(1.0), "depends on the scores"),
        (lambda costs, power: two_stage(costs), "loss_params of .*power"),
    ],
)
def test_what_is_no_loss_is_named(loss, message):
    router = DeferralRouter(loss)
    with pytest.raises(ValueError, match=message):
        router.fit(*example())
    assert not hasattr(router, "scorer_")


def checked(monkeypatch, work):
    """Names of the tables that `work` has checked entry by entry, one for each time."""
    names = []

    def noted(name, values, **more):
        names.append(name)
        return check(name, values, **more)

    check = validate.check_matrix
    for module in [m for name, m in sys.modules.items() if name.startswith("l2d_utils")]:
        if getattr(module, "check_matrix", None) is check:
            monkeypatch.setattr(module, "check_matrix", noted)
    work()
    monkeypatch.undo()
    return names


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_fit_checks_its_tables_once_at_its_border_and_once_at_the_loss(name, monkeypatch):
    X, costs = example()
    names = checked(monkeypatch, lambda: DeferralRouter(name, PARAMS.get(name)).fit(X, costs))
    assert names.count("X") == 1 and 1 <= names.count("costs") <= 2
    assert len(names) <= (4 if name.startswith("dr_cpe") else 3), names  # there, the weights are a loss of one's own


def test_losses_and_metrics_check_once(monkeypatch):
    X, costs = example(n_agents=2)
    routes, scores = np.zeros(len(X), dtype=int), X[:, :2]
    for work in (
        lambda: two_stage(costs),
        lambda: losses.mild_power(costs),
        lambda: losses.one_vs_all(costs),
        lambda: losses.margin_dr_cpe(costs),
        lambda: metrics.measured(costs, routes),
        lambda: metrics.regret_by_agent(costs, routes),
        lambda: metrics.gap_closed(X[:, 0], *costs.T),
    ):
        assert checked(monkeypatch, work) == ["costs"]
    assert checked(monkeypatch, lambda: rules.shrunken_offsets(scores, costs)) == ["scores", "costs"]
    assert checked(monkeypatch, lambda: rules.offsets_for_shares(scores, [0.5, 0.5])) == ["scores"]


# ---------------------------------------------------------------------------------------------------------------
# bad input


def with_entry(costs, value):
    changed = costs.copy()
    changed[5, 1] = value
    return changed


@pytest.mark.parametrize(
    "params, change, message",
    [
        ({}, lambda X, c: (X, with_entry(c, np.nan)), "costs must be finite; row 5, column 1 is nan"),
        ({}, lambda X, c: (X, with_entry(c, np.inf)), "costs must be finite; row 5, column 1 is inf"),
        ({}, lambda X, c: (X, with_entry(c, -0.1)), "costs must be non-negative; row 5, agent 1 is -0.1"),
        ({}, lambda X, c: (X, c[:, :1]), "costs needs at least 2 agents"),
        ({}, lambda X, c: (X[:-1], c), "X has 199, costs has 200"),
        ({}, lambda X, c: (X[:, 0], c), r"X must have shape \(n, d\)"),
        ({}, lambda X, c: (np.where(X[3, 2] == X, np.inf, X), c), "X must be finite; row 3, column 2"),
        ({}, lambda X, c: (X[:0], c[:0]), "X has no rows"),
        ({}, lambda X, c: (X, np.column_stack([c, np.ones(len(c))])), "agent 3 is never better"),
        ({"loss": "nonsense"}, None, "loss must be one of .*found 'nonsense'"),
        ({"loss": "mild", "loss_params": {"gama": 1.0}}, None, "loss_params of 'mild'.*gama"),
        ({"loss": "mild", "loss_params": {"costs": 1.0}}, None, "loss_params of 'mild'.*costs"),
        ({"loss": "mild_free"}, None, "loss_params of 'mild_free'.*margins"),
        ({"loss": "mild_free", "loss_params": {"margins": [1.0, 0.0, 1.0]}}, None, "margins .*agent 1"),
        ({"loss": "mild_free", "loss_params": {"margins": [1.0, 1.0]}}, None, "margins must be one number or 3"),
        ({"loss": "global_temperature", "loss_params": {"rho": -1.0}}, None, "rho must be"),
        ({"loss": "dr_cpe_joint", "loss_params": {"temperature": 0.0}}, None, "temperature must be"),
        ({"l2": -1.0}, None, "l2 must be"),
        ({"l2": np.nan}, None, "l2 must be"),
        ({"max_iter": 0}, None, "max_iter must be"),
    ],
)
def test_bad_input_of_the_router_is_named(params, change, message):
    X, costs = example()
    data = (X, costs) if change is None else change(X, costs)
    router = DeferralRouter(**params)
    with pytest.raises(ValueError, match=message):
        router.fit(*data)
    assert not hasattr(router, "scorer_")


@pytest.mark.parametrize(
    "params, message",
    [
        ({"loss": "hinge"}, "loss must be one of"),
        ({"temperature": 0.0}, "temperature must be a finite number > 0"),
        ({"ideal": "both"}, "ideal must be 'joint' or 'marginal'"),
        ({"alpha": -1.0}, "alpha must be finite and not -1"),
        ({"l2": -1.0}, "l2 must be"),
    ],
)
def test_bad_input_of_the_density_ratio_is_named(params, message):
    with pytest.raises(ValueError, match=message):
        DensityRatioScorer(**params).fit(*example(n_agents=2))


def test_density_ratio_needs_two_agents():
    with pytest.raises(ValueError, match="2 columns, model and expert; found 3"):
        DensityRatioScorer().fit(*example())


# ---------------------------------------------------------------------------------------------------------------
# files

SAVED = [
    (DeferralRouter("mild_free", {"margins": np.array([0.8, 1.0, 1.3])}), 3, np.float64),
    (DeferralRouter("dr_cpe_joint", {"temperature": 0.3}), 3, np.float32),
    (DeferralRouter("two_stage", hidden=(5, 4), max_iter=20), 2, np.float64),
    (DensityRatioScorer("square", temperature=0.4), 2, np.float64),
    (DensityRatioScorer(alpha=3.0, hidden=(4,), max_iter=20), 2, np.float64),
]


@pytest.mark.parametrize("estimator, n_agents, dtype", SAVED)
def test_save_and_load_round_trip(estimator, n_agents, dtype, tmp_path):
    X, costs = example(n_agents=n_agents)
    X = X.astype(dtype)
    fitted = clone(estimator).fit(X, costs)
    saving.save(fitted, tmp_path / "router.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["router.npz"]
    again = saving.load(tmp_path / "router.npz")
    assert type(again) is type(fitted)
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    for name in saving._FITTED:
        assert hasattr(again, name) == hasattr(fitted, name)
        if hasattr(fitted, name):
            np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name))
    assert again.score(X, costs) == fitted.score(X, costs)
    refitted = clone(again).fit(X, costs)  # the parameters came along
    np.testing.assert_array_equal(refitted.decision_function(X), fitted.decision_function(X))
    with np.load(tmp_path / "router.npz", allow_pickle=False) as file:  # no entry needs pickle
        assert all(file[name].dtype != object for name in file.files)


@pytest.mark.parametrize("loss", [my_loss, partial(my_loss, power=1.0), ByClass()], ids=["def", "partial", "class"])
def test_a_saved_loss_of_ones_own_is_a_name(loss, tmp_path):
    X, costs = example()
    fitted = DeferralRouter(loss).fit(X, costs)
    path = tmp_path / "router"  # any name, kept as it is
    saving.save(fitted, path)
    assert [p.name for p in tmp_path.iterdir()] == ["router"]
    loaded = saving.load(path)
    np.testing.assert_array_equal(loaded.decision_function(X), fitted.decision_function(X))
    assert loaded.loss not in PRESETS and loaded.loss.split(".")[-1] in ("my_loss", "partial", "ByClass")
    with pytest.raises(ValueError, match="loss must be one of"):
        loaded.fit(X, costs)
    again = loaded.set_params(loss=loss).fit(X, costs)
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))


def test_parameters_that_are_no_plain_data_are_not_saved(tmp_path):
    fitted = DeferralRouter(lambda costs, helper: two_stage(costs), {"helper": object()}).fit(*example())
    with pytest.raises(ValueError, match="numbers, names or arrays"):
        saving.save(fitted, tmp_path / "router.npz")
    assert list(tmp_path.iterdir()) == []


def test_saving_needs_nothing_that_draws():
    code = "import sys, l2d_utils.saving; print([m for m in sys.modules if m in ('matplotlib', 'seaborn')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_save_leaves_nothing_half_written(tmp_path, monkeypatch):
    X, costs = example()
    path = tmp_path / "router.npz"
    saving.save(DeferralRouter().fit(X, costs), path)
    before = path.read_bytes()

    def breaks(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(saving.np, "savez", breaks)
    with pytest.raises(OSError, match="disk full"):
        saving.save(DeferralRouter("mild").fit(X, costs), path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["router.npz"]
    with pytest.raises(NotFittedError):
        saving.save(DeferralRouter(), tmp_path / "other.npz")


@pytest.mark.filterwarnings("error")
def test_load_refuses_other_files(tmp_path):
    X, costs = example()
    path = tmp_path / "router.npz"
    router = DeferralRouter().fit(X, costs)
    saving.save(router, path)
    whole = path.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    inside = whole.index(router.scorer_.layers[0].weight.detach().numpy().tobytes()) + 5
    (tmp_path / "flipped.npz").write_bytes(whole[:inside] + bytes([whole[inside] ^ 255]) + whole[inside + 1 :])
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npy", costs)
    np.savez(tmp_path / "arrays.npz", costs=costs)
    np.savez(tmp_path / "pickled.npz", header=np.array([{"format": saving.FORMAT}], dtype=object))
    for name in ("cut.npz", "flipped.npz", "text.npz", "empty.npz", "array.npy", "arrays.npz", "pickled.npz"):
        with pytest.raises(ValueError, match=name):
            saving.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        saving.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    "regressor",
    [None, DummyRegressor(), KNeighborsRegressor(7), make_pipeline(StandardScaler(), StandardScaler(), Ridge(2.0))],
    ids=["default", "constant", "neighbours", "pipeline"],
)
def test_plug_in_saves_the_regression_it_fitted(regressor, tmp_path):
    X, costs = example()
    fitted = PlugInRouter(0.1, regressor).fit(X, costs).with_offsets([0.0, 0.3, -0.1])
    saving.save(fitted, tmp_path / "router.npz")
    loaded = saving.load(tmp_path / "router.npz")
    np.testing.assert_allclose(loaded.decision_function(X), fitted.decision_function(X), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    saving.save(loaded, tmp_path / "again.npz")  # what was loaded can be saved
    np.testing.assert_array_equal(saving.load(tmp_path / "again.npz").predict(X), fitted.predict(X))
    assert loaded.fit(X, costs).n_agents_ == 3  # an estimator like any other


def test_plug_in_refuses_to_save_what_is_no_linear_map(tmp_path):
    X, costs = example()
    weighted = KNeighborsRegressor(3, weights="distance")
    for regressor in (DecisionTreeRegressor(), make_pipeline(PCA(1), Ridge()), weighted):
        with pytest.raises(ValueError, match="can be saved"):
            saving.save(PlugInRouter(regressor=regressor).fit(X, costs), tmp_path / "router.npz")
    assert list(tmp_path.iterdir()) == []


def test_warm_starts_save_steps_and_need_the_same_shapes():
    X, costs = example()
    router = DeferralRouter(l2=0.1, warm_start=True).fit(X, costs)
    cold = router.n_iter_, router.decision_function(X)
    again = router.fit(X, costs)
    assert again.n_iter_ <= 1 < cold[0]
    np.testing.assert_allclose(again.decision_function(X), cold[1], atol=1e-4)
    with pytest.raises(ValueError, match="warm_start needs the shapes"):
        router.fit(X[:, :1], costs)
