"""The examples in the docstrings are run, and each core function has one whose output shows the shape."""

import doctest
import importlib
import pkgutil

import pytest

import l2d_utils
from l2d_utils import agents, costs, data, ideals, losses, metrics, routers, rules, text

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(l2d_utils.__path__, "l2d_utils.")
    if not info.name.endswith("__main__")  # importing those runs a command
)
CORE = [
    costs.costs_from_predictions, costs.costs_from_scores, costs.reward_weights, costs.weight_totals,
    losses.pair_loss, losses.two_stage, losses.mild_power, losses.soft_margins, costs.capacity_margins,
    ideals.kl_log_density, ideals.joint_log_ratio, ideals.marginal_log_ratio,
    routers.DeferralRouter, routers.DensityRatioScorer, routers.PlugInRouter,
    rules.chow, rules.threshold_for_rate, rules.route, rules.offsets_for_costs, rules.offsets_for_shares,
    rules.shrunken_offsets, rules.offsets_by_power,
    metrics.deferral_loss, metrics.deferral_ratios, metrics.regret_by_agent, metrics.deferral_curve,
    metrics.gap_closed, metrics.interval, metrics.paired,
    agents.specialist, agents.imbalanced_homes, agents.outputs, text.embed,
    data.load_images, data.load_routing, data.split_images, data.stratified_subset,
]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_say_what_happens(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@pytest.mark.parametrize("thing", CORE, ids=lambda thing: thing.__qualname__)
def test_each_core_function_has_an_example_with_output(thing):
    examples = doctest.DocTestParser().get_examples(thing.__doc__)
    assert any(example.want for example in examples)


def test_a_wrong_example_is_noticed():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda text: None).failed == 1
