"""Poisoned hold-out: nothing that is chosen or fitted may depend on a held-out row.

Each procedure is run twice on a small world, the second time with everything changed in the held-out rows: features,
costs, scores, dollars, labels, tasks. What it chose, fitted, filled in or counted in must be the same to the last bit.
Then the held-in rows are changed, and it must notice: a check that could not fail would prove nothing.

Every public function that takes a problem, a sample, a case, a table or a split is either registered here or exempt,
with the reason; the last test fails when a new one is neither.
"""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from l2d_utils import methods, neighbours, scores
from l2d_utils.data import RoutingTable, Split
from l2d_utils.own import advice, choosing, dollars, intake, suspicions
from l2d_utils.studies import compare, controls, imbalance, people, posthoc, prompts, variants

N, K = 240, 3


def rows() -> Split:
    order = np.random.default_rng(5).permutation(N)
    return Split(np.sort(order[:120]), np.sort(order[120:180]), np.sort(order[180:]))


def world(random_state: int = 0) -> dict[str, Any]:
    """Arrays over all rows: everything that a procedure could be given."""
    rng = np.random.default_rng(random_state)
    X = rng.normal(size=(N, 5))
    labels = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
    expected = np.array([[0.1, 0.5, 0.6], [0.6, 0.15, 0.5], [0.5, 0.6, 0.1]])[labels]
    words = np.array(["sum", "prove", "write", "list", "red", "blue", "cat"])
    return {
        "X": X,
        "labels": labels,
        "expected": expected,
        "scores": (rng.random((N, K)) > expected).astype(float),
        "dollars": rng.random((N, K)) * np.array([1.0, 2.0, 5.0]),
        "task": np.array(["a", "b", "c"])[labels],
        "prompts": np.array([" ".join(words[rng.integers(0, 7, 6)]) + f" {i}" for i in range(N)]),
        "model": rng.dirichlet(np.ones(4), N),
        "expert": rng.dirichlet(np.full(4, 0.3), N),
        "classes": rng.integers(0, 4, N),
    }


def poisoned(found: dict[str, Any], at: np.ndarray) -> dict[str, Any]:
    """The world with every entry of these rows replaced by that of another world."""
    other, out = world(99), {}
    other["dollars"], other["X"] = 50 * other["dollars"], 7 * other["X"] + 3
    other["scores"] = 1 - other["scores"]
    for name, array in found.items():
        out[name] = array.copy().astype(object if array.dtype.kind == "U" else array.dtype)
        out[name][at] = other[name][at]
        out[name] = out[name].astype(str) if array.dtype.kind == "U" else out[name]
    return out


def problem(w: dict[str, Any]) -> compare.Problem:
    return compare.Problem(w["X"], 1 - w["scores"], rows(), w["expected"], w["labels"], w["dollars"], w["task"])


def routing_table(w: dict[str, Any]) -> RoutingTable:
    empty = {f.name: None for f in dataclasses.fields(RoutingTable)}
    named = {"prompts": w["prompts"].tolist(), "agents": ("x", "y", "z"), "name": "world", "source": "made up"}
    given = {name: w[name] for name in ("scores", "dollars", "task")}
    return RoutingTable(**(empty | named | given | {"sha256": ""}))


def sample(w: dict[str, Any]) -> scores.Sample:
    return scores.Sample(scores.features(w["X"], w["model"]), w["model"], w["expert"], w["classes"])


# ---------------------------------------------------------------- procedures: a world in, what it decided out

PROCEDURES: dict[str, Callable[[dict[str, Any]], Any]] = {}
#: Public functions that a procedure covers.
COVERED: dict[str, set[str]] = {}


def procedure(*covers: str):
    def registered(run: Callable) -> Callable:
        PROCEDURES[run.__name__] = run
        COVERED[run.__name__] = set(covers)
        return run

    return registered


TRAINED = [k for k, m in methods.METHODS.items() if (m.make or m.base) and k != "mild_free"]


@procedure("compare.tune", "compare.fit_method", "methods.by_power", "methods.shrunken", "methods.ideal_shares")
def tuned_routers(w):
    """Every trained and every moved method of the table: setting, offsets, scores on the rows it may see."""
    found = compare.tune(TRAINED, problem(w), every=6, solver={"tol": 1e-3})
    seen = w["X"][rows().train]
    return {k: (t.chosen, t.edges, t.offsets, t.validation_loss, t.decision_function(seen)) for k, t in found.items()}


@procedure("compare.tune")
def free_margins(w):
    found = compare.tune(["mild_free"], problem(w), solver={"tol": 1e-3})["mild_free"]
    return found.chosen, found.validation_loss


@procedure("compare.routed", "compare.compare")
def controls_chosen_on_training_rows(w):
    """The best single agent and the cheapest one are chosen where they may be."""
    found = compare.routed(["best_single", "cheapest", "random"], problem(w), {})
    return {k: np.atleast_2d(r)[:, 0] for k, r in found.items()}


@procedure("prompts.problem_at_price")
def dollar_unit(w):
    """Costs of the held-in rows: the unit of the dollars must not come from others."""
    parts = rows()
    seen = np.concatenate([parts.train, parts.validation])
    return prompts.problem_at_price(routing_table(w), w["X"], parts, 0.5).costs[seen]


@procedure("prompts.strongest_calls")
def calls_of_the_strong_model(w):
    weak, strong = w["scores"][:, 0], w["scores"][:, :2].max(axis=1)
    two, held = problem(w)._replace(costs=1 - np.column_stack([weak, strong])), rows().validation
    seen = two.X[held], weak[held], strong[held]
    return prompts.strongest_calls(["plug_in", "two_stage"], two, {"held": seen})


@procedure("neighbours.kernel_features")
def features_of_prompts(w):
    parts = rows()
    found = neighbours.kernel_features(w["prompts"].tolist(), w["X"], w["scores"], parts.train, dim=20, neighbours=5)
    return found[np.concatenate([parts.train, parts.validation])]


@procedure("prompts.frontier", "prompts.study")
def offsets_along_the_frontier(w):
    """Which offsets a price gets: judged by the routes of held-in rows alone."""
    parts, table = rows(), routing_table(w)
    tuned = compare.tune(["plug_in"], prompts.problem_at_price(table, w["X"], parts, 0.5), every=6)["plug_in"]
    seen = Split(parts.train, parts.validation, parts.validation)
    return prompts.frontier(tuned, table, w["X"], seen, [0.0, 0.5, 2.0])


@procedure("posthoc.tune", "posthoc.study", "posthoc.each_setting", "posthoc.transferred")
def scores_for_one_expert(w):
    """Every score of the table: its setting, its values on held-in rows, its thresholds."""
    parts, everything = rows(), sample(w)
    train, held = everything.at(parts.train), everything.at(parts.validation)
    grid = posthoc.Grid(posthoc.compared(), (1.0, 0.3), (0.03, 0.3), (0.2, 0.5))
    found = {}
    for key in grid.methods:
        chosen = posthoc.tune(key, grid, train, held)
        got = posthoc.transferred(chosen.best, held, held, grid.rates)
        found[key] = chosen.setting, chosen.losses, chosen.best(held.X), pd.DataFrame(got)
    return found


@procedure("people.ask_people")
def asking_people(w):
    """What is chosen at every price, seen by the routes of held-in rows that stand in for test rows."""
    parts, everything = rows(), sample(w)
    errors = np.column_stack([everything.costs[:, 0], *((w["classes"] + k) % 3 == 0 for k in range(4))])
    split = Split(parts.train, parts.validation, parts.validation)
    found = pd.DataFrame(people.ask_people(everything, errors, split, [0.05, 0.2]))
    return found[~found["method"].isin(["oracle"])]


def own_case(w):
    frame = pd.DataFrame(w["X"], columns=[f"feature/{k}" for k in range(w["X"].shape[1])])
    for k, agent in enumerate("xyz"):
        frame[f"score/{agent}"], frame[f"cost/{agent}"] = w["scores"][:, k], w["dollars"][:, k]
    frame.loc[rows().train[:9], "score/x"] = np.nan  # gaps, to be filled in from development rows
    frame["split"] = np.where(np.isin(np.arange(N), rows().test), "test", "train")
    return intake.read(frame)


@procedure("advice.advise", "choosing.choose", "choosing.cross_validated", "choosing.fitted_router", "intake.filled")
def advice_on_a_table(w):
    """Method, setting, offsets and trials; the delivered router, by what it says of development rows."""
    case = own_case(w)
    found = advice.advise(case, 0.3)
    seen = case.features[np.concatenate([rows().train, rows().validation])]
    return found.choice.method, found.choice.trials, found.choice.router.decision_function(seen)


@procedure("dollars.price_curve")
def agent_that_a_saving_is_measured_against(w):
    return dollars.price_curve(own_case(w)).agent, "y"[: int(w["scores"][rows().train[0], 0])]


#: Public functions that choose, fit or fill nothing from rows, and why.
EXEMPT = {
    "they only measure what was chosen": "compare.measure compare.records posthoc.measure posthoc.curve"
    " prompts.spending prompts.call_performance prompts.gap_to_oracle"
    " posthoc.oracle controls.routing_skill dollars.bought",
    "they call a procedure above, part by part": "compare.tune_and_measure compare.choose_setting choosing.fit"
    " variants.image_study variants.score_study people.people_study imbalance.feature_study imbalance.pixel_study"
    " imbalance.run prompts.study",
    "they divide rows or make agents before anything is chosen": "prompts.resplit prompts.folds advice.held_out"
    " choosing.grouped_folds choosing.drawn variants.clean variants.variant variants.planned variants.divide"
    " variants.record variants.base_outputs variants.agent_outputs imbalance.imbalance imbalance.imbalanced_experts"
    " imbalance.population_rows imbalance.expert_problem imbalance.image_features imbalance.scores_from_pixels"
    " imbalance.pixel_settings people.answers people.action_costs",
    "they read, convert or describe a table whole": "intake.read intake.as_frame intake.from_arrays intake.from_labels"
    " advice.features prompts.list_prices prompts.with_list_prices suspicions.suspicions suspicions.shuffled_agents"
    " suspicions.swapped_columns posthoc.compared posthoc.settings_of choosing.candidates",
    "they break a problem on purpose": "controls.shuffled_experts controls.shuffled_costs controls.shown_test_rows"
    " controls.untrained_routes",
    "the methods' table of functions, covered by tuned_routers": "methods.in_sample",
}


# ---------------------------------------------------------------- the check


def frozen(outcome: Any) -> bytes:
    """An outcome to the last bit."""

    def plain(value: Any) -> Any:
        if isinstance(value, pd.DataFrame):
            return value.to_csv(index=False)
        if isinstance(value, np.ndarray):
            return (str(value.dtype), value.shape, value.tolist() if value.dtype == object else value.tobytes())
        if isinstance(value, dict):
            return [(str(k), plain(v)) for k, v in value.items()]
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value

    return pickle.dumps(plain(outcome))


@pytest.mark.parametrize("name", PROCEDURES)
def test_held_out_rows_change_nothing(name):
    assert frozen(PROCEDURES[name](world())) == frozen(PROCEDURES[name](poisoned(world(), rows().test)))


@pytest.mark.parametrize("name", PROCEDURES)
def test_held_in_rows_are_noticed(name):
    seen = np.concatenate([rows().train, rows().validation])
    assert frozen(PROCEDURES[name](world())) != frozen(PROCEDURES[name](poisoned(world(), seen)))


def test_every_public_procedure_is_registered_or_exempt():
    known = set().union(*COVERED.values(), *(set(names.split()) for names in EXEMPT.values()))
    known |= {f"neighbours.{name}" for name in ("kernel_features",)}
    modules = (compare, posthoc, variants, people, prompts, controls, imbalance, advice, choosing, dollars, intake,
               suspicions)  # fmt: skip
    found = {
        f"{module.__name__.rsplit('.', 1)[1]}.{name}"
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
        and not {"frame", "fmt"} & set(inspect.signature(function).parameters)  # tables of what was measured
    }  # fmt: skip
    assert found <= known, f"neither registered nor exempt: {sorted(found - known)}"
