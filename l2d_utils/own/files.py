"""The files people have: separators, gzip, JSON lines, one row per prompt and model. Every reading is a data frame."""

import gzip
from pathlib import Path

import pandas as pd

from l2d_utils.data import DataError, read_table
from l2d_utils.own.cells import EMPTY

#: Ends of file names that can be read, each also with .gz behind it but for parquet.
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
#: What the columns of a table with one row per prompt and model may be called.
_LONG = {
    "prompt": ("prompt", "query", "question", "input", "instruction"),
    "model": ("model", "model_name", "agent", "llm"),
    "score": ("score", "performance", "correct", "reward", "quality"),
    "cost": ("cost", "price", "dollars", "total_cost"),
    "task": ("task", "task_name", "dataset", "eval_name"),
}


def ending(path: Path) -> str:
    """The end of the name that says how to read the file, "" for none that can be read."""
    name = path.name.lower()
    name = name if name.endswith(".parquet") else name.removesuffix(".gz")
    return next((end for end in ENDINGS if name.endswith(end)), "")


def read_file(path: Path) -> pd.DataFrame:
    """The file as it is, prompts, tasks and splits as text; raises `DataError` of one line."""
    try:
        if ending(path) == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        if ending(path) == ".parquet":
            return read_table(path, EMPTY)
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
            header = file.readline(1_000_000)
        separator = max(",;\t", key=lambda mark: header.count(mark.encode()))
        return read_table(path, EMPTY, sep=separator, decimal="," if separator == ";" else ".")
    except DataError as error:
        raise DataError(" ".join(str(error).split())) from None
    except (OSError, ValueError, TypeError, OverflowError, NotImplementedError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def one_row_per_prompt(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, str]:
    """The table with columns score/<agent>, and in words what was turned; as it is where it is no table with one row
    per prompt and model.

    Raises:
        DataError: a prompt and a model that stand together in two rows.
    """
    known = {str(c).strip().casefold(): c for c in frame.columns}
    of = {kind: known[n] for kind, names in _LONG.items() for n in reversed(names) if n in known}
    if any(n.startswith(("score/", "label/")) for n in known) or not {"prompt", "model", "score"} <= of.keys():
        return frame, ""
    keys = frame[[of["prompt"], of["model"]]].astype(str).set_axis(["prompt", "model"], axis=1)
    if (twice := keys.duplicated()).any():
        prompt, model = keys[twice].iloc[0]
        raise DataError(f"{name}: the prompt {prompt[:60]!r} and {model!r} stand together in two rows; give it one")
    wide = frame.groupby(keys["prompt"], sort=False).first()
    table = {"prompt": wide.index} | ({"task": wide[of["task"]].to_numpy()} if "task" in of else {})
    for kind in [kind for kind in ("score", "cost") if kind in of]:
        cells = keys.assign(cell=frame[of[kind]]).pivot(index="prompt", columns="model", values="cell")
        table |= {f"{kind}/{a}": cells[a].reindex(wide.index).to_numpy() for a in keys["model"].unique()}
    used = ", ".join(repr(str(column)) for column in of.values())
    return pd.DataFrame(table), f"one row per prompt and model (columns {used})"
