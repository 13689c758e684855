"""A routing table of a million prompts and twenty agents: read, checked and repaired, from parquet and from csv.

The table is made up in a temporary folder. The time counts from the file to the checked `Case`, the odd cells found
and the suspicions tested. Beside it: how long a saved router takes for one new prompt.
"""

from __future__ import annotations

import argparse
import tempfile
import timeit
from pathlib import Path

import numpy as np
import pandas as pd
from timing import report, seconds

from l2d_utils import own, text
from l2d_utils.own import intake

TASKS = ("algebra", "law", "poetry", "code", "history", "chess", "biology", "translation")


def table(n: int, n_agents: int, seed: int = 0) -> pd.DataFrame:
    """Prompts of about eighty characters, scores of three digits with 1 % missing, real dollar costs, a hold-out."""
    rng = np.random.default_rng(seed)
    task = rng.integers(len(TASKS), size=n)
    words = np.array(["prove", "explain", "summarise", "compare", "why", "number", "judge", "river", "matrix", "rhyme"])
    filling = words[rng.integers(len(words), size=(n, 8))]
    frame = pd.DataFrame({
        "prompt": [f"{TASKS[t]} {i}: {' '.join(row)}" for i, (t, row) in enumerate(zip(task, filling, strict=True))],
        "task": np.array(TASKS)[task],
        "split": np.where(rng.random(n) < 0.1, "test", "train"),
    })  # fmt: skip
    ease = 0.2 * rng.normal(size=n)
    for k in range(n_agents):
        score = np.clip(0.5 + ease + 0.2 * (task == k % len(TASKS)) + 0.2 * rng.normal(size=n), 0, 1).round(3)
        frame[f"score/agent-{k:02d}"] = np.where(rng.random(n) < 0.01, np.nan, score)
    for k in range(n_agents):
        frame[f"cost/agent-{k:02d}"] = (1e-4 * (k + 1) * rng.uniform(0.5, 1.5, n)).round(6)
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--agents", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parquet, csv = Path(folder) / "table.parquet", Path(folder) / "table.csv"
        frame = table(arguments.rows, arguments.agents)
        frame.to_parquet(parquet)
        frame.to_csv(csv, index=False)
        del frame
        for path in (parquet, csv):
            found = []
            took = seconds(lambda path=path, found=found: found.append(intake.read(path)))
            rows = len(found[0].scores)
            report(f"read and check {rows:,} rows × {arguments.agents} agents, {path.suffix[1:]}", took, 20, "s")
            assert rows == arguments.rows and found[0].scores.shape[1] == arguments.agents
            del found
        case, prompt = intake.read(table(2000, 3)), "Prove that the square root of 2 is irrational."
        for method in ("plug_in", "knn", "two_stage", "mild_offsets"):
            advice = own.advise(case, 0.1, methods=[method])
            own.save(own.AgentRouter(advice.choice.candidate_router, advice.case.agents, embeds=True), folder)
            router = own.load(folder)
            assert router.route(case.prompts) == [
                advice.case.agents[k] for k in advice.choice.candidate_router.predict(text.embed(case.prompts))
            ]
            took = 1000 * np.median(timeit.repeat(lambda router=router: router.route(prompt), number=1, repeat=50))
            report(f"a new prompt through a saved router ({method})", took, 5, "ms")


if __name__ == "__main__":
    main()
