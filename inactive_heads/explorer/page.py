"""What the explorer's page is made of: its table of heads, patterns as bytes, the static copy."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from markupsafe import Markup

from inactive_heads.html import as_json, environment, plain, source

MOST_CELLS = 512
"""Of a side of a pattern as it is drawn: a screen has no room for more."""

TITLE_LENGTH = 60
"""Of a text's beginning in the menu of texts, in letters."""


def head_table(
    scores: xr.DataArray,
    standings: xr.Dataset,
    definitions: Mapping[str, str],
    words: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """What the heatmap shows of every score, and what there is to choose from.

    ``standings`` are those of `head_standings`, ``words`` the tokens of every text. ``mean``, ``rank`` and ``rank_in_layer`` are layer after layer, head after head.
    """
    entries = []
    for name, side in zip(scores["score"].to_numpy(), scores["inactive"].to_numpy(), strict=True):
        one = standings.sel(score=name)
        entry = {kind: one[kind].to_numpy().ravel() for kind in ("mean", "rank", "rank_in_layer")}
        about = definitions.get(str(name), "")
        entries.append({"name": str(name), "side": str(side), "about": about, **entry})
    return plain(
        {
            "model": scores.attrs["model"],
            "scores": entries,
            "layers": scores["layer"].to_numpy(),
            "n_heads": scores.sizes["head"],
            "n_tokens": [len(tokens) for tokens in words],
            "titles": [_title(tokens[:TITLE_LENGTH]) for tokens in words],
            "static": False,
        }
    )


def _title(tokens: Sequence[str]) -> str:
    """The first words of a text, or the first ids of one that has no words."""
    between = " " if all(token.isdigit() for token in tokens) else ""
    return " ".join(re.findall(r"\w+", between.join(tokens)))[:TITLE_LENGTH]


def encoded_pattern(pattern: Float[np.ndarray, "query key"]) -> dict[str, Any]:
    """A pattern as the page reads it: ``side``, ``block`` and ``cells``, row after row.

    A cell is two bytes (little-endian), the root of a weight in 65535ths, off by at most 2e-5.
    It is the largest weight of a square of ``block`` × ``block``, so that a thin line of an
    otherwise empty pattern is still seen; up to 512 tokens, of one weight.
    """
    n = len(pattern)
    block = -(-n // MOST_CELLS)
    side = -(-n // block)
    padded = np.zeros((side * block, side * block), dtype=np.float32)
    padded[:n, :n] = pattern
    largest = padded.reshape(side, block, side, block).max(axis=(1, 3))
    cells = np.round(np.sqrt(np.clip(largest, 0, 1)) * 65535).astype("<u2")
    return {"side": side, "block": block, "cells": cells.tobytes()}


def explorer_script() -> str:
    """The page's script, one ES module."""
    return source("explorer_draw.js") + source("explorer.js")


def explorer_style() -> str:
    """The page's style sheet."""
    return source("explorer.css")


def explorer_page(state: Mapping[str, Any], views: Sequence[Mapping[str, Any]]) -> str:
    """One HTML file that shows a state of the explorer, and these views of heads when clicked."""
    held = [
        dict(one) | {"view": one["view"] | {"pattern": _as_text(one["view"]["pattern"])}}
        for one in views
    ]
    data = {**state, "table": state["table"] | {"static": True}, "views": held}
    template = environment().get_template("explorer.html.j2")
    return template.render(
        model=state["table"]["model"],
        style=Markup(explorer_style()),
        script=Markup(explorer_script()),
        data=Markup(as_json(data)),
    )


def _as_text(pattern: Mapping[str, Any]) -> dict[str, Any]:
    return dict(pattern) | {"cells": base64.b64encode(pattern["cells"]).decode("ascii")}
