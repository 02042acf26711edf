"""Calls into other libraries' file readers: silenced, and their errors turned into UserErrors."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from inactive_heads.errors import UserError


@contextmanager
def quiet() -> Iterator[None]:
    """A context that hides transformers' messages below errors, and all progress bars.

    Everything written to standard error in the block is hidden too. Settings are restored
    afterwards.
    """
    # Both are slow to import, and whoever only reads files does without them.
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging as transformers_logging

    transformers_logging.get_verbosity()  # sets up the logger
    logger = logging.getLogger("transformers")
    level, bars = logger.level, transformers_logging.is_progress_bar_enabled()
    downloads_hidden = are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        # The reader of .gguf files has its own progress bar, which cannot be switched off.
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        if bars:  # this also turns on the progress bars of downloads
            transformers_logging.enable_progress_bar()
        if downloads_hidden:
            disable_progress_bars()


@contextmanager
def explained(problem: str, remedy: str) -> Iterator[None]:
    """A context that turns any exception into a UserError of one line.

        with explained("the file x.json cannot be read", "get it again"):
            json.loads(text)

    Args:
        problem: what failed, the start of the message.
        remedy: what to do, the end of the message.

    Raises:
        UserError: the block raised an exception; at most 300 characters of it are quoted between
            ``problem`` and ``remedy``. A UserError passes through unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file can make a reader raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{problem} ({reason[:300]}); {remedy}") from error
