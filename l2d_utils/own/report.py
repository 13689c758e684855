"""The report: tables, figures and the model card, every number from the advice, every foreign text escaped."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from l2d_utils import results
from l2d_utils.escape import prompt_html, safe
from l2d_utils.methods import label
from l2d_utils.metrics import Interval, deferral_ratios
from l2d_utils.own.advice import Advice
from l2d_utils.own.delivery import EMBEDDING, SNIPPET, AgentRouter, save
from l2d_utils.own.dollars import PriceCurve, bought


def _signed(x: Interval, digits: int = 4) -> str:
    return f"{x.mean:+.{digits}f} [{x.low:+.{digits}f}, {x.high:+.{digits}f}]"


def card(advice: Advice, curve: PriceCurve | None = None, folder: str | Path = "folder") -> str:
    """The model card, Markdown with HTML tables: `card.md.j2`, filled from `advice`. Whatever the template shows goes
    through `escape.safe`, tables through `escape.prompt_html`: no text of the table is taken for markup. Its last
    lines run as printed, if the router lies in `folder`."""
    case, trials = advice.case, advice.choice.trials.set_index("method")
    method = advice.choice.method if advice.outcome == "use" else "best_single"
    agents = pd.DataFrame({
        "agent": case.agents,
        "mean score": np.nanmean(case.scores, axis=0),
        "dollars per 1,000": "" if case.dollars is None else [f"{1000 * x:.4g}" for x in case.dollars.mean(axis=0)],
        "share of held-out prompts": deferral_ratios(advice.delivered[2], len(case.agents)),
    })  # fmt: skip
    tests = advice.tests.sort_values("loss", kind="stable")
    tests = pd.DataFrame({
        "method": tests["method"].map(label),
        "validation loss": tests["method"].map(trials["validation_loss"].map("{:.4f}".format)).fillna(""),
        "held-out loss": tests["loss"],
        "saved per prompt [95 %]": [_signed(Interval(*row)) for row in tests[["mean", "low", "high"]].to_numpy()],
    })  # fmt: skip
    snippet = SNIPPET.strip().replace('"folder"', json.dumps(str(folder), ensure_ascii=False))
    if case.features is not None:  # the router is asked with a row of features
        prompt = '"Prove that the square root of 2 is irrational."'
        snippet = snippet.replace(prompt, f"[0.0] * {case.features.shape[1]}")
    # as it is, the template shows only what is marked here, and everything else as text
    shown = {"finalize": lambda value: value if isinstance(value, Markup) else safe(value)}
    page = Environment(**shown, trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    page.filters |= {"signed": lambda *x: Markup(_signed(*x)), "table": _table, "ours": Markup}
    return page.from_string(Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")).render(
        advice=advice, case=case, curve=curve, method=label(method), setting=trials.loc[method, "setting"],
        agents=agents, tests=tests, snippet=snippet, embedding=EMBEDDING,
    )  # fmt: skip


def _table(frame: pd.DataFrame, longest: int = 160, **formats: str) -> Markup:
    columns = {name: frame[name].map(form.format) for name, form in formats.items()}
    return Markup(prompt_html(frame.assign(**columns), longest=longest))


def frontier_figure(curve: PriceCurve, advice: Advice):
    """Held-out score against dollars: the plug-in router at every price, the delivered router, every agent alone."""
    from l2d_utils import plots  # Matplotlib is not needed before a figure is

    here = bought(advice.case.scores, advice.case.dollars, advice.rows, advice.routes).mean()
    line = curve.points.assign(method="plug-in, re-priced")
    chosen = pd.DataFrame([{"method": f"the chosen router, w = {advice.price_weight:g}", **here}])
    return plots.frontier(
        pd.concat([line, chosen]), curve.alone.assign(agent=_drawn(curve.alone["agent"])),
        ylabel="mean score", title="Held-out score against dollars",
    )  # fmt: skip


def gains_figure(advice: Advice):
    """Held-out gain over the best single agent: the chosen router, every candidate, controls."""
    from l2d_utils import plots

    shown = advice.tests[~advice.tests["method"].isin(["oracle", "random", "best_single"])]
    return plots.intervals(
        shown, "errors saved per prompt against the best single agent", better="higher",
        references={"best single": 0.0}, title="Held-out rows: what each candidate saves",
    )  # fmt: skip


def _drawn(agents: Sequence[str]) -> list[str]:
    """Short names for a figure; "agent 2" for one with characters that the figure's font does not have."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    names = [short(agent) for agent in agents]
    return [n if all(font.get_char_index(ord(c)) for c in n) else f"agent {k}" for k, n in enumerate(names, 1)]


def short(agent: str, longest: int = 28) -> str:
    """The agent's name without its maker, for figures."""
    name = agent.rsplit("/", 1)[-1]
    return name if len(name) <= longest else name[: longest - 1] + "…"


def write(advice: Advice, out: str | Path, curve: PriceCurve | None = None) -> Path:
    """Router, model card, tables and figure into the folder `out` (`results.output_folder`); returns the folder."""
    folder, case = results.output_folder(out), advice.case
    for leftover in ("frontier.png", "frontier.csv"):  # of another table, which had prices
        (folder / leftover).unlink(missing_ok=True)
    save(AgentRouter(advice.delivered[1], case.agents, case.features is None), folder)
    page = card(advice, curve, folder)
    results.write_atomically(folder / "card.md", lambda path: path.write_text(page, encoding="utf-8"))
    tables = {"oddities": case.report(), "trials": advice.choice.trials, "tests": advice.tests}
    for name, frame in (tables | {"shares": advice.shares(), "tasks": advice.tasks()}).items():
        results.save_table(frame, name, folder)
    if curve is not None:
        results.show_figure(frontier_figure(curve, advice), "frontier", curve.points, folder)
    return folder
