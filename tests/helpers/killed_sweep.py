"""Runs sweeps in forked children that are killed at a moment: a helper of test_runs.py.

Reads requests as lines of JSON, ``{"out": folder, "die": where, "at": n}``, and answers each with
a line: the child's exit status. Moments are counted, by no clock: a child dies as it begins its
n-th ``run`` of the model, at its n-th ``sync`` (a file half written, or a folder whose file is
renamed) or before its n-th ``rename`` (a file that is whole, beside its place); without ``die``
it lives.
"""

import json
import os
import signal
import sys

import torch

torch.set_num_threads(1)  # a forked child has no threads but its own

import inactive_heads as ih  # noqa: E402


def main() -> None:
    model = ih.load_model(sys.argv[1], dtype="float32")
    generator = torch.Generator().manual_seed(0)
    samples = [
        torch.randint(0, 97, (n,), generator=generator).tolist() for n in (9, 20, 33, 14, 40, 25)
    ]
    task = ih.TextTask("text-loss", samples)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            if "die" in request:
                die(model, request["die"], request["at"])
            ih.sweep(
                model,
                task,
                scores=["AHON (LN)", "AWFT", "AEQD", "Random"],
                percents=[10, 20, 30],
                out=request["out"],
                shard_tokens=30,
                progress=False,
            )
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def die(model, where: str, n: int) -> None:
    """Ends this process as it makes the n-th of the calls there."""
    owner, name = {
        "run": (type(model.engine), "run"),
        "sync": (os, "fsync"),
        "rename": (os, "replace"),
    }[where]
    left, call = [n], getattr(owner, name)

    def counted(*given, **named):
        left[0] -= 1
        if left[0] == 0:
            if where == "sync" and n % 2 and os.fstat(given[0]).st_size:
                os.ftruncate(given[0], os.fstat(given[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)

    setattr(owner, name, counted)


if __name__ == "__main__":
    main()
