"""The router that is taken home: saved without pickle, loaded in a line, asked with a prompt."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from l2d_utils import results, saving, text

#: What a saved router embeds prompts with.
EMBEDDING = "wordllama l2_supercat 256"
#: Five lines that load a saved router and route a new prompt.
SNIPPET = """
from l2d_utils import own

router = own.load("folder")  # router.npz and router.json
agent = router.route("Prove that the square root of 2 is irrational.")
print(agent)
"""


@dataclass(frozen=True, eq=False)
class AgentRouter:
    """A router with its agents' names; it embeds prompts itself if it was trained on prompts."""

    router: BaseEstimator
    agents: tuple[str, ...]
    embeds: bool

    def route(self, prompts: str | Sequence[str] | ArrayLike) -> str | list[str]:
        """The agent's name for one prompt, or a list of names for many (rows of features without an embedding).
        TypeError: prompts that are neither a text nor a list of texts; ValueError: features that do not fit."""
        if self.embeds:
            one = isinstance(prompts, str)
            listed = isinstance(prompts, Iterable) and not isinstance(prompts, (str, bytes, Mapping))
            cells = list(prompts) if listed else [prompts]
            # broken characters as in training; `embed` refuses what is no text
            X = text.embed([c.encode("utf-8", "replace").decode() if isinstance(c, str) else c for c in cells])
        else:
            X = np.asarray(prompts, dtype=np.float64)
            one, X = X.ndim == 1, np.atleast_2d(X)
        names = [self.agents[k] for k in self.router.predict(X)] if len(X) else []
        return names[0] if one else names


def save(router: AgentRouter, folder: str | Path) -> None:
    """Write router.npz and router.json (agents, and what embeds a prompt) into an existing folder; no pickle."""
    folder = Path(folder)
    saving.save(router.router, folder / "router.npz")
    embedding = {"name": EMBEDDING, "sha256": text.CHECKSUMS} if router.embeds else None
    content = json.dumps({"agents": router.agents, "embedding": embedding}, indent=1, ensure_ascii=False)
    results.write_atomically(folder / "router.json", lambda path: path.write_text(content + "\n", encoding="utf-8"))


def load(folder: str | Path) -> AgentRouter:
    """Read what `save` wrote, and make sure that prompts are embedded here as they were in training. ValueError:
    damaged files, or another embedding; FileNotFoundError."""
    path = Path(folder) / "router.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        agents, embedding = tuple(map(str, found["agents"])), found["embedding"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if embedding not in (None, {"name": EMBEDDING, "sha256": text.CHECKSUMS}):
        raise ValueError(f"{path}: the router was trained on the embedding {embedding}; here it is {EMBEDDING}")
    router = saving.load(path.with_name("router.npz"))
    if len(agents) != router.n_agents_:
        raise ValueError(f"{path} names {len(agents)} agents, and the router knows {router.n_agents_}")
    return AgentRouter(router, agents, embedding is not None)
