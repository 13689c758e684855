import numpy as np
import pytest

from l2d_utils import tuning
from l2d_utils.losses import PRESETS
from l2d_utils.metrics import deferral_loss
from l2d_utils.routers import DeferralRouter, PlugInRouter


@pytest.fixture(scope="module")
def data():
    """Training and validation features and 0-1 costs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 3))
    logits = X @ rng.normal(size=(3, 3)) * 2 + [1.5, 0.0, -1.0]
    costs = (rng.random((240, 3)) > 1 / (1 + np.exp(-logits))).astype(float)
    return X[:160], costs[:160], X[160:], costs[160:]


def test_select_keeps_the_smallest_validation_loss(data):
    settings = [{"l2": v} for v in (10.0, 1e-2, 1.0)]
    chosen = tuning.select(DeferralRouter(), settings, *data)
    losses = [deferral_loss(data[3], DeferralRouter(**s).fit(*data[:2]).predict(data[2])) for s in settings]
    assert [t[1] for t in chosen.trials] == losses and [t[0] for t in chosen.trials] == settings
    assert chosen.loss == min(losses) and chosen.params == settings[int(np.argmin(losses))]
    assert deferral_loss(data[3], chosen.best.predict(data[2])) == chosen.loss


def test_ties_go_to_the_first_setting(data):
    chosen = tuning.select(DeferralRouter(), [{"l2": 0.1}, {"l2": 0.1}, {"l2": 0.1, "random_state": 1}], *data)
    assert chosen.params == {"l2": 0.1}
    assert len(chosen.trials) == 3


def test_select_leaves_the_estimator_and_settings_alone(data):
    estimator, settings = DeferralRouter(l2=7.0), [{"l2": 0.1}]
    tuning.select(estimator, iter(settings), *data)
    assert estimator.l2 == 7.0 and not hasattr(estimator, "scorer_") and settings == [{"l2": 0.1}]
    with pytest.raises(ValueError, match="settings is empty"):
        tuning.select(estimator, [], *data)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"mild_free"}))
def test_grids_have_equal_size_and_every_setting_fits(name, data):
    grid = tuning.grid(name)
    assert len(grid) == 15 and len({str(sorted(s.items(), key=str)) for s in grid}) == 15
    assert all(s["loss"] == name for s in grid)
    for setting in {str(s.get("loss_params")): s for s in grid}.values():  # each parameter once
        DeferralRouter(**setting).fit(data[0], data[1])


def test_grid_errors():
    assert len(tuning.plug_in_grid()) == 15
    assert all(PlugInRouter(**setting).l2 > 0 for setting in tuning.plug_in_grid())
    with pytest.raises(ValueError, match="loss must be one of"):
        tuning.grid("nonsense")
    with pytest.raises(ValueError, match="search_margins"):
        tuning.grid("mild_free")


def test_search_margins_is_never_worse_than_its_start(data):
    start = tuning.power_law_margins(data[1], gamma=0.3)
    weights = data[1].max() - data[1]
    m = weights.sum(axis=0)
    np.testing.assert_allclose(start, (m / m.max()) ** 0.3)
    kept = start.copy()
    found = tuning.search_margins(*data, start=start, l2=0.1)
    np.testing.assert_array_equal(start, kept)
    assert len(found.trials) == 1 + 2 * 3 * 2
    assert found.trials[0][0] == {"loss_params": {"margins": tuple(start.tolist())}}
    assert found.loss == min(loss for _, loss in found.trials) <= found.trials[0][1]
    again = DeferralRouter("mild_free", **found.params, l2=0.1).fit(data[0], data[1])
    assert deferral_loss(data[3], again.predict(data[2])) == found.loss
