"""The losses that notebooks write out in plain torch are those of the library, in value and gradient."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from l2d_utils import losses

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def notebook_function(path, name):
    """The function of that name as a notebook defines it, with the notebook's own imports from outside the package."""
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    trees = [ast.parse("\n".join(line for line in c.splitlines() if not line.startswith(("%", "!")))) for c in cells]
    statements = [statement for tree in trees for statement in tree.body]
    imports = [
        s for s in statements
        if (isinstance(s, ast.Import) and all(a.name.split(".")[0] in ("numpy", "torch", "math") for a in s.names))
        or (isinstance(s, ast.ImportFrom) and (s.module or "").split(".")[0] in ("numpy", "torch", "math", "functools"))
    ]  # fmt: skip
    found = [s for s in statements if isinstance(s, ast.FunctionDef) and s.name == name]
    assert len(found) == 1, f"{path.name} defines {name} {len(found)} times"
    namespace = {}
    exec(compile(ast.Module([*imports, *found], []), str(path), "exec"), namespace)
    return namespace[name]


def same(theirs, ours, scores):
    """Both losses of the scores (n, K), in value and gradient."""
    at = [scores.clone().requires_grad_(True) for _ in range(2)]
    values = [theirs(at[0]), ours(at[1])]
    for value in values:
        value.backward()
    torch.testing.assert_close(values[0], values[1], rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(at[0].grad, at[1].grad, rtol=1e-9, atol=1e-12)


def example(seed, n=20, n_agents=4):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, n_agents)) * 3), torch.from_numpy(rng.random((n, n_agents))), rng


@pytest.mark.parametrize("q, focusing", [(0.0, 0.0), (0.7, 0.0), (1.0, 2.0), (0.0, 1.5)])
def test_plain_loss_of_notebook_01(q, focusing):
    plain_loss = notebook_function(NOTEBOOKS / "01_cost_sensitive_deferral.ipynb", "plain_loss")
    for seed in range(5):
        s, W, rng = example(seed)
        rho, delta = (torch.from_numpy(rng.uniform(0.3, 2.0, 4)) for _ in range(2))
        iota, shift = (torch.from_numpy(rng.normal(size=4)) for _ in range(2))
        ours = losses.pair_loss(W, margins=rho, scale=delta, offset=iota, shift=shift, q=q, focusing=focusing)
        same(lambda x, p=(W, rho, delta, iota, shift, q, focusing): plain_loss(x, *p), ours, s)


def test_mild_loss_of_notebook_02():
    mild_loss = notebook_function(NOTEBOOKS / "02_mild.ipynb", "mild_loss")
    for seed in range(5):
        s, W, rng = example(seed)
        rho = torch.from_numpy(rng.uniform(0.3, 2.0, 4))
        ours = losses.pair_loss(W, margins=rho)
        same(lambda x, p=(W, rho): mild_loss(x, *p), ours, s)
        with pytest.raises(AssertionError):  # a loss that forgets the margins is noticed
            same(lambda x, W=W: mild_loss(x, W, torch.ones(4)), ours, s)


@pytest.mark.parametrize("q, focus", [(0.0, 0.0), (0.7, 1.0)])
def test_one_loss_of_notebook_05(q, focus):
    one_loss = notebook_function(NOTEBOOKS / "05_one_loss_two_papers.ipynb", "one_loss")
    for seed in range(5):
        s, W, rng = example(seed)
        rho, delta = (torch.from_numpy(rng.uniform(0.3, 2.0, 4)) for _ in range(2))
        iota, shift = (torch.from_numpy(rng.normal(size=4)) for _ in range(2))
        ours = losses.pair_loss(W, margins=rho, scale=delta, offset=iota, shift=shift, q=q, focusing=focus)
        theirs = {"rho": rho, "q": q, "focus": focus, "delta": delta, "iota": iota, "shift": shift}
        same(lambda x, W=W, p=theirs: one_loss(x, W, **p), ours, s)
