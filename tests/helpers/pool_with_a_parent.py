"""Starts workers that are busy for an hour, prints their process ids, and waits to be killed."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

from inactive_heads.sweeps.local_executor import end_with_parent


def work(_number):
    print(os.getpid(), flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, initializer=end_with_parent) as pool:
        list(pool.map(work, range(2)))
