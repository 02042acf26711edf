"""The cost of scoring every head, relative to a plain forward pass of the same model.

    python benchmarks/speed.py
    python benchmarks/speed.py --lengths 600 3000 --dtypes float32 bfloat16 --model FOLDER
    python benchmarks/speed.py --memory

Every run computes logits at the last token only. A plain forward pass (SDPA, no hooks) is timed
before each other run; the script prints the medians and quartiles of the ratios.
``--processor-time`` measures processor time instead of elapsed time, for machines with other load.
``--memory`` runs each in a separate process and prints the peak resident memory (Linux only).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from inactive_heads.ablation.ablations import PerInput
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import Visitor
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.resolve import find_model
from inactive_heads.scores.paper import get_scores

Forward = Callable[[TokenBatch], Any]


def look(*names: str) -> Visitor:
    """A visitor that computes scores and silences no head.

    Args:
        names: registered scores. Default: the paper's fifteen.

    Returns:
        The visitor.
    """
    scores = get_scores(names or None)

    def visit(heads: Any) -> None:
        for score in scores:
            score(heads)

    return visit


def plain(network: PreTrainedModel) -> Forward:
    """The model as transformers runs it, with logits at the last position only.

    ``logits_to_keep=1`` is not used: in bfloat16 on a CPU, it copies the whole unembedding.

    Args:
        network: loaded with SDPA or eager attention.

    Returns:
        A function that runs a batch.
    """
    return FlashEngine(network, "benchmark").run


def flash(visitor: Visitor) -> Callable[[PreTrainedModel], Forward]:
    """Makes the flash engine's run with a visitor.

    Args:
        visitor: sees every layer's heads.

    Returns:
        A function from a network to a function that runs a batch.
    """

    def of(network: PreTrainedModel) -> Forward:
        engine = FlashEngine(network, "benchmark")
        return lambda batch: engine.run(batch, visitor)

    return of


def lens(visitor: Visitor) -> Callable[[PreTrainedModel], Forward]:
    """Makes the lens engine's run with a visitor.

    Args:
        visitor: sees every layer's heads.

    Returns:
        A function from a network to a function that runs a batch.
    """

    def of(network: PreTrainedModel) -> Forward:
        engine = LensEngine(bridge_of(network, "benchmark"))
        return lambda batch: engine.run(batch, visitor)

    return of


class Way(NamedTuple):
    """One way to run a model.

    Attributes:
        attention: the attention implementation that the model is loaded with.
        make: makes the function that runs a batch.
    """

    attention: str
    make: Callable[[PreTrainedModel], Forward]


WAYS = {
    "plain": Way("sdpa", plain),
    "flash, all 15 scores": Way("sdpa", flash(look())),
    "flash, AHON (LN) only": Way("sdpa", flash(look("AHON (LN)"))),
    "flash, RON only": Way("sdpa", flash(look("RON"))),
    "flash, zeroing by AHON (LN)": Way("sdpa", flash(PerInput("AHON (LN)", 0.5))),
    "flash, zeroing by AWFT": Way("sdpa", flash(PerInput("AWFT", 0.95))),
    "flash, zeroing by RON": Way("sdpa", flash(PerInput("RON", 0.05))),
    "one eager pass": Way("eager", plain),
    "lens, all 15 scores": Way("eager", lens(look())),
}


def time_ratios(
    ways: dict[str, Forward], batch: TokenBatch, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Each way's time relative to the plain forward pass just before it.

    Args:
        ways: functions that run a batch, by name; "plain" among them.
        batch: the input.
        rounds: the number of measurements of each way.
        clock: returns the time in seconds.

    Returns:
        One ratio per round for each way; under "plain, seconds", the times of the plain passes.
    """

    def seconds(forward: Forward) -> float:
        start = clock()
        forward(batch)
        return clock() - start

    for forward in ways.values():
        forward(batch)
    ratios: dict[str, list[float]] = {name: [] for name in ways if name != "plain"}
    ratios["plain, seconds"] = []
    for _ in range(rounds):
        for name, forward in ways.items():
            if name != "plain":
                before = seconds(ways["plain"])
                ratios[name].append(seconds(forward) / before)
                ratios["plain, seconds"].append(before)
    return ratios


def peak_megabytes(arguments: list[str]) -> float:
    """Peak resident memory of this script in a separate process.

    Args:
        arguments: of the script's command line.

    Returns:
        Mebibytes.
    """
    command = [sys.executable, __file__, *arguments]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(run.stdout.splitlines()[-1])


def load(model: str | None, dtype: str, attention: str) -> PreTrainedModel:
    """Loads a network for inference.

    Args:
        model: as `load_model` takes it. Default: the bundled model.
        dtype: the name of a torch dtype.
        attention: "sdpa" or "eager".

    Returns:
        The network.
    """
    network = find_model(model).weights.network(getattr(torch, dtype), attention)
    return network.eval().requires_grad_(False)


def load_ways(names: list[str], model: str | None, dtype: str) -> dict[str, Forward]:
    """Loads the networks for several ways to run a model; ways with SDPA share one.

    Args:
        names: keys of `WAYS`.
        model: as `load_model` takes it. Default: the bundled model.
        dtype: the name of a torch dtype.

    Returns:
        Functions that run a batch, by name.
    """
    shared = load(model, dtype, "sdpa")
    return {
        name: way.make(shared if way.attention == "sdpa" else load(model, dtype, way.attention))
        for name, way in ((name, WAYS[name]) for name in names)
    }


def input_of(length: int) -> TokenBatch:
    """One input of random tokens.

    Args:
        length: in tokens.

    Returns:
        The batch, ``(1, pos)``.
    """
    generator = torch.Generator().manual_seed(0)
    return TokenBatch.of([torch.randint(0, 1000, (length,), generator=generator).tolist()])


def main() -> None:
    """Reads the command line, measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="what load_model takes; the bundled model if not given")
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 600, 1200, 2000, 3000])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--once", help=argparse.SUPPRESS, choices=list(WAYS))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)

    if given.once:
        way = WAYS[given.once]
        forward = way.make(load(given.model, given.dtypes[0], way.attention))
        Path("/proc/self/clear_refs").write_text(
            "5"
        )  # resets the peak, which loading the model has raised
        forward(input_of(given.lengths[0]))
        status = Path("/proc/self/status").read_text()
        print(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024)
        return

    ways = ["plain", *(name for name in given.ways if name != "plain")]
    clock = time.process_time if given.processor_time else time.perf_counter
    for dtype in given.dtypes:
        forwards = {} if given.memory else load_ways(ways, given.model, dtype)
        for length in given.lengths:
            print(f"\n{dtype}, {length} tokens, {given.threads} threads", flush=True)
            if given.memory:
                fixed = ["--lengths", str(length), "--dtypes", dtype]
                fixed += ["--model", given.model] if given.model else []
                peaks = {name: peak_megabytes([*fixed, "--once", name]) for name in ways}
                for name, peak in peaks.items():
                    print(
                        f"{name:<28}{peak:>9.0f} MB {peak / peaks['plain'] - 1:>+8.1%}", flush=True
                    )
            else:
                ratios = time_ratios(forwards, input_of(length), given.rounds, clock)
                for name, values in ratios.items():
                    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
                    print(f"{name:<28}{middle:>9.3f}   [{low:.3f}, {high:.3f}]", flush=True)


if __name__ == "__main__":
    main()
