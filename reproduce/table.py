"""The one table of a sweep: every measured number, and beside it what it was measured with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from l2d_utils.results import FACTS, TIDY, write_atomically

from . import provenance
from .grid import Task

PROVENANCE = {
    "run": pa.string(),  # the key: name and address
    "parameters": pa.string(),  # JSON, as `sources`, `git` and `packages`
    "started": pa.string(),  # UTC
    "seconds": pa.float64(),
    "peak_bytes": pa.int64(),  # of the kernel; null where the system does not say
    "attempt": pa.int64(),  # above 1 when workers were lost
    "sources": pa.string(),  # the data sets: name, source, sha256
    "data_sha256": pa.string(),  # of the folder L2D_DATA_DIR
    "notebook_sha256": pa.string(),
    "package_sha256": pa.string(),
    "git": pa.string(),
    "python": pa.string(),
    "platform": pa.string(),
    "processor": pa.string(),
    "gpu": pa.string(),
    "packages": pa.string(),
}
SCHEMA = pa.schema(
    [(name, pa.float64() if name == "value" else pa.string()) for name in provenance.MEASURED]
    + [("table", pa.string())]  # the CSV that the number stands in
    + [(name, pa.dictionary(pa.int32(), kind)) for name, kind in PROVENANCE.items()]
)


def place(grid: Path, root: Path) -> Path:
    return root / f"{grid.stem}.parquet"


def write(path: Path, root: Path, finished: Sequence[tuple[Task, Mapping]]) -> int:
    """Write the numbers of finished tasks, in this order, to a parquet file; return how many there are."""
    parts = [_rows(root / "finished" / task.key / "figures", task, record) for task, record in finished]
    whole = pa.concat_tables([SCHEMA.empty_table(), *parts]).unify_dictionaries()
    write_atomically(path, lambda p: pq.write_table(whole, p))
    return len(whole)


def measured(figures: Path, name: str) -> list[dict]:
    """The numbers that a run of the notebook `name` left in a folder. Raises ValueError for one that is none."""
    return [
        row | {"notebook": row["notebook"] or name, "table": path.name, "value": float(row["value"])}
        for path in sorted(figures.glob("[!.]*.csv"))
        for row in provenance.read_rows(path, TIDY, FACTS)
    ]


def _rows(figures: Path, task: Task, record: Mapping) -> pa.Table:
    found = measured(figures, task.job.name)
    columns = [[row[name] for row in found] for name in (*provenance.MEASURED, "table")]
    same = {"run": task.key, **record["facts"], **record}
    for name, kind in PROVENANCE.items():
        value = same[name]
        value = json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value
        # One entry for all rows, since a list of packages has kilobytes; none for what is not known.
        entries, number = ([], None) if value is None else ([value], 0)
        numbers = pa.array([number] * len(found), pa.int32())
        columns.append(pa.DictionaryArray.from_arrays(numbers, pa.array(entries, kind)))
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
