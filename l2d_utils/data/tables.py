"""Routing tables: prompts, the scores of several agents, and prices."""

import functools
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from l2d_utils.data.files import DataError, data_folder, digest, frozen, package_file, read_checked, read_parquet


@dataclass(frozen=True, eq=False)
class RoutingTable:
    """Prompts and how well each of K agents answered them.

    Attributes:
        scores: float64 (n, K) in [0, 1].
        dollars: float64 (n, K) per request, or None.
        task, split: str (n,), or None.
    """

    prompts: list[str]
    scores: np.ndarray
    agents: tuple[str, ...]
    dollars: np.ndarray | None
    task: np.ndarray | None
    split: np.ndarray | None
    name: str
    source: str
    sha256: str


ROUTING_SOURCES = {
    "llmrouter9": "5,989 prompts of 14 tasks answered by 9 open LLMs (ulab-uiuc/LLMRouter, MIT)",
    "routellm_mmlu": "14,042 MMLU questions, GPT-4-1106 and Mixtral-8x7B (lm-sys/RouteLLM, Apache-2.0)",
    "routellm_gsm8k": "1,319 GSM8K problems, GPT-4-1106 and Mixtral-8x7B (lm-sys/RouteLLM, Apache-2.0)",
}


def load_routing(name_or_path: str | Path) -> RoutingTable:
    """Load "paretobandit" (embedded), a name under `$L2D_DATA_DIR/routing`, or a .csv or .parquet path.

    Columns: prompt (text), optionally task and split (text), score/<agent> in [0, 1] for two or more agents, optionally
    cost/<agent> in dollars per request, for all agents or none. Other columns are ignored. FileNotFoundError: no such
    table. DataError: column, row (the first is row 0) and value are named.

    Example:
        >>> table = load_routing("paretobandit")
        >>> len(table.prompts), table.scores.shape, table.agents[0]
        (3609, (3609, 3), 'meta-llama/llama-3.1-8b-instruct')
    """
    name = str(name_or_path)
    if name == "paretobandit":
        return _paretobandit()
    path, folder = Path(name).expanduser(), data_folder()
    if path.suffix.lower() not in (".csv", ".parquet"):
        path = folder and folder / "routing" / f"{name}.parquet"
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"no routing table {name!r}: give 'paretobandit', the path of a .csv or .parquet file, or the name of "
            f"a file $L2D_DATA_DIR/routing/<name>.parquet (L2D_DATA_DIR is {folder or 'not set'})"
        )
    frame = read_table(path)
    source = ROUTING_SOURCES.get(name, f"{len(frame):,} prompts from {path.name}")
    return routing_table(frame, name=path.stem, source=source, sha256=digest(path.read_bytes()))


def read_table(path: Path, empty: Sequence[str] = (), **how: str) -> pd.DataFrame:
    """A .csv or .parquet file as it is, prompts and tasks of a csv as text. DataError: not readable, or a column that
    stands there twice. empty: cells of a csv's score/<agent> and cost/<agent> columns that are read as missing (NaN).
    how: further arguments of `pandas.read_csv`: sep, decimal."""
    if path.suffix.lower() == ".parquet":
        return read_parquet(path).to_pandas()
    try:
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, **how).iloc[0].tolist()
        _check_distinct(path, header)  # pandas would rename the second of two
        # Prompts such as "NA" or "null" are text: no cell is read as missing; empty scores are caught later.
        missing = {c: list(empty) for c in header if c.startswith(("score/", "cost/"))} if empty else None
        as_text = {"dtype": dict.fromkeys(("prompt", "task", "split"), str), "na_values": missing}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            return pd.read_csv(path, **as_text, **how, keep_default_na=False, low_memory=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable UTF-8 csv file ({error})") from None


def _check_distinct(name: str | Path, columns: list[str]) -> None:
    if doubled := sorted({c for c in columns if columns.count(c) > 1}):
        raise DataError(f"{name}: the column {doubled[0]!r} stands there {columns.count(doubled[0])} times")


def routing_table(frame: pd.DataFrame, *, name: str, source: str, sha256: str = "") -> RoutingTable:
    """Check a table in `load_routing`'s layout and turn it into arrays; raises `DataError`."""
    if not len(frame):
        raise DataError(f"{name}: the table has no rows")
    columns = [str(c) for c in frame.columns]
    _check_distinct(name, columns)
    agents = tuple(c.removeprefix("score/") for c in columns if c.startswith("score/"))
    if "prompt" not in columns or len(agents) < 2:
        needed = "a column 'prompt' and at least two columns 'score/<agent>' are needed"
        raise DataError(f"{name}: {needed}; found {columns[:12]}")
    priced = [c.removeprefix("cost/") for c in columns if c.startswith("cost/")]
    if priced and set(priced) != set(agents):
        odd = sorted(set(priced) ^ set(agents))[0]
        side = "a cost but no score" if odd in priced else "a score but no cost, unlike others"
        raise DataError(f"{name}: the agent {odd!r} has {side}; give cost/<agent> for all agents or for none")

    def per_agent(kind: str, upper: float) -> np.ndarray:
        return frozen(np.stack([_numbers(frame, f"{kind}/{a}", name, upper) for a in agents], axis=1))

    prompts, scores = _text(frame, "prompt", name).tolist(), per_agent("score", 1.0)
    dollars = per_agent("cost", np.inf) if priced else None
    task, split = (frozen(_text(frame, c, name).astype(str)) if c in columns else None for c in ("task", "split"))
    return RoutingTable(prompts, scores, agents, dollars, task, split, name, source, sha256)


def _text(frame: pd.DataFrame, column: str, name: str) -> np.ndarray:
    values = frame[column].to_numpy(dtype=object)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{name}: column {column!r}, row {row}: text is expected; found {value!r}")
    return values


def _numbers(frame: pd.DataFrame, column: str, name: str, upper: float) -> np.ndarray:
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if len(wrong := np.flatnonzero(~(np.isfinite(values) & (values >= 0) & (values <= upper)))):
        row = int(wrong[0])
        unit = "a score in [0, 1]" if upper == 1.0 else "a cost in dollars, finite and >= 0,"
        found = repr(frame[column].iloc[row]) + (f" (and {len(wrong) - 1} more rows)" if len(wrong) > 1 else "")
        raise DataError(f"{name}: column {column!r}, row {row}: {unit} is expected; found {found}")
    return values


@functools.lru_cache(maxsize=1)
def _paretobandit() -> RoutingTable:
    contents, records = [], []
    for split, file in (("validation", "val.jsonl"), ("test", "test_holdout.jsonl")):
        contents.append(read_checked(package_file("pareto_bandit", f"data/examples/{file}")))
        for line in contents[-1].splitlines():  # of bytes: text lines would also end at U+2028
            row = json.loads(line)
            record = {"prompt": row["prompt"], "task": row["source"], "split": split}
            for agent, arm in row["arms"].items():
                record[f"score/{agent}"], record[f"cost/{agent}"] = arm["reward"], arm["cost"]
            records.append(record)
    source = (
        f"{len(records):,} prompts answered by 3 LLMs, shipped with paretobandit (Apache-2.0): the scores "
        "are rewards given by a judge model, the costs dollars per request"
    )
    return routing_table(pd.DataFrame(records), name="paretobandit", source=source, sha256=digest(*contents))
