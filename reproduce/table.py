"""The one table of a sweep: every measured number, and beside it what it was measured with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from l2d_utils.results import write_atomically

from . import provenance
from .grid import Task

# Of each run: its key (name and address), when it started (UTC), the kernel's peak memory (null where the system does
# not say), the attempt (above 1 when workers were lost), the data sets (name, source, sha256), L2D_DATA_DIR's content.
# Parameters, sources, git and packages are JSON.
PROVENANCE = ["run", "parameters", "started", "seconds", "peak_bytes", "attempt", "sources", "data_sha256"]
PROVENANCE += ["notebook_sha256", "package_sha256", "git", "python", "platform", "processor", "gpu", "packages"]
NUMBERS = {"value": pa.float64(), "seconds": pa.float64(), "peak_bytes": pa.int64(), "attempt": pa.int64()}
SCHEMA = pa.schema(  # `table`: the CSV that the number stands in
    [(name, NUMBERS.get(name, pa.string())) for name in (*provenance.MEASURED, "table")]
    + [(name, pa.dictionary(pa.int32(), NUMBERS.get(name, pa.string()))) for name in PROVENANCE]
)


def write(path: Path, root: Path, finished: Sequence[tuple[Task, Mapping]]) -> None:
    """Write the numbers of finished tasks, in this order, to a parquet file."""
    parts = [SCHEMA.empty_table()]
    for task, record in finished:
        known = {"run": task.key, **record["facts"], **record}
        same = {name: known[name] for name in PROVENANCE}
        same |= {k: json.dumps(v, sort_keys=True) for k, v in same.items() if isinstance(v, (dict, list))}
        rows = [row | same for row in measured(root / "finished" / task.key / "figures", task.job.name)]
        parts.append(pa.Table.from_pylist(rows, schema=SCHEMA))
    whole = pa.concat_tables(parts).unify_dictionaries()
    write_atomically(path, lambda p: pq.write_table(whole, p))


def measured(figures: Path, name: str) -> list[dict]:
    """The numbers that a run of the notebook `name` left in a folder. Raises ValueError for one that is none."""
    return [
        row | {"table": path.name, "value": float(row["value"])}
        for path in sorted(figures.glob("[!.]*.csv"))
        for row in provenance.numbers(path, name)
    ]
