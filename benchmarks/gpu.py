"""The flash engine on a GPU: whether its numbers are right there, and what scores cost.

    python benchmarks/gpu.py                         # some minutes; writes gpu.json, prints tables
    python benchmarks/gpu.py --device cpu --shapes tiny --lengths 64 128 --batches 256

Nothing is downloaded, and all models have random weights. Needed are torch, transformers, einops,
jaxtyping, xarray, rich and this package; TransformerLens and datasets are not.

Three parts: *agreement* compares scores, zeroing, shared prefixes and generation with the CPU in
float32, on every route that attention can take (see gpu_agreement.py). *cost* is the time and peak
memory of scoring and zeroing, relative to a plain forward pass (SDPA, logits at the last token).
*batches* is the throughput by tokens per batch, and the number that batch_size="auto" chooses. The
exit status is 1 if a number does not agree.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from gpu_agreement import ROUTES, agreement
from rich.console import Console
from rich.progress import Progress, track
from transformers import AutoModelForCausalLM

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import Visitor
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.models.batching import tokens_per_batch
from inactive_heads.models.model import Model
from inactive_heads.models.weights.random_weights import Architecture

SHAPES = {
    "tiny": Architecture("llama", "tiny", 2, 4, 2, 16, 64, 128, 40_000, 500),
    "0.1B": Architecture("llama", "0.1B", 12, 12, 12, 64, 768, 3072, 40_000, 50_257),
    "1B": Architecture("llama", "1B", 16, 32, 8, 64, 2048, 8192, 40_000, 128_256),
    "8B": Architecture("llama", "8B", 32, 32, 8, 128, 4096, 14336, 40_000, 128_256),
}
"""Of GPT-2 small, Llama 3.2 1B and Llama 3.1 8B, as Llamas."""
PARTS = ("agreement", "cost", "batches")


def look(*names: str) -> Visitor:
    """A visitor that computes scores and silences no head.

    Args:
        names: of registered scores; all fifteen of the paper's if none is given.

    Returns:
        The visitor.
    """
    scores = [ih.get_score(name) for name in names or ih.PAPER_SCORES]

    def visit(heads: Any) -> None:
        for score in scores:
            score(heads)

    return visit


WAYS: dict[str, Callable[[], Visitor | None]] = {
    "all 15 scores": look,
    "AHON (LN)": lambda: look("AHON (LN)"),
    "RON": lambda: look("RON"),
    "zeroing by AHON (LN)": lambda: ih.PerInput("AHON (LN)", 0.5),
    "zeroing by AWFT": lambda: ih.PerInput("AWFT", 0.95),
}


def network_on(shape: Architecture, device: torch.device, dtype: str) -> Any:
    """A network with random weights, made where it runs.

    Args:
        shape: its sizes.
        device: where its weights are.
        dtype: of its weights.

    Returns:
        The network, in evaluation mode.
    """
    torch.manual_seed(0)
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(
            shape.config(), dtype=getattr(torch, dtype), attn_implementation="sdpa"
        )
    return network.eval().requires_grad_(False)


class Meter:
    """Measures runs on a device.

    Args:
        device: a CPU, or a GPU whose work is waited for.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.on_gpu = device, device.type == "cuda"

    def seconds(self, run: Callable[[], Any]) -> float:
        """How long a run takes, in seconds.

        Args:
            run: called once.
        """
        self._wait()
        start = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - start

    def peak(self, run: Callable[[], Any]) -> int | None:
        """The memory that a run takes at its peak beyond what is held before, in bytes.

        Args:
            run: called once.

        Returns:
            None on a CPU, where it cannot be told.
        """
        if not self.on_gpu:
            run()
            return None
        self._wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        run()
        self._wait()
        return torch.cuda.max_memory_allocated(self.device) - before

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


def batch_of(length: int, n_tokens: int, device: torch.device) -> TokenBatch:
    """Inputs of random tokens, all of one length.

    Args:
        length: of every input, in tokens.
        n_tokens: in all; one input at least.
        device: where the batch is.

    Returns:
        The batch.
    """
    generator = torch.Generator().manual_seed(0)
    size = max(1, n_tokens // length), length
    return TokenBatch.of(torch.randint(1, 500, size, generator=generator).tolist(), device=device)


def costs(
    engine: FlashEngine, meter: Meter, lengths: Sequence[int], n_tokens: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """What every way to run a model takes, relative to a plain forward pass.

    Args:
        engine: runs the model.
        meter: measures.
        lengths: of the inputs, in tokens.
        n_tokens: of a batch; one input where that is longer.
        rounds: how often each is measured, after one run that is not.

    Yields:
        A row for each length and way: the median ratio, and the ratio of peak memory.
    """
    for length in lengths:
        batch = batch_of(length, n_tokens, meter.device)

        def plain(batch: TokenBatch = batch) -> None:
            engine.run(batch)

        peak = meter.peak(plain)
        seconds = [meter.seconds(plain) for _ in range(rounds)]
        common = {"length": length, "inputs": len(batch.rows)}
        yield common | {"way": "plain", "seconds": _median(seconds), "peak": peak}
        for way, make in WAYS.items():
            visitor = make()

            def visited(batch: TokenBatch = batch, visitor: Visitor | None = visitor) -> None:
                engine.run(batch, visitor)

            own = meter.peak(visited)
            ratios = [1 / meter.seconds(plain) * meter.seconds(visited) for _ in range(rounds)]
            yield common | {"way": way, "ratio": _median(ratios), "peak": own}


def throughputs(
    engine: FlashEngine, meter: Meter, length: int, sizes: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Tokens per second with all scores, by tokens per batch.

    Args:
        engine: runs the model.
        meter: measures.
        length: of every input, in tokens.
        sizes: of the batches, in tokens.

    Yields:
        A row for each size, the last of which is chosen by ``batch_size="auto"``; without numbers
        if it does not fit in memory.
    """
    model = Model(engine, None, {"model": "benchmark"}, lambda text: [])
    chosen = tokens_per_batch(model, length)
    for n_tokens in (*sizes, chosen):
        batch, visitor = batch_of(length, n_tokens, meter.device), look()
        row = {"tokens": batch.mask.numel(), "auto": n_tokens == chosen}
        try:
            peak = meter.peak(lambda b=batch, v=visitor: engine.run(b, v))  # type: ignore[misc]
            seconds = meter.seconds(lambda b=batch, v=visitor: engine.run(b, v))  # type: ignore[misc]
        except torch.OutOfMemoryError:
            yield row | {"tokens per second": None}
            torch.cuda.empty_cache()
            continue
        estimate = batch.mask.numel() * engine.bytes_per_token(length)
        rate = batch.mask.numel() / seconds
        yield row | {"tokens per second": rate, "peak": peak, "estimated peak": estimate}


def _median(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).median())


def markdown(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table.

    Args:
        title: written above it.
        rows: cells by column; columns may be missing in some.

    Returns:
        The table.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [f"\n{title}\n", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(_cell(column, row.get(column)) for column in columns) + " |")
    return "\n".join(lines)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "–"
    if "peak" in column:
        return f"{value / 2**20:,.0f} MiB"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def about(device: torch.device) -> dict[str, str]:
    """What ran: the device and the versions.

    Args:
        device: the device.

    Returns:
        Name → value.
    """
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
    }


def main() -> int:
    """Measures, writes the JSON and prints the tables.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16", "float16"])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--routes", nargs="+", default=list(ROUTES), choices=list(ROUTES))
    parser.add_argument("--shapes", nargs="+", default=["0.1B", "1B", "8B"], choices=list(SHAPES))
    parser.add_argument("--cost-dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192, 32_768])
    parser.add_argument(
        "--tokens", type=int, default=8192, help="of a batch whose cost is measured"
    )
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1024, 4096, 16_384, 65_536, 131_072]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {given.device}: PyTorch sees no GPU here; try --device cpu")
    device = torch.device(given.device)
    found: dict[str, Any] = {"about": about(device), **{part: [] for part in given.parts}}
    print(" · ".join(found["about"].values()), flush=True)

    def save() -> None:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")

    if "agreement" in given.parts:
        for row in track(
            agreement(device, given.dtypes, given.routes),
            "Comparing",
            total=len(given.routes) * len(given.dtypes),
            console=Console(stderr=True),
            transient=True,
        ):
            found["agreement"].append(row)
            save()
        print(markdown("Agreement with the CPU in float32", found["agreement"]), flush=True)
    meter = Meter(device)
    pairs = [(shape, dtype) for shape in given.shapes for dtype in given.cost_dtypes]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("Measuring", total=len(pairs))
        for shape, dtype in pairs if {"cost", "batches"} & set(given.parts) else ():
            engine = FlashEngine(network_on(SHAPES[shape], device, dtype), shape)
            for part, rows in (
                ("cost", costs(engine, meter, given.lengths, given.tokens, given.rounds)),
                ("batches", throughputs(engine, meter, min(given.lengths), given.batches)),
            ):
                if part in given.parts:
                    own = [{"model": f"{shape}, {dtype}"} | row for row in rows]
                    found[part] += own
                    save()
                    print(markdown(f"{part.capitalize()}: {shape}, {dtype}", own), flush=True)
            del engine
            if meter.on_gpu:
                torch.cuda.empty_cache()
            progress.advance(bar)
    wrong = [row for row in found.get("agreement", []) if not row["fine"]]
    for row in wrong:
        print(f"does not agree: {row['route']} in {row['dtype']}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
