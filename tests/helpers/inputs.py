"""Everything that people give to the package, as small files, and how each kind is loaded."""

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import inactive_heads as ih
from helpers.models_on_disk import save_folder, write_gguf
from helpers.tiny_models import tiny_llama
from inactive_heads.report.from_files import SavedOptions, build_saved_report

IDS = [[3, 4, 5, 6], [7, 8]]


@functools.cache
def model() -> ih.Model:
    return ih.load_model("llama-style-tiny")


def runs(path: Path) -> None:
    """Loads a model, and scores and ablates with it."""
    found = ih.load_model(path)
    ih.score_heads(found, IDS)
    ih.ablate(found, IDS, ih.Fixed([(0, 0)]))


def a_question(i: int) -> dict:
    choices = [f"word {i} {letter}" for letter in "abcd"]
    split = "dev" if i < 2 else "test"
    question = f"Which is number {i}?"
    return {
        "subject": "s",
        "question": question,
        "choices": choices,
        "answer": i % 4,
        "split": split,
    }


def curves() -> pd.DataFrame:
    rows = [
        {"model": name, "task": "quiz", "score": score, "mode": "fixed", "percent": percent}
        | {"percent_zeroed": percent, "accuracy": 60 - percent * slope, "n": 100}
        for name in ("M", "N")
        for score, slope in (("AHON (LN)", 0.5), ("AWFT", 1.0))
        for percent in (0, 10, 20)
    ]
    return pd.DataFrame(rows)


def lines(rows: list) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def made(write: Callable[[Path], object]) -> Callable[[Path], object]:
    """Makes files once; later calls copy them."""

    @functools.cache
    def original() -> Path:
        folder = Path(tempfile.mkdtemp(prefix="undamaged-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        write(folder)
        return folder

    return lambda folder: shutil.copytree(original(), folder, dirs_exist_ok=True)


def sweep_in(folder: Path) -> None:
    task = ih.load_task("quiz", limit=5, shots=0)
    ih.sweep(model(), task, scores=["AWFT"], percents=[0, 50], out=folder / "run")


def resume(folder: Path) -> None:
    ih.load_sweeps(folder / "run")
    sweep_in(folder)


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        write: makes an undamaged input in a folder.
        files: a pattern of the files that are damaged.
        load: loads the input from the folder, and uses it.
    """

    write: Callable[[Path], object]
    files: str
    load: Callable[[Path], object]


def in_file(name: str, content: Callable[[], str], load: Callable[[Path], object]) -> Kind:
    """An input that is one file of text."""
    return Kind(
        lambda folder: (folder / name).write_text(content(), "utf-8"),
        name,
        lambda folder: load(folder / name),
    )


def from_saved(**files: str) -> Callable[[Path], object]:
    def load(folder: Path) -> object:
        given = {option: [str(folder / name)] for option, name in files.items()}
        return build_saved_report(SavedOptions(**given, out=str(folder / "report")))

    return load


def make_scores(folder: Path) -> None:
    ih.score_heads(model(), IDS).to_netcdf(folder / "scores.nc")


TEXTS = [{"text": f"The cat number {i} sat on the mat."} for i in range(4)]
SIZES = {"n_layers": 2, "n_heads": 4, "d_model": 32, "n_ctx": 64, "d_vocab": 97, "seed": 1}
TOML = {
    "own.toml": "\n".join(
        ['architecture = "llama"', *(f"{key} = {value}" for key, value in SIZES.items())]
    ),
    "preset.toml": 'model = "m"\nname = "mine"\ndtype = "float32"\nbos = "off"\nbatch_size = 2\n',
}


def make_preset(folder: Path) -> None:
    save_folder(folder / "m")
    (folder / "preset.toml").write_text(TOML["preset.toml"])


KINDS = {
    "heads": in_file(
        "heads.json",
        lambda: json.dumps({"format": "inactive_heads heads 1", "heads": [[0, 1], [1, 2]]}),
        lambda file: ih.ablate(model(), IDS, ih.Fixed.load(file)),
    ),
    "texts-jsonl": in_file("texts.jsonl", lambda: lines(TEXTS), ih.load_texts),
    "texts-txt": in_file("texts.txt", lambda: "The cat sat on the mat. " * 20, ih.load_texts),
    "texts-parquet": Kind(
        lambda folder: pd.DataFrame(TEXTS).to_parquet(folder / "texts.parquet"),
        "texts.parquet",
        lambda folder: ih.load_texts(folder / "texts.parquet"),
    ),
    "quiz": in_file(
        "quiz.jsonl",
        lambda: lines([a_question(i) for i in range(6)]),
        lambda file: ih.evaluate(model(), ih.load_task("quiz", data=file, shots=1)),
    ),
    "curves": in_file(
        "curves.csv",
        lambda: curves().to_csv(index=False),
        lambda file: from_saved(curves=file.name)(file.parent),
    ),
    "scores": Kind(made(make_scores), "scores.nc", from_saved(scores="scores.nc")),
    "thresholds": in_file(
        "thresholds.csv",
        lambda: "model,score,task,percent,threshold\nM,AWFT,a,10,0.5\nM,AWFT,b,10,0.6\n",
        lambda file: from_saved(thresholds=file.name)(file.parent),
    ),
    "architecture": in_file("own.toml", lambda: TOML["own.toml"], runs),
    "preset": Kind(made(make_preset), "preset.toml", lambda folder: runs(folder / "preset.toml")),
    "config": Kind(made(save_folder), "config.json", runs),
    "generation-config": Kind(made(save_folder), "generation_config.json", runs),
    "tokenizer": Kind(
        made(save_folder),
        "tokenizer*.json",
        lambda folder: ih.score_heads(ih.load_model(folder), ["the cat sat"]),
    ),
    "safetensors": Kind(made(save_folder), "model.safetensors", runs),
    "gguf": Kind(
        made(lambda folder: write_gguf(folder / "m.gguf", tiny_llama())),
        "m.gguf",
        lambda folder: runs(folder / "m.gguf"),
    ),
    "run": Kind(made(sweep_in), "run/**/*", resume),
}
