"""Runs sweeps in forked children that are killed at a moment: a helper of test_runs.py.

Reads requests as lines of JSON, ``{"out": folder, "kill_after": seconds}`` or ``{"out": folder,
"kill_in_write": n}`` (inside the n-th file that is written) or neither, and answers each with a
line: the child's exit status.
"""

import json
import os
import signal
import sys
import time

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
            if "kill_in_write" in request:
                die_in_write(request["kill_in_write"])
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
        if "kill_after" in request:
            time.sleep(request["kill_after"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def die_in_write(n: int) -> None:
    """Ends this process where the n-th file is half written, unsynced or not yet renamed."""
    left, sync = [n], os.fsync

    def dying(descriptor: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            if n % 2 and os.fstat(descriptor).st_size:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = dying


if __name__ == "__main__":
    main()
