"""Offsets that cross-validation pulls towards 0."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2d_utils import metrics, rules


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n_agents=st.integers(2, 5))
def test_shrunken_offsets_of_noise_are_judged_on_other_rows(seed, n_agents):
    rng = np.random.default_rng(seed)
    scores, costs = rng.normal(size=(120, n_agents)), rng.random((120, n_agents))
    offsets, loss = rules.shrunken_offsets(scores, costs)
    plain = metrics.deferral_loss(costs, scores.argmax(axis=1))
    assert loss <= plain + 1e-12  # t = 0 is among the choices
    if not offsets.any():
        assert loss == pytest.approx(plain)
    full = rules.offsets_for_costs(scores, costs)
    t = np.linalg.norm(offsets) / max(np.linalg.norm(full), 1e-12)
    assert min(abs(t - s) for s in rules.SHRINKAGE) < 1e-9


def test_offsets_repair_a_router_whose_scores_are_biased():
    costs = np.random.default_rng(0).random((400, 3))
    biased = -costs + np.array([1.0, 0.0, -1.0])
    offsets, loss = rules.shrunken_offsets(biased, costs)
    assert loss < 0.5 * metrics.deferral_loss(costs, biased.argmax(axis=1))
    assert offsets[0] < offsets[1] < offsets[2]
