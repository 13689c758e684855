"""Kept parts of long studies: a part is used again only for the same arguments, the same data and the same code.

`keep` calls a function and stores what it returns. The key holds every argument (arrays by their content) and the
source of the function's module together with all that it imports from this package: a change to a plot retrains
nothing, a change to a loss retrains everything that used it. A kept file is sealed by a checksum.
"""

import ast
import functools
import hashlib
import inspect
import io
import json
import re
import sysconfig
import types
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from l2d_utils.results import read_table, write_atomically

PACKAGE = Path(__file__).resolve().parent
#: What a kept part can be.
Kept = pd.DataFrame | dict[str, np.ndarray]


def keep(
    folder: str | Path, compute: Callable[..., Kept], /, *, say: Callable[[str], None] | None = None,
    resume: str = "", **arguments: Any,
) -> Kept:  # fmt: skip
    """`compute(**arguments)`, kept in `folder` under a key of what it depends on, or read back from there.

    Args:
        compute: a function of a module (or a partial of one); returns a data frame (kept as .csv) or a dictionary of
            arrays (kept as .npz).
        say: is called with a line about the part before it is computed.
        resume: name of an argument of `compute` that is given a file beside the kept part, from which a long training
            that was stopped goes on; the file is deleted at the end.
        arguments: everything that the result depends on; paths are refused, since a name says nothing of a content.

    Raises:
        ValueError: the kept file is damaged, or belongs to another key (the file is named, and stays as it is).
        TypeError: an argument that cannot be part of a key (named), or a result that cannot be kept.
    """
    described = {name: describe(value, name) for name, value in arguments.items()}
    key = json.dumps({"of": describe(compute, "compute"), "with": described}, sort_keys=True)
    words = "-".join(str(v) for v in arguments.values() if isinstance(v, (str, int, float)))
    name = f"{_name(compute)}-{re.sub(r'[^A-Za-z0-9.]+', '-', words)[:48].strip('-.')}"
    stem = Path(folder) / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    table, arrays, unfinished = (Path(f"{stem}{suffix}") for suffix in (".csv", ".npz", ".unfinished"))
    for path, read in ((table, read_table), (arrays, _read_arrays)):
        if path.is_file():
            return read(io.BytesIO(_sealed(path, key)))
    if say is not None:
        say(name)
    kept = compute(**arguments, **({resume: unfinished} if resume else {}))
    if isinstance(kept, pd.DataFrame):
        path, body, read = table, _frame_bytes(kept), read_table
    elif isinstance(kept, Mapping):
        np.savez(buffer := io.BytesIO(), **{name: np.asarray(array) for name, array in kept.items()})
        path, body, read = arrays, buffer.getvalue(), _read_arrays
    else:
        raise TypeError(f"{_name(compute)} gave a {type(kept).__name__}, not a data frame or a dictionary of arrays")
    seal = json.dumps({"key": key, "sha256": hashlib.sha256(body).hexdigest()}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(seal + b"\n" + body))
    unfinished.unlink(missing_ok=True)
    return read(io.BytesIO(body))  # as a later run will see it


def _name(function: Callable) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return function.__name__


def _sealed(path: Path, key: str) -> bytes:
    seal, _, body = path.read_bytes().partition(b"\n")
    try:
        found = json.loads(seal)
        stored_key, intact = found["key"], found["sha256"] == hashlib.sha256(body).hexdigest()
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise ValueError(f"{path} is damaged (its checksum does not match): delete it, and it is computed anew")
    if stored_key != key:
        raise ValueError(f"{path} was made with other arguments, data or code than its name says: delete it")
    return body


def _frame_bytes(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _read_arrays(body: io.BytesIO) -> dict[str, np.ndarray]:
    try:
        with np.load(body, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile) as error:  # an array of objects was kept: a programming error
        raise TypeError(f"only arrays of numbers and text can be kept: {error}") from None


def describe(value: Any, name: str = "value") -> Any:
    """A JSON value that changes when anything changes that a computation with `value` could notice.

    Raises:
        TypeError: a path, an open file, or another thing whose content cannot be told; `name` is named.

    Example:
        >>> describe({"rows": range(3), "lr": 0.1})
        {'rows': [0, 1, 2], 'lr': 0.1}
    """
    if value is None or isinstance(value, (int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        plain = np.ascontiguousarray(value.astype(str) if value.dtype == object else value)
        return f"array {value.dtype} {value.shape} {hashlib.sha256(plain.tobytes()).hexdigest()}"
    if isinstance(value, pd.DataFrame):
        return f"frame {[str(d) for d in value.dtypes]} {hashlib.sha256(_frame_bytes(value)).hexdigest()}"
    if isinstance(value, Mapping):
        return {str(k): describe(v, f"{name}[{k!r}]") for k, v in value.items()}
    fields = getattr(value, "__dataclass_fields__", getattr(value, "_fields", None))  # the latter: a named tuple's
    if fields is not None and not isinstance(value, type):
        return {type(value).__qualname__: describe({field: getattr(value, field) for field in fields}, name)}
    if isinstance(value, (list, tuple, range)):
        return [describe(v, f"{name}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return sorted(str(describe(v, name)) for v in value)
    if isinstance(value, functools.partial):
        return {"partial": [describe(part, name) for part in (value.func, value.args, value.keywords)]}
    if isinstance(value, (types.FunctionType, type)):
        return _described_code(value, name)
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return str(value)
    if isinstance(value, types.ModuleType):
        path = Path(getattr(value, "__file__", None) or "").resolve()
        return f"{value.__name__} {source_sha256(path)}" if path.is_relative_to(PACKAGE) else value.__name__
    if hasattr(value, "get_params"):  # an estimator
        return [_described_code(type(value), name), describe(value.get_params(deep=False), name)]
    if hasattr(value, "__wrapped__"):  # a cached function
        return describe(value.__wrapped__, name)
    if callable(value) and hasattr(value, "__name__"):  # built in
        return f"{getattr(value, '__module__', '')}.{value.__name__}"
    raise TypeError(f"{name}: a {type(value).__name__} cannot be part of a key; pass what it holds")


#: Functions and classes that are being described: one may call itself.
_open: list[Any] = []


def _described_code(code: Any, name: str) -> Any:
    """Of this package: the source that it stands in. Of an installed library: its name. Of a stranger's, as in a
    notebook: what it does, and what it takes from around it."""
    where = f"{code.__module__}.{code.__qualname__}"
    try:
        path = Path(inspect.getsourcefile(code) or "").resolve()
    except TypeError:  # typed at a prompt
        path = Path()
    if path.is_relative_to(PACKAGE) and "<locals>" not in where:
        return f"{where} {source_sha256(path)}"
    if "site-packages" in path.parts or path.is_relative_to(sysconfig.get_path("stdlib")) or code in _open:
        return where
    _open.append(code)
    try:
        if isinstance(code, type):
            parts = {k: v for k, v in vars(code).items() if isinstance(v, types.FunctionType)}
            return [where, *(describe(base, name) for base in code.__bases__), describe(parts, name)]
        blocks = [code.__code__]
        for block in blocks:  # functions inside it, too
            blocks += [c for c in block.co_consts if isinstance(c, types.CodeType)]
        does = [[b.co_code.hex(), str([c for c in b.co_consts if not isinstance(c, types.CodeType)])] for b in blocks]
        names = {n for b in blocks for n in b.co_names if n in code.__globals__}
        around = {n: code.__globals__[n] for n in sorted(names)}
        closed = [cell.cell_contents for cell in code.__closure__ or ()]
        around |= zip(code.__code__.co_freevars, closed, strict=True)
        defaults = [code.__defaults__, code.__kwdefaults__]
        return [where, does, describe(defaults, name), {k: describe(v, f"{name}: {k}") for k, v in around.items()}]
    finally:
        _open.pop()


@functools.cache
def source_sha256(path: Path) -> str:
    """Checksum of a module of this package and of every module of the package that it imports, directly or not."""
    found = [path.resolve()]
    for module in found:  # those that it adds, too
        found += _imported(module) - set(found)
    return _sha256(found)


def _imported(module: Path) -> set[Path]:
    """Files of this package that a module imports; a package stands for its __init__.py."""
    names = []
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    inside = [PACKAGE.joinpath(*name.split(".")[1:]) for name in names if name.startswith(f"{PACKAGE.name}.")]
    return {p for place in inside for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()}


def package_sha256() -> str:
    """Checksum of all source files of the package."""
    return _sha256(PACKAGE.rglob("*.py"))


def _sha256(modules: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(modules):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def provenance(compute: Callable, **about: Any) -> pd.DataFrame:
    """What made a stored table: columns what, value. The source of `compute` and of all that it imports, the package's
    version, torch's, and `about` (data sets by name and checksum)."""
    import torch

    from l2d_utils import __version__

    found: dict[str, Any] = {}
    for name, value in about.items():
        found |= {name: value.name, f"{name} sha256": value.sha256} if hasattr(value, "sha256") else {name: value}
    source = source_sha256(Path(inspect.getsourcefile(compute)))
    found |= {"code": f"{compute.__module__}.{compute.__name__}", "code sha256": source}
    found |= {"package version": __version__, "torch": torch.__version__}
    return pd.DataFrame({"what": list(found), "value": [str(v) for v in found.values()]})
