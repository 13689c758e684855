"""Poisoned hold-out: nothing that is chosen or fitted may depend on a held-out row.

Each procedure is run twice on a small world, the second time with everything changed in the held-out rows: features,
costs, scores, dollars, labels, tasks. What it chose, fitted, filled in or counted in must be the same to the last bit.
Then the held-in rows are changed, and it must notice: a check that could not fail would prove nothing.

Every public function that takes a problem, a sample, a case, a table or a split is either registered here or exempt,
with the reason; the last test fails when a new one is neither.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from l2d_utils import methods, neighbours, scores
from l2d_utils.data import RoutingTable, Split
from l2d_utils.studies import compare, prompts

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
