"""The report: tables, figures and the model card, every number from the advice, every foreign text escaped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from l2d_utils import plots, results
from l2d_utils.escape import prompt_html, safe
from l2d_utils.metrics import Interval, deferral_ratios
from l2d_utils.own.advice import Advice
from l2d_utils.own.delivery import EMBEDDING, SNIPPET, AgentRouter, save
from l2d_utils.own.dollars import PriceCurve, bought


def _signed(x: Interval, digits: int = 4) -> str:
    return f"{x.mean:+.{digits}f} [{x.low:+.{digits}f}, {x.high:+.{digits}f}]"


def tests_table(advice: Advice) -> pd.DataFrame:
    """Candidates and controls in words: validation loss, held-out loss, held-out gain with its interval."""
    validation = advice.choice.trials.set_index("method")["validation_loss"]
    table = advice.tests.sort_values("loss", kind="stable")
    return pd.DataFrame({
        "method": [plots.method_label(m) for m in table["method"]],
        "validation loss": [f"{validation[m]:.4f}" if m in validation else "" for m in table["method"]],
        "held-out loss": [f"{x:.4f}" for x in table["loss"]],
        "saved per prompt [95 %]": [_signed(Interval(*r)) for r in table[["mean", "low", "high"]].to_numpy()],
    })  # fmt: skip


def card(advice: Advice, curve: PriceCurve | None = None) -> str:
    """The model card: Markdown with HTML tables, every number taken from `advice`, every foreign text escaped."""
    case, choice = advice.case, advice.choice
    agents = ", ".join(safe(a) for a in case.agents)
    n_dev = int((~case.test).sum()) if case.test is not None else len(case.errors)
    spread = pd.DataFrame(
        [(a, f"{1 - np.nanmean(case.errors[:, k]):.3f}",
          "" if case.dollars is None else f"{1000 * case.dollars[:, k].mean():.4g}",
          f"{deferral_ratios(advice.routes, len(case.agents))[k]:.1%}") for k, a in enumerate(case.agents)],
        columns=["agent", "mean score", "dollars per 1,000", "share of held-out prompts"],
    )  # fmt: skip
    tasks = advice.tasks().head(20)
    tasks["share"], tasks["gain"] = [f"{x:.0%}" for x in tasks["share"]], [f"{x:+.4f}" for x in tasks["gain"]]
    setting = choice.trials.set_index("method").loc[choice.method, "setting"]
    inputs = "features of the table" if case.features is not None else f"prompts, embedded by {EMBEDDING} (static)"
    lines = [
        f"# Router card: {safe(case.name)}", "",
        f"**{safe(advice.verdict())}**", "",
        "## What it is", "",
        f"- Routes each input to one of {len(case.agents)} agents: {agents}.",
        f"- Method: {safe(plots.method_label(choice.method))}" + (f" ({safe(setting)})." if setting else "."),
        f"- Input: {inputs}.",
        f"- Costs in errors: 1 − score + {advice.price_weight:g} × dollars / unit"
        + (", the unit being the mean price of the dearest agent." if case.dollars is not None else " (no prices)."),
        "", "## Data", "",
        f"- {safe(case.source)}; {len(case.errors):,} rows used.",
        f"- Developed on {n_dev:,} rows; reported on {len(advice.rows):,} held-out rows ({advice.outer}).",
        "- What was odd, and what was done:", "",
        prompt_html(case.report(), longest=400), "",
        "## Result on held-out rows", "",
        f"Saved against the best single agent, in errors per prompt: {_signed(advice.gain)} (95 % interval). "
        "Settings and method were chosen on other rows.", "",
        prompt_html(tests_table(advice)), "",
    ]  # fmt: skip
    if curve is not None:
        lines += [
            "## Dollars at equal accuracy", "",
            f"A plug-in router, arranged on development rows to be as accurate as {safe(curve.agent)} (within noise), "
            f"saves "
            f"{_signed(curve.saved, 3)} dollars per 1,000 held-out requests ({curve.share:.1%} of that agent's bill); "
            f"its accuracy differs by {_signed(curve.lead)} from the agent's.", "",
        ]  # fmt: skip
    lines += [
        "## Who is asked", "", prompt_html(spread), "",
        prompt_html(tasks), "",
        "## Where it goes wrong", "",
        "Held-out inputs on which most was lost against the best agent of each (text is shown as text):", "",
        prompt_html(advice.worst()), "",
        "## Limits", "",
        "- It knows prompts like those of the table; for others, or after an agent changes, measure again.",
        "- The intervals speak of the draw of held-out prompts, not of a changed world.",
        "- Scores are taken as given: if a judge model gave them, the router learned to please the judge.",
        "- The embedding averages word vectors: word order, and languages that it hardly knows, are lost on it.", "",
        "## Use", "", "```python", SNIPPET.strip(), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def frontier_figure(curve: PriceCurve, advice: Advice):
    """Held-out score against dollars: the plug-in router at every price, the delivered router, every agent alone."""
    case, rows = advice.case, advice.rows
    here = {key: values.mean() for key, values in bought(1.0 - case.errors, case.dollars, rows, advice.routes).items()}
    line = curve.points.assign(method="plug-in, re-priced")
    chosen = pd.DataFrame([{"method": f"the chosen router, w = {advice.price_weight:g}", **here}])
    return plots.frontier(
        pd.concat([line, chosen]), curve.alone.assign(agent=curve.alone["agent"].map(short)),
        ylabel="mean score", title="Held-out score against dollars",
    )  # fmt: skip


def gains_figure(advice: Advice):
    """Held-out gain over the best single agent: the chosen router, every candidate, controls."""
    shown = advice.tests[~advice.tests["method"].isin(["oracle", "random", "best_single"])]
    return plots.intervals(
        shown, "errors saved per prompt against the best single agent", better="higher",
        references={"best single": 0.0}, title="Held-out rows: what each candidate saves",
    )  # fmt: skip


def short(agent: str, longest: int = 28) -> str:
    """The agent's name without its maker, for figures."""
    name = agent.rsplit("/", 1)[-1]
    return name if len(name) <= longest else name[: longest - 1] + "…"


def write(advice: Advice, out: str | Path, curve: PriceCurve | None = None) -> Path:
    """Router, model card, tables and figure into the folder `out` (`results.output_folder`); returns the folder."""
    folder = results.output_folder(out)
    save(AgentRouter(advice.choice.router, advice.case.agents, advice.case.features is None), folder)
    results.write_atomically(folder / "card.md", lambda path: path.write_text(card(advice, curve), encoding="utf-8"))
    for name, frame in (
        ("oddities", advice.case.report()), ("trials", advice.choice.trials), ("tests", advice.tests),
        ("shares", advice.shares()), ("tasks", advice.tasks()),
    ):  # fmt: skip
        results.save_table(frame, name, folder)
    if curve is not None:
        results.show_figure(frontier_figure(curve, advice), "frontier", curve.points, folder)
    return folder
