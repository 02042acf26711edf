"""Draws the pictures of these pages and of the README, on the bundled model.

    make pictures                        # those of the scores, about three minutes
    python docs/make_pictures.py --report report/report.html --everything everything/report.html \
        --published published/report.html

Figures come from `inactive_heads.plots`, or are drawn here of what a visitor sees; headless Chromium
turns them into PNG files, as it does the parts of finished reports that are named.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch
import xarray as xr
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

import inactive_heads as ih
from inactive_heads.names import is_baseline
from inactive_heads.plots.style import TEMPLATE

HERE = Path(__file__).parent
CHROMIUM = Path("/usr/bin/chromium")
SENTENCE = "The capital of France is Paris, and the capital of Italy is Rome."
SHOWN = ("AWFT", "AEQD", "FTVVN", "AVVN", "AHON", "LTHON", "AHRN")


def two_heads(scores: xr.DataArray) -> tuple[int, int, int]:
    """The layer of the least active head by AHON (LN), that head, and the layer's most active."""
    means = scores.sel(score="AHON (LN)").mean("sample")
    layer = int(means["layer"][int(means.min("head").argmin("layer"))])
    of_layer = means.sel(layer=layer)
    return layer, int(of_layer.argmin("head")), int(of_layer.argmax("head"))


def seen(model: ih.Model, tokens: list[int], layer: int) -> dict[str, torch.Tensor]:
    """The pattern of a layer and the norms of its value vectors and outputs, on one input."""
    found: dict[str, torch.Tensor] = {}

    def look(heads: ih.HeadActivations) -> None:
        if heads.layer == layer:
            found.update(pattern=heads.pattern[0], v=heads.v_norm[0], z=heads.z_norm[0])

    model.engine.run(ih.TokenBatch.of([tokens]), look)
    return found


def attention(model: ih.Model, layer: int, heads: tuple[int, int], tokens: list[int]) -> go.Figure:
    """The attention patterns of an inactive and an active head, side by side."""
    words = [f"{i} {model.tokenizer.decode([token])}" for i, token in enumerate(tokens)]
    pattern = seen(model, tokens, layer)["pattern"]
    names = ("inactive", "active")
    titles = [f"L{layer}H{head}, {name}" for head, name in zip(heads, names, strict=True)]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.17)
    for column, head in enumerate(heads, 1):
        future = torch.ones_like(pattern[head]).triu(1).bool()
        weights = pattern[head].masked_fill(future, torch.nan)
        heat = {"zmin": 0, "zmax": 1, "colorscale": "cividis", "showscale": column == 2}
        figure.add_trace(
            go.Heatmap(z=weights.tolist(), x=words, y=words, xgap=1, ygap=1, **heat), 1, column
        )
    figure.update_xaxes(title="key", tickangle=-60, showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_yaxes(title="query", col=1)
    return figure.update_layout(template=TEMPLATE, width=1000, height=520)


def norms(model: ih.Model, layer: int, heads: tuple[int, int], tokens: list[int]) -> go.Figure:
    """The norms of value vectors and of head outputs, token by token, of the same two heads."""
    words = [f"{i} {model.tokenizer.decode([token])}" for i, token in enumerate(tokens)]
    found = seen(model, tokens, layer)
    titles = ("value vectors, ‖v[j]‖", "head outputs, ‖z[i]‖")
    figure = make_subplots(1, 2, subplot_titles=titles)
    styles = (("inactive", "#0072B2"), ("active", "#D55E00"))
    for column, kind in enumerate(("v", "z"), 1):
        for head, (name, color) in zip(heads, styles, strict=True):
            bar = go.Bar(
                x=words,
                y=found[kind][:, head].tolist(),
                name=f"L{layer}H{head}, {name}",
                marker={"color": color},
                showlegend=column == 1,
            )
            figure.add_trace(bar, 1, column)
    figure.update_xaxes(tickangle=-60)
    return figure.update_layout(template=TEMPLATE, width=1000, height=420)


def every_head(scores: xr.DataArray) -> go.Figure:
    """Every head by the seven measures, dark towards inactive."""
    titles = [f"{name}, {scores.sel(score=name)['inactive'].item()}" for name in SHOWN]
    figure = make_subplots(1, len(SHOWN), subplot_titles=titles, shared_yaxes=True)
    for column, name in enumerate(SHOWN, 1):
        heat, _ = ih.plots.head_heatmap(scores.sel(score=name).mean("sample")).data
        figure.add_trace(heat.update(showscale=False), 1, column)
    figure.update_xaxes(title="head", showgrid=False, dtick=2)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_yaxes(title="layer", col=1)
    figure.update_annotations(font_size=13)
    return figure.update_layout(template=TEMPLATE, width=1180, height=560)


def heatmap(scores: xr.DataArray) -> go.Figure:
    """The heads by AHON (LN), the inactive ones marked."""
    values = scores.sel(score="AHON (LN)").mean("sample")
    inactive = ih.select_heads(scores, "AHON (LN)", percent=10)
    figure = ih.plots.head_heatmap(values, title="AHON (LN)", inactive=inactive)
    return figure.update_layout(width=960, height=860)


def threshold(scores: xr.DataArray) -> go.Figure:
    """The threshold of 10% of heads, on the empirical distribution."""
    cuts = ih.choose_thresholds(scores, percents=[10])
    name = "AHON (LN)"
    figure = ih.plots.score_cdfs({name: scores}, name, thresholds=cuts, percent=10)
    figure.add_hline(y=10, line={"dash": "dot", "width": 1})
    return figure.update_layout(width=700, height=380)


def loss(model: ih.Model, texts: list[list[int]]) -> go.Figure:
    """What zeroing costs, by four scores and at random."""
    curves = ih.sweep(
        model,
        ih.TextTask("text-loss", texts),
        scores=["AHON (LN)", "AWFT", "AEQD (LN)", "AVVN (LN)", "Random"],
        percents=[5, 10, 20, 30],
    )
    return ih.plots.accuracy_curves(curves, "loss").update_layout(width=860, height=420)


def better(folder: Path) -> go.Figure:
    """Loss on texts, model by model: zeroing by RON and AHON (LN), and means put in heads' places."""
    zeroed = [pd.read_csv(path) for path in sorted(folder.glob("*/texts/curves.csv"))]
    replaced = [pd.read_csv(path) for path in sorted(folder.glob("*/mean in place/curves.csv"))]
    named = [one.assign(score=one["score"] + ", mean in place", task="texts") for one in replaced]
    curves = pd.concat([*zeroed, *named])
    curves = curves[(curves["percent"] <= 25) & ~curves["score"].map(is_baseline)]
    return ih.plots.curve_grid(curves, "loss", columns=2).update_layout(width=1000, height=420)


def searched(folder: Path) -> go.Figure:
    """What every candidate of the search costs at 20% of heads, on one model against the other."""
    tables = {path.parent.name: pd.read_csv(path) for path in sorted(folder.glob("*/search.csv"))}
    (one, own), (other, theirs) = tables.items()
    both = own.merge(theirs, on=["kind", "score"])
    named = both["score"].isin(["RON", "AHON (LN)", "RRN", "ROD, mean in place"])
    figure = go.Figure(
        layout={"template": TEMPLATE, "width": 1000, "height": 520, "legend_traceorder": "reversed"}
    )
    # What is in the library is drawn last, above the others.
    for kind, group in list(both.groupby("kind", sort=False))[::-1]:
        figure.add_scatter(
            x=group["change_20_x"],
            y=group["change_20_y"],
            text=group["score"].where(named, ""),
            mode="markers+text",
            textposition="top right",
            name=kind,
            marker_size=9,
        )
    titles = (f"{name}: loss added at 20%, nats per token" for name in (one, other))
    figure.update_xaxes(title_text=next(titles), title_font_size=13, range=[-0.06, 0.75])
    return figure.update_yaxes(title_text=next(titles), title_font_size=13, range=[-0.1, 1.75])


def pictures(model: ih.Model, texts: list[list[int]]) -> Iterator[tuple[str, go.Figure]]:
    """Every picture that needs the model alone, by the name of its file."""
    scores = ih.score_heads(model, texts)
    layer, *heads = two_heads(scores)
    tokens = model.encode(SENTENCE)
    yield "attention", attention(model, layer, (heads[0], heads[1]), tokens)
    yield "norms", norms(model, layer, (heads[0], heads[1]), tokens)
    yield "every_head", every_head(scores)
    yield "heatmap", heatmap(scores)
    yield "threshold", threshold(scores)
    yield "loss", loss(model, texts[:5])


@contextmanager
def browser() -> Iterator[Any]:
    """A page of headless Chromium."""
    from playwright.sync_api import sync_playwright

    args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=args)
        yield chromium.new_page(viewport={"width": 1180, "height": 900})
        chromium.close()


def save(page: Any, figure: go.Figure, path: Path) -> None:
    """The figure as a PNG file, of the size that its layout has."""
    page.set_content("<body style='margin:0'><div id=figure></div></body>")
    page.add_script_tag(content=get_plotlyjs())
    figure.update_layout(font_size=13, margin_t=50 if figure.layout.title.text else 30)
    page.evaluate(
        "figure => Plotly.newPlot('figure', figure.data, figure.layout, {staticPlot: true})",
        json.loads(figure.to_json()),
    )
    page.locator("#figure .main-svg").first.screenshot(path=path)


def save_part(page: Any, report: Path, path: Path, *, start: str | None, height: int) -> None:
    """A part of a finished report: from the section with the heading ``start``, so many pixels."""
    page.goto(report.resolve().as_uri())
    page.wait_for_function("document.querySelectorAll('.main-svg').length > 0")
    top = 0 if start is None else page.get_by_role("heading", name=start).first.bounding_box()["y"]
    page.set_viewport_size({"width": 1180, "height": 900})
    page.screenshot(
        path=path, full_page=True, clip={"x": 0, "y": top, "width": 1180, "height": height}
    )


def main() -> None:
    """Draws what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("report", "everything", "published"):
        parser.add_argument(f"--{name}", type=Path, help=f"a report of which {name} shows a part")
    parser.add_argument("--better", type=Path, help="what benchmarks/better_scores.py wrote")
    asked = parser.parse_args()
    model = ih.load_model(dtype="float32")
    texts = ih.cut_at_random(model, ih.load_texts(n=10), shortest=64, longest=256)
    with browser() as page:
        for name, figure in pictures(model, texts):
            save(page, figure, HERE / f"{name}.png")
        if asked.better:
            save(page, better(asked.better), HERE / "better.png")
            save(page, searched(asked.better), HERE / "searched.png")
        if asked.report:
            save_part(page, asked.report, HERE / "report.png", start=None, height=1800)
        if asked.everything:
            start = "Every score at 10% of heads"
            save_part(page, asked.everything, HERE / "certainty.png", start=start, height=720)
        if asked.published:
            start = "What AWFT and the best score find"
            save_part(page, asked.published, HERE / "paper_models.png", start=start, height=2421)


if __name__ == "__main__":
    main()
