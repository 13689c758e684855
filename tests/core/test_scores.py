"""Scores for one model and one expert: what each estimates, and that none sees the expert."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from l2d_utils import methods, scores
from l2d_utils.metrics import gap_closed
from l2d_utils.routers import DensityRatioScorer
from references import weak_model_and_expert

UNTRAINED = ("random", "confidence", "entropy", "margin")
BASELINES = ("diff_01", "diff_prob", "max_prob", "plug_in_logistic", "two_stage", "mozannar_sontag")
DENSITY_RATIOS = ("dr_cpe_joint", "dr_cpe_marginal", "dr_cpe_square", "dr_cpe_exponential")


ROWS = scores.sample(*weak_model_and_expert())
TRAIN, TEST = ROWS.at(np.arange(250)), ROWS.at(np.arange(400, 600))


def score(key, l2=0.03, temperature=0.3):
    """The score of that key in the table of methods, fitted on TRAIN."""
    settings = {} if key in UNTRAINED else {"l2": l2}
    if key in DENSITY_RATIOS:
        settings["temperature"] = temperature
    return methods.find(key).score(TRAIN, **settings)


def test_the_table_holds_these_scores_and_no_other():
    assert {key for key, m in methods.METHODS.items() if m.score} - {"dr_cpe"} == {
        *UNTRAINED, *BASELINES, *DENSITY_RATIOS
    }  # fmt: skip


def test_features_hold_softmax_and_its_uncertainties():
    p = np.array([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
    X = scores.features(np.arange(6.0).reshape(3, 2), p)
    np.testing.assert_allclose(X[:, :2], np.arange(6.0).reshape(3, 2))
    np.testing.assert_allclose(X[:, 2:5], p)
    want = {
        "confidence": [0.3, 2 / 3, 0.0],
        "entropy": [-(p[0] * np.log(p[0])).sum(), np.log(3), 0.0],
        "margin": [0.5, 1.0, 0.0],
    }
    for name, values in want.items():
        np.testing.assert_allclose(getattr(scores, name)(TRAIN)(X), values, atol=1e-15)
    with pytest.raises(ValueError, match="row 1"):
        scores.features(np.zeros((2, 1)), [[0.5, 0.5], [0.5, 0.6]])
    with pytest.raises(ValueError, match="same number of rows"):
        scores.features(np.zeros((3, 1)), [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize("key", [*UNTRAINED, *BASELINES, *DENSITY_RATIOS])
def test_scores_are_one_per_row_and_need_only_features(key):
    fitted = score(key)
    values = fitted(TEST.X)
    assert values.shape == (200,) and np.isfinite(values).all()
    np.testing.assert_allclose(fitted(TEST.X[7:9]), values[7:9], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("key", [*BASELINES, *DENSITY_RATIOS])
def test_learned_scores_find_the_expert_and_confidence_does_not(key):
    blind = gap_closed(score("confidence")(TEST.X), *TEST.costs.T)
    assert gap_closed(score(key)(TEST.X), *TEST.costs.T) > max(blind, 0) + 0.05


def test_diff_01_is_dr_cpe_with_the_square_loss_at_large_temperature():
    """ω_m − ω_h → (c_h − c_m + const)/λ and ω_m + ω_h → 2: the same regression, up to scale and offset."""
    a = score("diff_01", l2=0.1)(TEST.X)
    # DR-CPE adds l2·½‖weights‖² to mean (target − s)², the ridge l2·‖weights‖²: hence twice the strength
    scorer = DensityRatioScorer("square", temperature=100.0, l2=0.2, tol=1e-12).fit(TRAIN.X, TRAIN.costs)
    b = 200 * scorer.decision_function(TEST.X)
    np.testing.assert_allclose(b - b.mean(), a - a.mean(), atol=0.01)
    assert kendalltau(a, b).statistic > 0.98


@pytest.mark.parametrize("key", DENSITY_RATIOS)
def test_a_large_temperature_is_fitted_as_far_as_a_small_one(key):
    """From λ = 10 on, the order is that of the error difference and hardly moves; a fit that ended early would."""
    a, b = (score(key, l2=0.01, temperature=t)(TEST.X) for t in (10.0, 300.0))
    assert kendalltau(a, b).statistic > 0.95


def test_linear_plug_in_would_be_diff_01_and_the_logistic_one_is_a_probability_difference():
    fitted = score("plug_in_logistic", l2=1e-3)(TRAIN.X)
    assert (np.abs(fitted) <= 1).all()
    # logistic regression with an intercept reproduces the mean error of each agent on its training rows
    np.testing.assert_allclose(fitted.mean(), (TRAIN.costs @ [1, -1]).mean(), atol=2e-3)
    always = TRAIN._replace(expert=np.eye(6)[TRAIN.labels])
    with pytest.raises(ValueError, match="expert has cost 0 on all rows"):
        scores.plug_in(always, 0.1)


def test_random_closes_no_gap_and_the_costs_close_all_of_it():
    model, expert = TEST.costs.T
    assert gap_closed(score("random")(TEST.X), model, expert) == pytest.approx(0, abs=1e-12)
    assert gap_closed(model - expert, model, expert) == pytest.approx(1)


def test_max_prob_adds_the_models_own_doubt():
    """A regression of the expert's confidence, plus 1 − max_y h_y: taken off, what is left is linear in X."""
    rest = score("max_prob")(TEST.X) - score("confidence")(TEST.X)
    X = np.column_stack([TEST.X, np.ones(len(TEST.X))])
    residual = rest - X @ np.linalg.lstsq(X, rest, rcond=None)[0]
    assert np.abs(residual).max() < 1e-8
