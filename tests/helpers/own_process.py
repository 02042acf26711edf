"""Calls in a process of their own, which may hang, take all memory or kill the process."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HANGS, DIES = "hangs", "dies"


def isolated(call: Callable[..., Any], *given: Any, seconds: int, memory: int) -> Any:
    """What a call returns, or `HANGS` or `DIES` if it returns nothing.

    Args:
        call: handles its own exceptions; what it prints is lost.
        given: its arguments.
        seconds: how long it may take.
        memory: how many bytes it may take beyond what the process has.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_answer, args=(call, given, theirs, seconds, memory)
    )
    process.start()
    theirs.close()
    try:
        result = ours.recv()
    except EOFError:
        result = DIES
    process.join()
    return HANGS if process.exitcode == -signal.SIGALRM else result


def _answer(call: Callable[..., Any], given: Any, answer: Any, seconds: int, memory: int) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    signal.alarm(seconds)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        answer.send(call(*given))
    finally:
        answer.close()
        os._exit(0)
