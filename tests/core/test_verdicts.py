"""The ledger's rule: what it says where the truth is known, and how often it is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2d_utils import verdicts as v

MARGIN = 0.05


def readings(effects, rng, *, spread=0.05, rows_se=0.01, replicates=10, unit=0.03):
    """Readings whose true effects, in units of what routing earns, are `effects`."""
    shared = rng.normal()
    return [
        v.Reading(
            f"setting {k}", unit * (e + rows_se * shared + rng.normal(0, spread, replicates)), unit * rows_se, unit
        )
        for k, e in enumerate(effects)
    ]


def rate(judge, verdict, effects, n=400, **how):
    rng = np.random.default_rng(0)
    return np.mean([judge(readings(effects, rng, **how)).verdict == verdict for _ in range(n)])


def better(found):
    return v.better(found, MARGIN)


def not_worse(found):
    return v.not_worse(found, MARGIN)


def test_a_true_claim_passes_and_a_false_one_is_contradicted():
    assert rate(better, v.REPRODUCED, [0.3] * 8) > 0.95
    assert rate(better, v.CONTRADICTED, [-0.3] * 8) > 0.95
    assert (
        rate(better, v.CONTRADICTED, [0.0] * 8, rows_se=0.002, spread=0.02) > 0.9
    )  # equal, and precise enough to say so


def test_what_cannot_be_told_is_not_decided():
    assert rate(better, v.UNDECIDED, [0.02] * 4, spread=0.6, rows_se=0.2, replicates=3) > 0.9


@pytest.mark.parametrize("n_settings", [1, 6, 14])
def test_false_reproduced_at_most_five_per_cent(n_settings):
    assert rate(better, v.REPRODUCED, [0.0] * n_settings, n=1000) <= 0.05
    assert rate(not_worse, v.REPRODUCED, [-MARGIN] * n_settings, n=1000) <= 0.05


@pytest.mark.parametrize("n_settings", [1, 6, 14])
def test_false_contradicted_at_most_five_per_cent(n_settings):
    assert rate(better, v.CONTRADICTED, [MARGIN] * n_settings, n=1000) <= 0.05
    assert rate(not_worse, v.CONTRADICTED, [-MARGIN] * n_settings, n=1000) <= 0.05


def test_some_settings_only_is_holds_in_part():
    assert rate(better, v.IN_PART, [0.4, 0.4, -0.4, -0.4], spread=0.05) > 0.95
    assert rate(not_worse, v.IN_PART, [0.0, 0.0, 0.0, -0.12], spread=0.02, rows_se=0.005) > 0.9


def test_an_effect_below_the_margin_is_no_clear_improvement():
    assert rate(better, v.REPRODUCED, [0.02] * 8, spread=0.01, rows_se=0.001) == 0
    assert rate(better, v.IN_PART, [0.02] * 8, spread=0.01, rows_se=0.001) > 0.95


def test_detectable_effect_is_found_four_times_in_five():
    rng = np.random.default_rng(1)
    one = v.estimate(readings([0.0], rng, replicates=20)[0])
    found = [v.Estimate(one.detectable + rng.normal(0, one.se), one.se, one.df).interval[0] > 0 for _ in range(4000)]
    assert 0.77 <= np.mean(found) <= 0.84


def test_chance_to_pass_grows_with_the_effect():
    found = readings([0.0] * 6, np.random.default_rng(2))
    chances = [v.chance_to_pass(found, k * MARGIN, MARGIN, 200, 0) for k in (0, 1, 2, 5)]
    assert chances == sorted(chances) and chances[0] <= 0.05 and chances[-1] > 0.95


def test_near_a_published_figure():
    assert v.near([v.Reading("x", np.array([0.105, 0.107, 0.106]))], 0.106, 0.01).verdict == v.REPRODUCED
    assert v.near([v.Reading("x", np.array([0.195, 0.197, 0.196]))], 0.106, 0.01).verdict == v.CONTRADICTED
    assert v.near([v.Reading("x", np.array([0.09, 0.13]))], 0.106, 0.01).verdict == v.UNDECIDED


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_between_raw_and_bonferroni(p):
    adjusted, p = v.holm(p), np.asarray(p)
    assert (adjusted >= p - 1e-12).all() and (adjusted <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-12).all()


@given(st.floats(0.001, 100))
def test_verdicts_do_not_depend_on_the_unit_of_cost(scale):
    found = readings([0.2, 0.0, 0.1], np.random.default_rng(3))
    scaled = [v.Reading(r.name, scale * r.values, scale * r.rows_se, scale * r.unit) for r in found]
    assert better(found).verdict == better(scaled).verdict


def test_errors_name_the_reading():
    with pytest.raises(ValueError, match="'one'.*at least 2"):
        v.estimate(v.Reading("one", np.array([1.0])))
    with pytest.raises(ValueError, match="earns -1"):
        v.estimate(v.Reading("one", np.array([1.0, 2.0]), unit=-1))
