"""Worker processes and Ray actors give what one process gives, also when a worker dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers.models_on_disk import save_folder
from helpers.only_lens import refuse_flash
from helpers.places import ROOT
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.specs import ExecutionSpec
from inactive_heads.sweeps import local_executor
from inactive_heads.sweeps.executors import choose_executor
from inactive_heads.sweeps.local_executor import InProcess, Processes

SAMPLES = [[5, 6, 7, 8, 9], [50, 40, 3], list(range(30)), [9, 8, 7, 1, 2, 3]]
SCORES = ["AHON (LN)", "Random", "Placebo of AHON (LN)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("model") / "tiny", tiny_llama())


@pytest.fixture(scope="module")
def model(folder):
    return ih.load_model(folder)


@pytest.fixture(scope="module")
def expected(model):
    return swept(model)


def swept(model, scores=SCORES, **options):
    task = ih.TextTask("text-loss", SAMPLES)
    given = {"percents": [10, 30], "shard_tokens": 10, "progress": False}
    curves = ih.sweep(model, task, scores=scores, **given | options)
    # Four texts: the ends of an interval are far out, where rounding is magnified.
    return curves.drop(columns=curves.filter(regex="_(low|high)$"))


def assert_same(curves, expected):
    """The same but for rounding: a change of the loss has that of the losses it is between."""
    pd.testing.assert_frame_equal(curves, expected, rtol=1e-5, atol=1e-5 * expected["loss"].max())


def test_worker_processes_give_the_same_curves(model, expected):
    assert_same(swept(model, workers=2), expected)


def test_worker_processes_load_the_engine_that_was_chosen(tmp_path, monkeypatch):
    """Here flash is said to fail; there it would not."""
    refuse_flash(monkeypatch)
    folder = save_folder(tmp_path / "mine", tiny_llama())
    with pytest.warns(ih.Notice, match="is run by engine=.lens."):
        model = ih.load_model(folder)
    assert model.spec.engine == model.provenance["engine"] == "lens"
    assert_same(swept(model, executor=Processes(1)), swept(model))


def test_means_in_the_place_of_heads_go_along_to_worker_processes(model, expected):
    means = ih.mean_head_outputs(model, SAMPLES, progress=False)
    here, there = (swept(model, replacement=means, workers=n) for n in (1, 2))
    assert_same(there, here)
    ablated = here["percent"] > 0
    assert (here["loss"] != expected["loss"])[ablated].all()


def test_a_worker_that_keeps_dying_ends_the_sweep(tmp_path, monkeypatch):
    lethal = save_folder(tmp_path / "lethal", tiny_llama())
    model = ih.load_model(lethal)
    for file in lethal.iterdir():  # the first process has it; no other can load it
        file.unlink()
    monkeypatch.setattr(local_executor, "ATTEMPTS", 2)
    with pytest.raises(ih.UserError, match="worker processes died 2 times"):
        swept(model, executor=Processes(1))


def test_what_other_processes_cannot_have_is_refused(model, network):
    def mine(heads):
        return heads.mean_over_tokens(heads.z_norm)

    with pytest.raises(ih.UserError, match="mine cannot be taken to worker processes"):
        swept(model, scores=[mine], workers=2)
    with pytest.raises(ih.UserError, match="workers must be at least 1, not 0"):
        swept(model, workers=0)
    with pytest.raises(ih.UserError, match="executor='slurm' is unknown; there are: local, ray"):
        swept(model, executor="slurm")
    from inactive_heads.engines.lens import bridge_of

    with pytest.raises(
        ih.UserError, match="is in this process only, so other processes cannot load it"
    ):
        swept(bridge_of(network, "tiny"), workers=2)


def test_one_process_on_a_cpu_several_when_asked(model):
    assert choose_executor(ExecutionSpec(), model) == InProcess()
    assert choose_executor(ExecutionSpec(workers=3), model) == Processes(3)


@pytest.fixture(scope="module")
def address():
    """A Ray cluster of two nodes on this machine, started and stopped here."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


def test_ray_gives_the_same_curves(model, expected, address, tmp_path):
    from inactive_heads.sweeps.ray_executor import RayActors

    curves = swept(model, executor=RayActors(2, address), out=tmp_path)
    assert_same(curves, expected)
    # Three ranges of texts; the unablated model, a score and two baselines at two shares.
    assert len(list(tmp_path.rglob("*.unit"))) == 3 * (1 + 3 * 2)


def test_a_ray_worker_that_dies_is_replaced_and_its_unit_redone(model, address, tmp_path):
    from inactive_heads.sweeps.ray_executor import RayActors

    marker, driver = str(tmp_path / "died"), os.getpid()

    def fatal_once(heads):
        if os.getpid() != driver and heads.layer == 2 and not os.path.exists(marker):
            open(marker, "w").close()
            os._exit(1)
        return heads.mean_over_tokens(heads.z_norm)

    curves = swept(model, [fatal_once, "Random"], executor=RayActors(2, address))
    assert os.path.exists(marker)
    assert_same(curves, swept(model, [fatal_once, "Random"]))


def test_a_unit_that_kills_every_ray_worker_ends_the_sweep(model, address):
    from inactive_heads.sweeps.ray_executor import RayActors

    driver = os.getpid()

    def fatal(heads):
        if os.getpid() != driver:
            os._exit(1)
        return heads.mean_over_tokens(heads.z_norm)

    with pytest.raises(ih.UserError, match=r"ended 3 Ray actors.*what is finished is kept"):
        swept(model, [fatal], executor=RayActors(1, address))


def test_workers_end_with_a_parent_that_is_killed():
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "pool_with_a_parent.py")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    try:
        parent.communicate(timeout=120)  # until nobody is left to write
    except subprocess.TimeoutExpired:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        pytest.fail("the workers of a killed process go on")
