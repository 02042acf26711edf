"""The explorer's widget: what its page is told, and what it answers to clicks.

The page (``templates/explorer.js``) draws and asks; everything that it shows is computed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import anywidget
import numpy as np
import traitlets
import xarray as xr

from inactive_heads.ablation.ablations import Fixed
from inactive_heads.analysis.heads.thresholds import select_heads
from inactive_heads.errors import UserError
from inactive_heads.explorer.head_view import head_standings, head_view, token_losses, token_strings
from inactive_heads.explorer.page import (
    encoded_pattern,
    explorer_page,
    explorer_script,
    explorer_style,
    head_table,
)
from inactive_heads.html import plain
from inactive_heads.models.model import Model
from inactive_heads.scores.registry import get_score

Head = tuple[int, int]


class HeadExplorer(anywidget.AnyWidget):
    """The widget that `explore` gives.

    Attributes:
        scores: every head's scores on the texts, as `score_heads` gives them.
        standings: every head's mean scores and their places, as `head_standings` gives them.
        texts: the texts as token ids.
        score: the name of the score that the heatmap shows; can be set.
        text: the number of the text that heads are looked at on; can be set.
        head: the ``(layer, head)`` that is looked at, or None; can be set.
        selection: the heads selected to be zeroed together, ``(layer, head)``; can be set.
    """

    _esm = explorer_script()
    _css = explorer_style()

    score = traitlets.Unicode().tag(sync=True)
    text = traitlets.Int(0).tag(sync=True)
    head = traitlets.Tuple(traitlets.Int(), traitlets.Int(), allow_none=True, default_value=None)
    head.tag(sync=True)
    selection = traitlets.List(traitlets.Tuple(traitlets.Int(), traitlets.Int())).tag(sync=True)
    # What the page draws; it never writes these.
    table = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)
    alone = traitlets.Dict().tag(sync=True)
    zeroed = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        model: Model,
        texts: Sequence[list[int]],
        scores: xr.DataArray,
        definitions: Mapping[str, str],
    ) -> None:
        self._subject, self.texts, self.scores = model, list(texts), scores
        self.standings = head_standings(scores)
        self._words = [token_strings(model, tokens) for tokens in texts]
        self.working = RLock()
        self._losses: dict[int, np.ndarray] = {}
        table = head_table(scores, self.standings, definitions, self._words)
        super().__init__(table=table, score=table["scores"][0]["name"])
        self.on_msg(self._answer)

    def head_set(self) -> xr.DataArray:
        """The selection as a mask: boolean ``(layer, head)``, as `select_heads` gives one."""
        layers, heads = self.scores["layer"], self.scores["head"]
        mask = xr.DataArray(
            np.zeros((layers.size, heads.size), dtype=bool),
            dims=("layer", "head"),
            coords={"layer": layers.to_numpy(), "head": heads.to_numpy()},
        )
        for layer, head in self.selection:
            mask.loc[{"layer": layer, "head": head}] = True
        return mask

    def fixed(self) -> Fixed:
        """The selection as an ablation, for `ablate` and `evaluate`, and to be saved."""
        return Fixed(self.selection, about={"model": self._subject.name, "chosen": "by hand"})

    def select_inactive(self, percent: float) -> None:
        """Select the inactive ``percent`` of heads by the score shown, as `select_heads` does.

        Raises:
            UserError: a share outside 0 to 100.
        """
        self.selection = Fixed(select_heads(self.scores, self.score, percent)).heads

    def zero_selection(self) -> dict[str, Any]:
        """Run the text shown with the selection zeroed; shown, and returned.

        Returns:
            ``heads`` and ``text``; ``before`` and ``after``, the loss of every token in nats (of
            the first it is None); ``mean_before`` and ``mean_after``.
        """
        self.zeroed = self._without(self.selection)
        return self.zeroed

    def to_html(
        self, path: str | Path | None = None, *, heads: Iterable[Head] | None = None
    ) -> str | None:
        """A static copy: one HTML file that opens offline, with the heatmaps of every score.

        Args:
            path: where to write it; without, the HTML is returned.
            heads: which heads' views it holds, on the text shown; if not given, the one that is
                looked at.

        Raises:
            UserError: a head that the model has not.
        """
        kept = [self.head] if heads is None and self.head else list(heads or [])
        views = [
            {"view": self._look(layer, head), "alone": self._without([(layer, head)])}
            for layer, head in kept
        ]
        state = {name: getattr(self, name) for name in ("score", "text", "head", "selection")}
        state |= {"table": self.table, "zeroed": self.zeroed, "problem": ""}
        if self.head not in kept:
            state["head"] = kept[0] if kept else None
        html = explorer_page(state, views)
        if path is None:
            return html
        Path(path).write_text(html, "utf-8")
        return None

    @traitlets.validate("score")
    def _known_score(self, proposal: Any) -> str:
        names = self.scores["score"].to_numpy().tolist()
        if proposal["value"] not in names:
            get_score(proposal["value"])  # no score at all, says with which the name may be meant
            raise UserError(
                f"the explorer was made without the score {proposal['value']!r}; it has "
                f"{', '.join(names)}"
            )
        return str(proposal["value"])

    @traitlets.validate("text")
    def _known_text(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < len(self.texts):
            raise UserError(
                f"there is no text {proposal['value']}; the explorer has 0 to {len(self.texts) - 1}"
            )
        return int(proposal["value"])

    @traitlets.validate("head")
    def _known_head(self, proposal: Any) -> Head | None:
        if proposal["value"] is not None:
            Fixed([proposal["value"]]).check(self._subject.shape)
        return proposal["value"]

    @traitlets.validate("selection")
    def _known_heads(self, proposal: Any) -> list[Head]:
        chosen = Fixed(proposal["value"])
        chosen.check(self._subject.shape)
        return chosen.heads

    @traitlets.observe("head", "text")
    def _show(self, change: Any) -> None:
        if self.head is None:
            self.view = {}
            return
        with _Shown(self):
            layer, head = self.head
            if (layer, head, self.text) != tuple(map(self.view.get, ("layer", "head", "text"))):
                self.view = self._look(layer, head)  # is sent, and seen, before the other is known
                self.alone = self._without([(layer, head)])

    def _look(self, layer: int, head: int) -> dict[str, Any]:
        """What a head does on the text shown."""
        view = head_view(self._subject, self.texts[self.text], layer, head)
        on_text = self.scores.isel(sample=self.text).sel(layer=layer, head=head)
        along = ("first_token_weight", "entropy", "v_norm", "z_norm", "result_norm")
        shown = {
            "layer": layer,
            "head": head,
            "text": self.text,
            "tokens": self._words[self.text],
            "on_text": on_text.to_numpy(),
            **{name: getattr(view, name) for name in along},
        }
        return plain(shown) | {"pattern": encoded_pattern(view.pattern)}

    def _without(self, heads: Sequence[Head]) -> dict[str, Any]:
        """What the text shown costs without these heads: what `zero_selection` returns."""
        tokens, place = self.texts[self.text], self.text
        if place not in self._losses:
            self._losses[place] = token_losses(self._subject, tokens)
        before, after = self._losses[place], token_losses(self._subject, tokens, Fixed(heads))
        found = {
            "heads": list(heads),
            "text": place,
            "before": [None, *before.tolist()],
            "after": [None, *after.tolist()],
            "mean_before": float(before.mean(dtype=np.float64)),
            "mean_after": float(after.mean(dtype=np.float64)),
        }
        return dict(plain(found))

    def _answer(self, widget: object, asked: Any, buffers: object) -> None:
        """What the page asks for by a button."""
        with _Shown(self):
            if asked["ask"] == "zero":
                self.zero_selection()
            elif asked["ask"] == "select":
                self.select_inactive(asked["percent"])


class _Shown:
    """One answer after another: notebooks may ask for two at once, in threads of their own.

    What goes wrong in this block is shown where the reader looks, and raised all the same.
    """

    def __init__(self, explorer: HeadExplorer) -> None:
        self.explorer = explorer

    def __enter__(self) -> None:
        self.explorer.working.acquire()
        self.explorer.problem = ""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.explorer.problem = f"{type(error).__name__}: {error}"
        self.explorer.working.release()
