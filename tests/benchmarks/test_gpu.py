"""The benchmark of GPUs runs on a CPU too, and needs neither TransformerLens nor datasets."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from gpu import SHAPES, batch_of, markdown
from gpu_agreement import ROUTES, difference, gap, network_of
from helpers.places import ROOT

WITHOUT = """
import runpy, sys
MISSING = {"transformer_lens", "datasets", "plotly", "lm_eval", "peft", "anywidget", "ray"}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
sys.path.insert(0, "benchmarks")
sys.argv = ["gpu.py", *sys.argv[1:]]
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""
SMALL = "--device cpu --shapes tiny --lengths 16 40 --tokens 64 --batches 64 --rounds 1"


def test_it_runs_with_few_packages_and_writes_what_it_prints(tmp_path):
    routes = ["--routes", "grouped", "sliding window", "--dtypes", "float32", "bfloat16"]
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *SMALL.split(), *routes, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [(row["route"], row["dtype"]) for row in found["agreement"]] == [
        (route, dtype)
        for route in ("grouped", "sliding window")
        for dtype in ("float32", "bfloat16")
    ]
    for row in found["agreement"]:
        assert row["fine"]
        if row["dtype"] == "float32":  # the same computation twice, except for the shared prefixes
            assert row["scores"] == row["logits"] == row["heads zeroed otherwise"] == 0
            assert 0 < row["shared prefixes"] < 1e-4
        else:
            assert 1e-4 < row["scores"] == row["scores, CPU"]
    assert {(row["length"], row["inputs"]) for row in found["cost"]} == {(16, 4), (40, 1)}
    assert [row["tokens"] for row in found["batches"]][:-1] == [64]
    assert [row["auto"] for row in found["batches"]] == [False, True]
    for title in ("Agreement", "Cost", "Batches"):
        assert f"\n{title}" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so():
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "PyTorch sees no GPU here; try --device cpu" in done.stderr


def test_what_differs_is_measured_against_each_scores_largest_value():
    expected = np.array([[1.0, -4.0], [100.0, np.nan]]).reshape(2, 1, 1, 2)
    found = expected + np.array([[0.0, 0.4], [5.0, 0.0]]).reshape(2, 1, 1, 2)
    assert difference(found, expected) == pytest.approx(0.1)
    assert difference(np.nan_to_num(found), expected) == np.inf
    assert difference(np.array([2.0, 9.0]), np.array([1.0, 10.0])) == pytest.approx(0.1)


def test_a_threshold_lies_where_no_value_is_near():
    assert gap(np.array([0.0, 1.0, 2.0, 3.0, 9.0, 9.5, 10.0, 11.0, 12.0])) == 6.0


def test_the_shapes_and_routes_are_what_they_are_called():
    sizes = {
        name: sum(one.numel() for one in meta_network(SHAPES[name]).parameters())
        for name in ("0.1B", "1B", "8B")
    }
    assert sizes["0.1B"] == pytest.approx(0.15e9, rel=0.3)
    assert sizes["1B"] == pytest.approx(1.2e9, rel=0.3)
    assert sizes["8B"] == pytest.approx(8e9, rel=0.05)
    assert {route.side for route in ROUTES.values()} == {"left", "right"}
    same = [network_of(ROUTES["grouped"]).state_dict() for _ in range(2)]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])


def meta_network(shape):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(shape.config())


def test_batches_hold_as_many_inputs_as_fit_and_one_at_least():
    device = torch.device("cpu")
    assert batch_of(64, 256, device).mask.shape == (4, 64)
    assert batch_of(300, 256, device).mask.shape == (1, 300)


def test_a_table_shows_what_is_missing_as_a_dash():
    rows = [{"way": "plain", "peak": 3 * 2**20}, {"way": "RON", "ratio": 1.2345, "fine": True}]
    assert markdown("Cost", rows).splitlines()[-2:] == [
        "| plain | 3 MiB | – | – |",
        "| RON | – | 1.23 | yes |",
    ]
