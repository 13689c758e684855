"""Checks at the border: a `fit`, a public loss or metric checks the tables that it is given; what it computes from them
is trusted inside.

Each error names the argument, the row (where there is one) and what was found there.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_matrix(name: str, values: ArrayLike, *, columns: int | None = None) -> NDArray:
    """Return `values` as a finite floating (n, d) array with n ≥ 1; float32 stays float32, all else is float64.

    An array that is already so is returned as it is, not copied: callers must not write into it.

    Raises:
        ValueError: not two-dimensional, no rows, wrong number of columns, or NaN or infinity in a named row.
    """
    array = np.asarray(values)
    if array.dtype != np.float32:
        try:
            array = array.astype(np.float64, copy=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be numeric; found dtype {array.dtype}") from error
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d); found shape {array.shape}")
    if array.shape[0] == 0:
        raise ValueError(f"{name} has no rows")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"{name} must have {columns} columns; found {array.shape[1]}")
    # One sum sees every NaN and infinity without an (n, d) temporary; overflow alone is settled by the slow path.
    with np.errstate(invalid="ignore", over="ignore"):
        total = array.sum()
    if not np.isfinite(total):
        refuse(name, array, ~np.isfinite(array), "be finite", "column")
    return array


def refuse(name: str, array: NDArray, bad: NDArray[np.bool_], wanted: str, column: str = "agent") -> None:
    """Raise ValueError that names the first entry of a table where the mask `bad` is true, if there is one."""
    if bad.any():
        row, agent = np.argwhere(bad)[0]
        raise ValueError(f"{name} must {wanted}; row {row}, {column} {agent} is {array[row, agent]}")


def check_costs(costs: ArrayLike, name: str = "costs") -> NDArray[np.float64]:
    """Return `costs` as a finite, non-negative float64 (n, K) array with K ≥ 2.

    Raises:
        ValueError: as `check_matrix`; a negative cost in a named row; fewer than two agents.
    """
    array = check_matrix(name, costs).astype(np.float64, copy=False)
    if array.shape[1] < 2:
        raise ValueError(f"{name} needs at least 2 agents (columns); found {array.shape[1]}")
    refuse(name, array, array < 0, "be non-negative")
    return array


def check_weights(weights: ArrayLike) -> NDArray[np.float64]:
    """The same for a table of pair weights (n, K)."""
    return check_costs(weights, "weights")


def check_with_costs(
    name: str, values: ArrayLike, costs: ArrayLike, costs_name: str = "costs"
) -> tuple[NDArray, NDArray[np.float64]]:
    """`check_matrix` and `check_costs` of two tables, which must have the same number of rows."""
    values, costs = check_matrix(name, values), check_costs(costs, costs_name)
    check_same_rows(**{name: values, costs_name: costs})
    return values, costs


def check_same_rows(**arrays: NDArray) -> None:
    """Raise ValueError unless all arrays have the same number of rows; the message gives each name and count."""
    if len({len(array) for array in arrays.values()}) > 1:
        found = ", ".join(f"{name} has {len(array)}" for name, array in arrays.items())
        raise ValueError(f"the arrays must have the same number of rows; {found}")


def check_positive(name: str, value: float, *, or_zero: bool = False) -> float:
    """Return `value` as a float; raise ValueError unless it is a finite number above 0, or 0 where that is allowed."""
    number = float(value)
    if not np.isfinite(number) or number < 0 or (number == 0 and not or_zero):
        raise ValueError(f"{name} must be a finite number {'≥' if or_zero else '>'} 0; found {value}")
    return number


def check_per_agent(name: str, values: ArrayLike, n_agents: int, *, positive: bool = False) -> NDArray[np.float64]:
    """Return `values` as a finite float64 (K,) array; a scalar is repeated for every agent.

    Raises:
        ValueError: wrong length, NaN or infinity, or (with `positive`) a value ≤ 0; the agent is named.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0:
        array = np.full(n_agents, float(array))
    if array.shape != (n_agents,):
        raise ValueError(f"{name} must be one number or {n_agents} numbers, one per agent; found shape {array.shape}")
    bad = ~np.isfinite(array) | ((array <= 0) & positive)
    if bad.any():
        agent = int(np.argmax(bad))
        wanted = "a finite number > 0" if positive else "finite"
        raise ValueError(f"{name} must be {wanted}; agent {agent} has {array[agent]}")
    return array
