"""Made-up routing tables."""

import numpy as np
import pandas as pd


def table(n=120, n_agents=3, *, seed=0, dollars=True, split=True, edge=0.5):
    """Prompts of three kinds; agent k is better on kind k by `edge`, and every prompt is easy or hard for all."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3, size=n)
    words = ("sum multiply integer equation", "poem rhyme verse sonnet", "court law statute appeal")
    frame = pd.DataFrame({
        "prompt": [f"{words[k]} number {i} {rng.integers(99)}" for i, k in enumerate(kind)],
        "task": np.array(["arithmetic", "poetry", "law"])[kind],
    })  # fmt: skip
    if split:
        frame["split"] = np.where(np.arange(n) % 3 == 0, "test", "train")
    ease = rng.normal(size=n)
    for k in range(n_agents):
        chance = 0.35 + edge * (kind == k % 3) + 0.12 * ease
        frame[f"score/a{k}"] = np.clip(chance + 0.1 * rng.normal(size=n), 0, 1)
        if dollars:
            frame[f"cost/a{k}"] = 0.001 * (k + 1) * rng.uniform(0.5, 1.5, n)
    return frame
