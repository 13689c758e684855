"""The long studies: every method on real tables, in parts that are kept as they are finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from l2d_utils.data import RoutingTable, Split, load_routing
from l2d_utils.losses import PRESETS
from l2d_utils.neighbours import kernel_features
from l2d_utils.results import TIDY, tidy
from l2d_utils.routing.calls import strongest_calls
from l2d_utils.routing.comparing import evaluate, folds, records
from l2d_utils.routing.prices import list_prices, problem_at_price, with_list_prices
from l2d_utils.studies.compare import Problem, remember
from l2d_utils.text import embed, embed_tfidf
from l2d_utils.tuning import WITH_OFFSETS


def study(
    table: RoutingTable,
    splits: Sequence[Split],
    features: Callable[[Split], NDArray],
    price_weights: Iterable[float],
    methods: Sequence[str],
    folder: str | Path,
    *,
    l2: float | None = None,
    say: Callable[[str], None] = print,
    **constants: Any,
) -> pd.DataFrame:
    """All methods, whole grids, on all splits (their numbers are the seeds) and price weights.

    What is finished is kept in `folder`, one part per split, price weight and family (a method and the same with
    offsets); a study that was stopped goes on from there, and a method that is added costs only its own parts.

    Args:
        features: split → X (n, d), fitted on its training rows only.
        l2: as in `tuning.tune`.
        constants: entries of the other TIDY columns; `study` also names the kept files.

    Returns:
        results.TIDY frame with the price weight as `setting`, as from `studies.compare`.
    """
    families: dict[str, list[str]] = {}
    for method in methods:
        families.setdefault(WITH_OFFSETS.get(method, method), []).append(method)
    found = []
    for seed, split in enumerate(splits):
        X: list[NDArray] = []  # made when first needed: a study that goes on skips the finished splits
        for weight in price_weights:
            for family in families.values():

                def measure_part(split=split, weight=weight, seed=seed, X=X, family=family) -> pd.DataFrame:
                    if not X:
                        X.append(features(split))
                    problem = problem_at_price(table, X[0], split, weight)
                    part = evaluate(family, problem, dollars=table.dollars, l2=l2)
                    say(f"{table.name}, {constants.get('study', '')}, split {seed}, w = {weight:g}, {family[0]}")
                    return tidy(records(part), data=table.name, seed=seed, setting=f"{weight:g}", **constants)

                key = {"data": table.name, **constants, "weight": weight, "seed": seed, "methods": family}
                found.append(remember(folder, key, measure_part))
    return joined(found)


def joined(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Parts of a study as one sorted table; the controls, which every part repeats, stand in it once."""
    frame = pd.concat(parts, ignore_index=True).drop_duplicates()
    order = ["study", "setting", "method", "seed", "split", "metric"]
    return frame[TIDY].sort_values(order, kind="stable", ignore_index=True)


#: What the full studies compare: every preset, the plain peers, and the methods with offsets.
ALL_METHODS = (*(name for name in PRESETS if name != "mild_free"), "plug_in", "knn", *WITH_OFFSETS)


def nine_models_study(folder: str | Path, *, n_folds: int = 10, say: Callable[[str], None] = print) -> pd.DataFrame:
    """All methods on "llmrouter9" at price weights 0, 0.25 and 0.5, every row tested once; see `study`.

    Dollars are list prices, so the dollar unit is the dearest model's price and 0.25 charges it a quarter error.
    """
    table = load_routing("llmrouter9")
    table = with_list_prices(table, list_prices("llmrouter9"))
    embeddings = embed(table.prompts)

    def features(split: Split) -> NDArray:
        return kernel_features(table.prompts, embeddings, table.scores, split.train).astype(np.float32)

    splits = folds(table, n_folds, validation=0.2)
    weights = (0.0, 0.25, 0.5)
    return study(table, splits, features, weights, ALL_METHODS, folder, say=say, notebook="08", study="nine models")


#: Ridge strengths of `ridge_study`; None is the tuned one.
RIDGES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, None)

#: What `ridge_study` compares: linear scorers under several losses, with and without offsets.
RIDGE_METHODS = (
    *("two_stage", "global_temperature", "mild", "dr_cpe_joint", "margin_dr_cpe", "plug_in"),
    *("two_stage_offsets", "mild_offsets", "dr_cpe_offsets", "margin_dr_cpe_offsets"),
)


def ridge_study(folder: str | Path, *, n_folds: int = 10, say: Callable[[str], None] = print) -> pd.DataFrame:
    """What margins and offsets are worth at fixed ridge strengths: "llmrouter9" with 256 TF-IDF features.

    Splits and price weights are those of `nine_models_study`; `study` names the ridge.
    """
    table = load_routing("llmrouter9")
    table = with_list_prices(table, list_prices("llmrouter9"))

    def features(split: Split) -> NDArray:
        train = [table.prompts[i] for i in split.train]
        return embed_tfidf(train, table.prompts, 256, 0)[1].astype(np.float32)

    splits, weights, found = folds(table, n_folds, validation=0.2), (0.0, 0.25, 0.5), []
    for l2 in RIDGES:
        named = {"notebook": "08", "study": "ridge tuned" if l2 is None else f"ridge {l2:g}"}
        found.append(study(table, splits, features, weights, RIDGE_METHODS, folder, l2=l2, say=say, **named))
    frame = joined(found)
    return frame[frame["metric"] == "deferral_loss"].reset_index(drop=True)


def two_models_study(
    folder: str | Path, *, n_folds: Mapping[str, int] | None = None, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """RouteLLM's measures on MMLU and GSM8K, and from MMLU to GSM8K: `setting` names the rows that are measured.

    Features are 64 principal components of the prompt embeddings.
    """
    mmlu, gsm8k = load_routing("routellm_mmlu"), load_routing("routellm_gsm8k")
    prompts, scores = mmlu.prompts + gsm8k.prompts, np.vstack([mmlu.scores, gsm8k.scores])
    start = {mmlu.name: 0, gsm8k.name: len(mmlu.prompts)}
    embeddings = embed(prompts)
    found = []
    for table in (gsm8k, mmlu):
        n = (n_folds or {"routellm_mmlu": 5, "routellm_gsm8k": 10})[table.name]
        for seed, split in enumerate(folds(table, n, validation=0.2)):

            def measure_fold(table=table, split=split, seed=seed) -> pd.DataFrame:
                moved = Split(*(start[table.name] + rows for rows in (split.train, split.validation, split.test)))
                X = PCA(64, svd_solver="full").fit(embeddings[moved.train]).transform(embeddings)
                rows = {table.name: moved.test}
                if table is mmlu:
                    rows[gsm8k.name] = start[gsm8k.name] + np.arange(len(gsm8k.prompts))
                tests = {name: (X[at], *scores[at].T) for name, at in rows.items()}
                measured = strongest_calls(CALL_METHODS, Problem(X, 1.0 - scores, moved), tests)
                say(f"{table.name}, fold {seed}")
                return tidy(measured, notebook="08", study="calls", data=table.name, seed=seed)

            found.append(remember(folder, {"calls": table.name, "seed": seed, "n": n}, measure_fold))
    return pd.concat(found, ignore_index=True)


#: Methods whose scores order the prompts of two models; no operating point, hence no offsets.
CALL_METHODS = (
    "plug_in",
    "knn",
    "two_stage",
    "global_temperature",
    "mild",
    "one_vs_all",
    "dr_cpe_joint",
    "margin_dr_cpe",
)


#: The studies that take long, by the name under which their table is kept.
FULL_STUDIES = {"nine": nine_models_study, "ridge": ridge_study, "calls": two_models_study}
