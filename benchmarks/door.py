"""What the checks at load time cost: loading the bundled model with them, over without them.

    python benchmarks/door.py --rounds 7

Process time, each round one load with and one without, in turns; the median of the ratios and the
seconds of each check. `--dtype` chooses the dtype of the weights.
"""

from __future__ import annotations

import argparse
import gc
import pkgutil
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import inactive_heads as ih

PLACES = (
    "inactive_heads.models.weights.checkpoint.read_description",
    "inactive_heads.models.weights.checkpoint.check_sizes",
    "inactive_heads.models.weights.checkpoint.check_all_used",
    "inactive_heads.models.load.check_finite",
    "inactive_heads.models.weights.finite.Products.add",
    "inactive_heads.models.weights.finite.Products.proven",
)
"""The checks, where they are called."""


def seconds_of(call: Callable[[], Any]) -> float:
    """The process time of a call.

    Args:
        call: the call.

    Returns:
        Seconds, of all threads together.
    """
    gc.collect()  # the model of the call before
    before = time.process_time()
    call()
    return time.process_time() - before


def timed(place: str, spent: dict[str, float]) -> Any:
    """A patch that adds up how long a check takes.

    Args:
        place: the check's dotted name.
        spent: place → seconds.

    Returns:
        The patch, a context.
    """
    check = pkgutil.resolve_name(place)

    def run(*args: Any, **kwargs: Any) -> Any:
        before = time.process_time()
        result = check(*args, **kwargs)
        spent[place] = spent.get(place, 0) + time.process_time() - before
        return result

    return patch(place, run)


def main() -> None:
    """Print the ratios and the checks' seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()

    def load() -> None:
        ih.load_model(dtype=options.dtype)

    load()  # imports, and the files in the page cache
    ratios: list[float] = []
    plain_seconds: list[float] = []
    checks: dict[str, list[float]] = {place: [] for place in PLACES}
    for _ in range(options.rounds):
        with ExitStack() as stack:
            for place in PLACES:
                stack.enter_context(patch(place, lambda *_, **__: None))
            plain = seconds_of(load)
        spent: dict[str, float] = {}
        with ExitStack() as stack:
            for place in PLACES:
                stack.enter_context(timed(place, spent))
            whole = seconds_of(load)
        ratios.append(whole / plain)
        plain_seconds.append(plain)
        for place in PLACES:
            checks[place].append(spent[place])
    print(
        f"with the checks over without: median {statistics.median(ratios):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f}; without: {statistics.median(plain_seconds):.2f} s"
    )
    for place, seconds in checks.items():
        print(f"{place.rpartition('.')[2]:20} {1000 * statistics.median(seconds):6.1f} ms")
    total = sum(statistics.median(seconds) for seconds in checks.values())
    print(f"all checks: {100 * total / statistics.median(plain_seconds):.1f}% of a load without")


if __name__ == "__main__":
    main()
