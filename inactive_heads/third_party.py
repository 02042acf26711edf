"""Calling other libraries' readers: they are kept quiet, and what they raise is explained."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging as transformers_logging

from inactive_heads.errors import UserError


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' messages and progress bars back, and leaves both as they were."""
    transformers_logging.get_verbosity()  # sets the logger up, if nobody has yet
    logger = logging.getLogger("transformers")
    level, bars = logger.level, transformers_logging.is_progress_bar_enabled()
    downloads_hidden = are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        # The reader of .gguf files has a progress bar of its own that knows no switch.
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        if bars:  # this one function turns the bars of downloads on as well
            transformers_logging.enable_progress_bar()
        if downloads_hidden:
            disable_progress_bars()


@contextmanager
def explained(problem: str, remedy: str) -> Iterator[None]:
    """Turns whatever a reader of foreign files raises into a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file can make a reader fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{problem} ({reason[:300]}); {remedy}") from error
