"""A run folder survives being killed, a full disk and damaged files, and refuses what differs."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from helpers.models_on_disk import save_folder
from helpers.places import ROOT
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.errors import Notice
from inactive_heads.files import write_whole
from inactive_heads.sweeps.job import Job
from inactive_heads.sweeps.run_folder import Finished, RunFolder, open_run

SETTINGS = {"model": "tiny", "percents": [5, 10]}
SAMPLES = [[5, 6, 7, 8, 9], [50, 40, 3], list(range(30)), [9, 8, 7, 1, 2, 3]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ih.load_model(save_folder(tmp_path_factory.mktemp("model") / "tiny", tiny_llama()))


def swept(model, out, scores=("AHON (LN)", "Random"), **options):
    task = ih.TextTask("text-loss", SAMPLES)
    given = {"percents": [10, 30], "shard_tokens": 10, "progress": False}
    return ih.sweep(model, task, scores=scores, out=out, **given | options)


def units_of(folder):
    """Name → (when it was written, content) of every finished unit."""
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in (folder / "units").glob("*.unit")
    }


@contextmanager
def sweeper(folder):
    """A process that runs a sweep when asked, and kills it when told."""
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "killed_sweep.py"), str(folder)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def ask(**request):
            process.stdin.write(json.dumps(request, default=str) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield ask
        process.stdin.close()


def test_a_sweep_killed_at_twenty_moments_gives_the_same_curves(tmp_path):
    network = save_folder(tmp_path / "tiny", tiny_llama())
    whole, killed, kept = tmp_path / "whole", tmp_path / "killed", {}
    moments = [(where, n) for n in range(1, 8) for where in ("sync", "rename", "run")][:20]
    with sweeper(network) as sweep:
        assert sweep(out=whole) == 0
        n_units = len(units_of(whole))
        assert n_units > 50
        in_the_middle = 0
        for where, n in moments:
            status = sweep(out=killed, die=where, at=n)
            found = units_of(killed) if killed.exists() else {}
            assert kept.items() <= found.items(), "a finished unit was lost or done again"
            assert status == -9
            in_the_middle += 0 < len(found) < n_units
            kept = found
        assert in_the_middle >= 10
        assert sweep(out=killed) == 0
    assert kept.items() <= units_of(killed).items()
    for name in ("curves.csv", "items.parquet"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert not list(killed.rglob("*.part"))


def test_a_sweep_is_continued_not_repeated(model, tmp_path, monkeypatch):
    first = swept(model, tmp_path)
    before = units_of(tmp_path)
    assert len(before) == 3 * (1 + 2 * 2)  # stretches of 5 + 3, 30 and 6 tokens

    def nothing(*_):
        raise AssertionError("the model was run again")

    monkeypatch.setattr(type(model.engine), "run", nothing)
    pd.testing.assert_frame_equal(swept(model, tmp_path), first)
    assert units_of(tmp_path) == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_unit_is_reported_and_done_again(model, tmp_path, damage):
    first, before = swept(model, tmp_path), units_of(tmp_path)
    victim = sorted((tmp_path / "units").glob("*AHON*.unit"))[1]
    content = victim.read_bytes()
    changed = content.replace(b"loss", b"lost", 1)
    victim.write_bytes({"cut": content[:-40], "flipped": changed, "emptied": b""}[damage])
    with pytest.warns(Notice, match=r"AHON.*damaged .*done again"):
        again = swept(model, tmp_path)
    pd.testing.assert_frame_equal(again, first)
    assert {name: content for name, (_, content) in units_of(tmp_path).items()} == {
        name: content for name, (_, content) in before.items()
    }


def test_a_full_disk_is_a_clear_error_and_what_is_finished_stays(model, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(ih.UserError, match=r"No space left on device; what is finished"):
            swept(model, small)
        before = units_of(small)
        assert before
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        curves = swept(model, small)
        assert before.items() <= units_of(small).items()
    finally:
        subprocess.run(["umount", str(small)], check=True)
    pd.testing.assert_frame_equal(curves, swept(model, tmp_path / "roomy"))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"percents": [10]}, r"tasks.text-loss.percents was \[10.0, 30.0\], now \[10.0\]"),
        ({"seed": 3}, r"tasks.text-loss.seed was 0, now 3"),
        ({"scores": ["AWFT", "Random"]}, r"tasks.text-loss.scores.AHON \(LN\) was .* now null"),
        ({"batch_size": 1}, r'batch_size was "auto", now 1'),
    ],
)
def test_other_settings_are_refused_and_shown(model, tmp_path, change, difference):
    swept(model, tmp_path)
    before = units_of(tmp_path)
    with pytest.raises(ih.UserError, match=difference):
        swept(model, tmp_path, **change)
    assert units_of(tmp_path) == before


def test_a_changed_score_of_ones_own_is_other_settings(model, tmp_path):
    def mine(heads):
        return heads.mean_over_tokens(heads.z_norm)

    swept(model, tmp_path, scores=[mine])

    def mine(heads):
        return heads.mean_over_tokens(heads.v_norm)

    with pytest.raises(ih.UserError, match=r"scores.mine was"):
        swept(model, tmp_path, scores=[mine])


@pytest.mark.parametrize("mode", ["per-input", "fixed"])
def test_a_sweep_puts_means_in_the_place_of_heads(model, tmp_path, mode):
    means = ih.mean_head_outputs(model, SAMPLES[:2], progress=False)
    curves = swept(model, tmp_path, replacement=means, mode=mode)
    scores = ih.score_heads(model, SAMPLES, scores=["AHON (LN)"], progress=False)
    for row in curves[curves["percent"] > 0].itertuples():
        if mode == "fixed":
            if row.score == "Random":
                continue
            chosen = ih.select_heads(scores, row.score, row.percent)
            ablation = ih.Fixed(chosen, replacement=means)
        elif row.score == "Random":
            ablation = ih.Random(row.percent / 100, replacement=means)
        else:
            ablation = ih.PerInput(row.score, row.threshold, means)
        task = ih.TextTask("text-loss", SAMPLES)
        alone = ih.evaluate(model, task, ablation, progress=False)
        assert row.percent_zeroed == pytest.approx(alone.percent_zeroed)
        assert row.loss == pytest.approx(alone.summary()["loss"], rel=1e-5)
    with pytest.raises(ih.UserError, match="replacement was"):
        swept(model, tmp_path, replacement=means + 1e-3, mode=mode)


def test_a_second_process_is_refused_until_the_first_ends(model, tmp_path):
    again = pytest.raises(ih.UserError, match="another process is working in")
    with open_run(tmp_path, SETTINGS), again, open_run(tmp_path, SETTINGS):
        pass
    with open_run(tmp_path, SETTINGS):
        pass


def test_settings_changed_by_hand_are_refused(tmp_path):
    with open_run(tmp_path, SETTINGS):
        pass
    file = tmp_path / "run.json"
    file.write_text(file.read_text().replace("tiny", "other"))
    with pytest.raises(ih.UserError, match="was changed by hand"), open_run(tmp_path, SETTINGS):
        pass


def test_a_unit_is_read_as_it_was_written(tmp_path):
    (tmp_path / "units").mkdir()
    run, array = RunFolder(tmp_path), np.arange(6, dtype="f4").reshape(1, 2, 3) / 7
    name = "../odd / name\n" + "x" * 300
    assert run.read(name) is None
    run.write(name, Finished({"items": {"loss": [0.1, None]}}, array))
    found = run.read(name)
    assert found.facts == {"items": {"loss": [0.1, None]}}
    np.testing.assert_array_equal(found.array, array)
    assert run.read(name + "y") is None
    assert [path.parent for path in tmp_path.rglob("*.unit")] == [tmp_path / "units"]


def test_a_write_that_fails_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "old")
    (tmp_path / "file.part").mkdir()
    with pytest.raises(ih.UserError, match="cannot be written"):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_work_is_done_once(model, monkeypatch):
    """Equal head sets are judged once, an empty set is the baseline, scores need no pass."""
    ran, inside = [], Job.do

    def counted(self, unit, *rest):
        ran.append(unit.name)
        return inside(self, unit, *rest)

    monkeypatch.setattr(Job, "do", counted)
    curves = swept(model, None, scores=["AHON", "AHON (LN)"], percents=[1, 8, 9, 10], mode="fixed")
    # 12 heads: 1% and 8% of them are none, 9% and 10% the same one for each score.
    assert len(set(ran)) == len(ran) <= 3 * (1 + 2)
    by_share = curves.set_index(["score", "percent"])["loss"]
    assert by_share["AHON", 1.0] == by_share["AHON", 8.0] == by_share["AHON", 0.0]
    assert by_share["AHON", 9.0] == by_share["AHON", 10.0] != by_share["AHON", 0.0]


def test_a_sweep_is_read_back_from_its_folder(model, tmp_path):
    curves = swept(model, tmp_path)
    (found,) = ih.load_sweeps(tmp_path)
    pd.testing.assert_frame_equal(found.curves, curves, check_dtype=False)
    for (score, percent), outcomes in found.points.items():
        row = curves[(curves["score"] == score) & (curves["percent"] == percent)].iloc[0]
        assert outcomes.summary()["loss"] == pytest.approx(row["loss"], rel=1e-12)
        measured = ["loss", "n_tokens", "percent_zeroed", "kl", "top1_agreement"]
        assert list(outcomes.items.columns) == ["id", *measured]
    with pytest.raises(ih.UserError, match="no finished sweep"):
        ih.load_sweeps(tmp_path / "units")


def test_shards_change_no_result(model):
    for mode in ("per-input", "fixed"):
        curves = [swept(model, None, shard_tokens=n, mode=mode) for n in (10**6, 10)]
        # Four texts: the ends of an interval are far out, where rounding is magnified.
        exact = [one.drop(columns=one.filter(regex="_(low|high)$")) for one in curves]
        # A change of the loss has the rounding of the losses it is between.
        pd.testing.assert_frame_equal(*exact, rtol=1e-5, atol=1e-5 * curves[0]["loss"].max())


def test_of_many_other_settings_the_first_are_named(tmp_path):
    before = {f"setting {index}": 0 for index in range(9)}
    with open_run(tmp_path, before):
        pass
    now = dict.fromkeys(before, 1)
    with pytest.raises(ih.UserError) as caught, open_run(tmp_path, now):
        pass
    assert "setting 5 was 0, now 1; and 3 more. Give" in str(caught.value)
    assert "setting 6" not in str(caught.value)


def test_the_engine_that_was_used_decides_whether_a_run_is_continued(tmp_path):
    """Whether it was chosen or asked for: the folder knows the engine, not the option."""
    folder, out = save_folder(tmp_path / "tiny", tiny_llama()), tmp_path / "out"
    curves = swept(ih.load_model(folder), out)
    before = units_of(out)
    assert json.loads((out / "run.json").read_text())["settings"]["model"]["engine"] == "flash"
    pd.testing.assert_frame_equal(swept(ih.load_model(folder, engine="flash"), out), curves)
    assert units_of(out) == before
    with pytest.raises(ih.UserError, match='model.engine was "flash", now "lens"'):
        swept(ih.load_model(folder, engine="lens"), out)
