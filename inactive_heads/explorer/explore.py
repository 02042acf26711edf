"""Opens the head explorer: all heads of a model, and what a clicked head does on a text."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from inactive_heads.errors import UserError
from inactive_heads.models.batching import encode_samples
from inactive_heads.models.load import as_model
from inactive_heads.models.samples import Samples
from inactive_heads.names import DEFAULT_SCORE
from inactive_heads.scores.computable import why_not_computable
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.registry import ScoreLike, get_score
from inactive_heads.scores.score_heads import score_heads
from inactive_heads.tasks.texts import cut_to, load_texts

if TYPE_CHECKING:
    from inactive_heads.explorer.widget import HeadExplorer

N_TEXTS, LONGEST = 4, 256
"""By default, this many bundled texts, each cut to this many tokens."""


def explore(
    model: Any,
    texts: Samples | None = None,
    *,
    scores: Iterable[ScoreLike] | None = None,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> HeadExplorer:
    """A notebook widget that shows every head's score, and what a clicked head does on a text.

        explorer = ih.explore(model, ["The cat sat on the mat."], scores=["AHON (LN)", my_score])
        explorer                    # shows it, in JupyterLab, VS Code and Colab
        explorer.selection          # the heads selected in it: [(5, 3), (11, 0)]
        ih.evaluate(model, task, explorer.fixed())

    Every text is scored once, before the widget appears. A head's attention pattern is computed
    when the head is clicked, and no other head's is.

    Args:
        model: a `Model` from `load_model`, a TransformerBridge or a HookedTransformer.
        texts: texts or token ids, as for `score_heads`, of at least two tokens each. Default: four bundled
            texts, cut to 256 tokens.
        scores: names or functions. Default: the paper's fifteen, with AHON (LN) shown first, and
            this project's RON, where the model's own code says what it needs.
        batch_size: samples per batch while scoring. "auto" uses the preset's batch size, if there
            is one, or else as many samples as memory allows.
        progress: whether to show a progress bar while scoring.

    Returns:
        The widget. Its ``score``, ``text``, ``head`` and ``selection`` can be read and set.

    Raises:
        UserError: anywidget is not installed; ``model`` is not a model; a score is unknown or
            given twice; a text has fewer than two tokens, is longer than the context, or has an
            unknown token id; or scoring fails as in `score_heads`.
    """
    if importlib.util.find_spec("anywidget") is None:
        raise UserError(
            'the head explorer needs anywidget: pip install "inactive-heads[notebooks]", '
            "and restart the kernel"
        )
    from inactive_heads.explorer.widget import HeadExplorer

    subject = as_model(model)
    asked = [*get_scores(), get_score("RON")] if scores is None else get_scores(scores)
    if texts is None:
        encoded = cut_to(subject, load_texts(n=N_TEXTS), LONGEST)
    else:
        encoded = encode_samples(subject, texts)
    for index, tokens in enumerate(encoded):
        if len(tokens) < 2:
            raise UserError(
                f"text {index} has {len(tokens)} token; the explorer shows next-token losses, "
                "which need 2 or more"
            )
    if scores is None:
        lacking = why_not_computable(subject, [encoded[0][:2]], [asked[-1]])
        asked = [one for one in asked if one.name not in lacking]
    found = score_heads(subject, encoded, scores=asked, batch_size=batch_size, progress=progress)
    explorer = HeadExplorer(subject, encoded, found, {one.name: one.definition for one in asked})
    if scores is None:
        explorer.score = DEFAULT_SCORE
    return explorer
