"""THE table of methods: a method is one thing, with one key, one label, one colour and one meaning in every chapter.

Tuning, comparing, the own-table command, plots and the claims ledger read this table and no other. A method is added by

    register(Method("my_loss", "my loss", "[ours]", "#AA3377", "o", make=partial(DeferralRouter, my_loss)))

with my_loss(costs, **params) → objective, for example by `losses.pair_loss`. There are four kinds of entries:

- trained routers: `make` and their settings;
- moved routers: the trained router `base`, with one offset per agent that the rule `offsets` chooses on held-out rows;
- controls: `route` sends rows somewhere without a router being trained;
- scores for one model and one expert: `score` (chapter 07).
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import KNeighborsRegressor

from l2d_utils import scores
from l2d_utils.costs import weight_totals
from l2d_utils.losses import PRESETS
from l2d_utils.metrics import best_single, deferral_loss
from l2d_utils.neighbours import NeighbourRouter
from l2d_utils.routers import DeferralRouter, LabelRouter, PlugInRouter
from l2d_utils.rules import offsets_by_power, offsets_for_costs, offsets_for_shares, route, shrunken_offsets

#: Ridge strengths that a method's own parameters are combined with, and those of a method that has none of its own:
#: 15 settings for each.
RIDGES = (1e-2, 1e-1, 1.0)
FINE_RIDGES = tuple(np.geomspace(1e-3, 10.0, 15).tolist())
#: Neighbours of the k-nearest-neighbour routers, at most half of the training rows.
NEIGHBOURS = (5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 160, 200, 250, 300)

#: The comparisons that a method can stand in: routers for K agents, those among language models, those offered for a
#: table of one's own, scores for one model and one expert.
ROUTERS, PROMPTS, OWN, POSTHOC = "routers", "prompts", "own", "posthoc"


class Moved(NamedTuple):
    """Offsets (K,), the held-out loss that they are reported with, and the one that the setting is chosen by."""

    offsets: NDArray[np.float64]
    loss: float
    chosen_by: float


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        key, label: its name in code and tables, and the one that readers see.
        mark: provenance: "[paper] …", "[prior] …", "[reconstructed] …" or "[ours] …".
        color, marker, line: how it is drawn everywhere (hex, and Matplotlib's marker and line style).
        make: (**setting) → estimator with fit(X, costs), decision_function(X) → (n, K) and predict(X).
        own: values of its own parameters, plainest first; each is combined with `RIDGES`. Without any, `FINE_RIDGES`.
        settings: all settings at once, for an estimator without a ridge.
        base: key of the router that this method moves; offsets: the rule, (scores, costs, problem) → Moved.
        route: (problem, rows) → routes (n,), or (r, n) for the mean over r routings.
        score: (sample, **setting) → (X → (n,)), as in `scores`; own and ridge as for a router.
        needs: fields of the problem that it cannot do without: "labels", "expected", "dollars", "task"; or
            "two agents".
        stands_in: the comparisons in which it stands unless a study says otherwise.
    """

    key: str
    label: str
    mark: str
    color: str
    marker: str = "o"
    line: str = "-"
    make: Callable[..., Any] | None = None
    own: tuple[Mapping[str, Any], ...] = ()
    settings: tuple[Mapping[str, Any], ...] = ()
    base: str = ""
    offsets: Callable[..., Moved] | None = None
    route: Callable[..., NDArray[np.int64]] | None = None
    score: Callable[..., scores.Score] | None = None
    needs: tuple[str, ...] = ()
    stands_in: tuple[str, ...] = field(default=(ROUTERS, PROMPTS, OWN))


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Add a method to the table, checked.

    Raises:
        ValueError: the key is taken, a field is missing, or the estimator does not take one of the settings (named).
    """
    key = method.key
    if key in METHODS:
        raise ValueError(f"key: {key!r} is taken by {METHODS[key].label!r}")
    if missing := [name for name in ("key", "label", "mark", "color", "marker") if not getattr(method, name)]:
        raise ValueError(f"{missing[0]}: the method {key!r} has none")
    if not method.mark.startswith(("[paper]", "[prior]", "[reconstructed]", "[ours]")):
        raise ValueError(f"mark: {key!r} must say [paper], [prior], [reconstructed] or [ours]; found {method.mark!r}")
    if bool(method.base) != bool(method.offsets):
        raise ValueError(f"base, offsets: {key!r} has one without the other")
    if method.base and (method.base not in METHODS or METHODS[method.base].make is None):
        raise ValueError(f"base: {key!r} moves {method.base!r}, which is no trained router of the table")
    if not (method.make or method.base or method.route or method.score):
        raise ValueError(f"make: {key!r} has nothing to make, to move or to route by")
    for setting in settings(method) if method.make else ():
        try:
            made = method.make().set_params(**setting)
            if setting.get("loss_params"):
                build = PRESETS[made.loss].build if made.loss in PRESETS else made.loss
                inspect.signature(build).bind_partial(**setting["loss_params"])
        except (TypeError, ValueError) as error:
            first = " ".join(str(error).split())[:200]
            raise ValueError(f"settings: the estimator of {key!r} does not take {dict(setting)}: {first}") from None
    METHODS[key] = method
    return method


def find(key: str) -> Method:
    """The method of that key; ValueError if there is none."""
    if key not in METHODS:
        raise ValueError(f"method must be one of {sorted(METHODS)}; found {key!r}")
    return METHODS[key]


def standing_in(comparison: str) -> tuple[str, ...]:
    """Keys of the methods that stand in a comparison, in the order of the table."""
    return tuple(key for key, method in METHODS.items() if comparison in method.stands_in)


def label(key: object) -> str:
    """The name that readers see; a key outside the table is shown as it is."""
    return METHODS[str(key)].label if str(key) in METHODS else str(key)


def settings(method: Method, every: int = 1, ridge_factor: float = 1.0) -> list[dict[str, Any]]:
    """The settings that a trained method is tuned over, 15 for each, or every `every`-th of them.

    Thinning starts at the third, so that with every=3 (five settings) or 6 (three) the methods that have a parameter of
    their own keep its values at the strongest ridge, and the others keep weak, middling and strong ridges.

    Args:
        ridge_factor: multiplies every ridge strength; 100/n_train keeps them in proportion to the training size.

    Example:
        >>> settings(METHODS["mild"], every=6)[0]
        {'loss_params': {'gamma': 0.0}, 'l2': 1.0}
    """
    found = [{"loss_params": dict(own), "l2": l2} for own in method.own for l2 in RIDGES]
    found = [dict(setting) for setting in method.settings] or found or [{"l2": l2} for l2 in FINE_RIDGES]
    found = found[0 if every == 1 else 2 :: every]
    return [s | {"l2": s["l2"] * ridge_factor} if "l2" in s else s for s in found]


def fingerprint(keys: ArrayLike) -> list[Any]:
    """What a kept result of these methods depends on, for `cache.keep`: their entries, and the losses they name."""
    found = [find(str(key)) for key in keys]
    found += [METHODS[method.base] for method in found if method.base]
    names = [a for m in found if isinstance(m.make, partial) for a in m.make.args if isinstance(a, str)]
    return [*found, *(PRESETS[name] for name in names if name in PRESETS)]


def shrunken(scores: NDArray, costs: NDArray, problem: Any) -> Moved:
    """`rules.shrunken_offsets`; the setting is chosen jointly with them, by the cross-validated loss.  [ours]"""
    offsets, loss = shrunken_offsets(scores, costs)
    return Moved(offsets, loss, loss)


def in_sample(scores: NDArray, costs: NDArray, problem: Any) -> Moved:
    """The offsets that are best on the very rows, on top of the setting chosen without them: they flatter themselves,
    and are kept to show it.  [ours]"""
    offsets = offsets_for_costs(scores, costs)
    loss = deferral_loss(costs, route(scores, offsets))
    return Moved(offsets, loss, deferral_loss(costs, route(scores)))


def by_power(scores: NDArray, costs: NDArray, problem: Any) -> Moved:
    """`rules.offsets_by_power` with the training rows' weight totals: MILD's power law after training.  [ours]"""
    offsets = offsets_by_power(scores, costs, weight_totals(problem.costs[problem.split.train]))
    loss = deferral_loss(costs, route(scores, offsets))
    return Moved(offsets, loss, loss)


def ideal_shares(scores: NDArray, costs: NDArray, problem: Any) -> Moved:
    """Offsets that give each agent the share that routing by the expected costs gives it, whatever it costs.  [ours]"""
    ideal = problem.expected[problem.split.validation].argmin(axis=1)
    shares = np.bincount(ideal, minlength=costs.shape[1]) / len(ideal)
    offsets = offsets_for_shares(scores, shares)
    loss = deferral_loss(costs, route(scores, offsets))
    return Moved(offsets, loss, deferral_loss(costs, route(scores)))


def _each(name: str, *values: float) -> tuple[dict[str, float], ...]:
    return tuple({name: value} for value in values)


def _add(*fields: Any, **more: Any) -> None:
    register(Method(*fields, **more))


def _loss(key: str, label: str, color: str, marker: str, line: str = "--", **more: Any) -> None:
    """A preset of `losses`, whose mark stands there, behind the common linear scorer."""
    more = {"make": partial(DeferralRouter, key), "stands_in": (ROUTERS, PROMPTS), **more}
    _add(key, label, PRESETS[key].source, color, marker, line, **more)


_RULES = {
    shrunken: ("offsets", " + offsets"), by_power: ("power_offsets", " + power-law offsets"),
    in_sample: ("insample_offsets", " + offsets, in-sample"), ideal_shares: ("shares", ", ideal shares"),
}  # fmt: skip


def _move(base: str, color: str, rule: Callable[..., Moved] = shrunken, line: str = "--", **more: Any) -> None:
    """A router of the table with offsets."""
    suffix, words = _RULES[rule]
    more = {"base": base, "offsets": rule, "stands_in": (ROUTERS, PROMPTS), **more}
    _add(f"{base}_{suffix}", METHODS[base].label + words, "[ours] control", color, "P", line, **more)


# The two papers' methods and the plain ones carry the strong hues of Okabe and Ito's palette, which is safe for the
# common colour-vision deficiencies; the peers from the imbalance literature carry muted ones; untrained scores greys.
_ALL = (ROUTERS, PROMPTS, OWN)
_LAMBDAS = _each("temperature", 1.0, 0.3, 0.1, 3.0, 10.0)
_PRACTICE = "[prior] what a practitioner does first"
_add("plug_in", "plug-in", _PRACTICE, "#E69F00", "s", make=PlugInRouter)
_add("knn", "k nearest neighbours", "[prior]", "#967014", "X", settings=_each("regressor__n_neighbors", *NEIGHBOURS),
     make=partial(PlugInRouter, regressor=KNeighborsRegressor()), stands_in=(PROMPTS, OWN))  # fmt: skip
_loss("two_stage", "two-stage", "#0072B2", "o", "-", score=scores.two_stage, stands_in=(*_ALL, POSTHOC))
_loss("two_stage_cost_sum", "two-stage, cost-sum", "#104E72", "s")
# γ on both sides of 0; γ = 0 is one global temperature
_loss("mild", "MILD", "#D55E00", "D", "-", own=_each("gamma", 0.0, 0.15, 0.35, -0.15, -0.35), stands_in=_ALL)
_loss("mild_free", "MILD, free margins", "#E28E4C", "d", "-.", stands_in=(ROUTERS,))
_loss("global_temperature", "global temperature", "#56B4E9", "v", "-", own=_each("rho", 1.0, 0.5, 0.25, 2.0, 4.0))
_loss("reweighted", "re-weighted", "#999933", "v")
_loss("class_balanced", "class-balanced", "#B8A245", "<", own=_each("beta", 0.9, 0.99, 0.999, 0.9999, 0.99999))
_loss("focal", "focal", "#882255", "p", own=_each("gamma", 0.25, 0.5, 1.0, 2.0, 4.0))
_loss("ldam", "LDAM", "#332288", "h", own=_each("max_shift", 0.1, 0.25, 0.5, 1.0, 2.0))
_loss("logit_adjustment", "logit adjustment", "#44AA99", "d", own=_each("tau", 0.1, 0.25, 0.5, 1.0, 1.5))
_pairs = ((0.1, 0.0), (0.2, 0.0), (0.1, 0.25), (0.2, 0.25), (0.2, 0.5))
_loss("vs", "VS loss", "#AA4499", ">", own=tuple({"gamma": g, "tau": t} for g, t in _pairs))
_loss("one_vs_all", "one-vs-all", "#CC6677", "8")
_score = partial(scores.dr_cpe, ideal="joint", loss="log")
_loss("dr_cpe_joint", "DR-CPE, joint", "#009E73", "^", "-", own=_LAMBDAS, score=_score, stands_in=(*_ALL, POSTHOC))
_score, _in = partial(scores.dr_cpe, ideal="marginal", loss="log"), (ROUTERS, PROMPTS, POSTHOC)
_loss("dr_cpe_marginal", "DR-CPE, marginal", "#0E6956", "<", own=_LAMBDAS, score=_score, stands_in=_in)
_pairs = ((0.3, 0.0), (0.3, 0.2), (0.3, -0.2), (1.0, 0.2), (1.0, -0.2))
_loss("margin_dr_cpe", "margin DR-CPE", "#CC79A7", "*", "-", stands_in=_ALL,
      own=tuple({"temperature": t, "gamma": g} for t, g in _pairs))  # fmt: skip
_near = tuple({"n_neighbors": k, "temperature": t} for t in (1.0, 0.3, 3.0) for k in NEIGHBOURS[2::3])
_add("neighbour_dr_cpe", "neighbour DR-CPE", "[ours]", "#E0B0CC", "<", "-.", make=NeighbourRouter, settings=_near,
     stands_in=(PROMPTS,))  # fmt: skip
_add("classify_then_route", "label guess, known homes", "[ours] control", "#5C4000", "D", ":", make=LabelRouter,
     needs=("labels", "expected"), stands_in=())  # fmt: skip

_move("plug_in", "#BE870A", stands_in=_ALL)
_move("knn", "#6F581F", stands_in=(PROMPTS,))
_move("two_stage", "#349AD3", stands_in=_ALL)
_move("two_stage", "#2A7CA8", by_power, "-.")
_move("mild", "#834617", stands_in=_ALL)
_move("global_temperature", "#35617C", stands_in=(ROUTERS,))
_move("one_vs_all", "#874E5C", stands_in=(ROUTERS,))
_move("dr_cpe_joint", "#088163")
_move("margin_dr_cpe", "#875979", stands_in=_ALL)
_move("neighbour_dr_cpe", "#DBA1C1", line="-.", stands_in=(PROMPTS,))
for _base, _color in (
    ("two_stage", "#7FBBDD"), ("mild", "#B07A55"), ("one_vs_all", "#AC8490"), ("global_temperature", "#7A97A8"),
    ("dr_cpe_joint", "#6FA896"),
):  # fmt: skip
    _move(_base, _color, in_sample, ":", stands_in=())
_move("two_stage", "#095C8C", ideal_shares, ":", needs=("expected",), stands_in=())
_move("one_vs_all", "#5C3E4B", ideal_shares, ":", needs=("expected",), stands_in=())

_TWO = {"needs": ("two agents",), "stands_in": (POSTHOC,)}
_JITKRITTUM = "[prior] Jitkrittum et al. 2023"
_add("confidence", "confidence", "[prior] Chow 1970", "#5B6470", "o", "-.", score=scores.confidence, **_TWO)
_add("entropy", "entropy", "[prior]", "#8C95A1", "s", "-.", score=scores.entropy, **_TWO)
_add("margin", "top-two margin", "[prior]", "#3F4752", "^", "-.", score=scores.margin, **_TWO)
_add("diff_01", "Diff-01", _JITKRITTUM, "#5D3A9B", "X", score=scores.diff_01, **_TWO)
_add("diff_prob", "Diff-Prob", _JITKRITTUM, "#9B7FC7", "d", score=scores.diff_prob, **_TWO)
_add("max_prob", "Max-Prob", _JITKRITTUM, "#8C6D31", "h", score=scores.max_prob, **_TWO)
_add("plug_in_logistic", "plug-in, logistic", _PRACTICE, "#B36B00", "s", "--", score=scores.plug_in, **_TWO)
_add("mozannar_sontag", "Mozannar–Sontag", "[prior] Mozannar, Sontag 2020", "#117733", "p",
     score=scores.mozannar_sontag, **_TWO)  # fmt: skip
_score = partial(scores.dr_cpe, ideal="joint", loss="square")
_add("dr_cpe_square", "DR-CPE, square loss", "[ours]", "#5C9E45", "s", "-.", own=_LAMBDAS, score=_score, **_TWO)
_add("dr_cpe_exponential", "DR-CPE, exponential loss", "[ours]", "#008892", "d", ":", own=_LAMBDAS,
     score=partial(scores.dr_cpe, ideal="joint", loss="exponential"), **_TWO)  # fmt: skip
# the member that validation chooses: nothing of its own is trained
_add("dr_cpe", "DR-CPE", "[paper] form reconstructed", "#16A490", "^",
     score=scores.dr_cpe, needs=("two agents",), stands_in=())  # fmt: skip

_OURS = "[ours] control"
# chosen on training rows, so that the control is something one could deploy
_add("best_single", "best single", _OURS, "#4A4A4A", "|", "--", stands_in=(),
     route=lambda problem, rows: np.full(len(rows), best_single(problem.costs[problem.split.train])))  # fmt: skip
_add("cheapest", "cheapest", _OURS, "#7A6A5A", "_", "--", needs=("dollars",), stands_in=(), route=lambda problem, rows:
     np.full(len(rows), problem.dollars[problem.split.train].mean(axis=0).argmin()))  # fmt: skip
# uniform random routing in expectation: the mean over always asking each agent; nothing is drawn
_add("random", "random", _OURS, "#A3A3A3", "x", ":", score=scores.random, stands_in=(),
     route=lambda problem, rows: np.repeat(np.arange(problem.costs.shape[1])[:, None], len(rows), axis=1))  # fmt: skip
_add("label_oracle", "knows the label", _OURS, "#2B2B55", "*", ":", needs=("expected",), stands_in=(),
     route=lambda problem, rows: problem.expected[rows].argmin(axis=1))  # fmt: skip
_add("oracle", "oracle", _OURS, "#000000", "*", "-.", stands_in=(),
     route=lambda problem, rows: problem.costs[rows].argmin(axis=1))  # fmt: skip
