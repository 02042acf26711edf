"""Models in parts, files of other kinds, and damaged ones."""

import random
import shutil
import struct

import gguf
import numpy as np
import pytest
import torch
from helpers.gguf_files import tiny_network, write_gguf

import inactive_heads as ih
from inactive_heads.errors import UserError
from inactive_heads.models.weights.gguf.header import read_header
from inactive_heads.models.weights.gguf.load import GgufFile
from inactive_heads.models.weights.gguf.parts import read_model

IDS = list(range(5, 23))


@pytest.fixture(scope="module")
def llama():
    return tiny_network("llama", head_dim=8)


@pytest.fixture(scope="module")
def file(llama, tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("whole") / "small.gguf", llama)


@pytest.fixture
def parts(llama, tmp_path):
    """The first of three parts."""
    return write_gguf(tmp_path / "small.gguf", llama, parts=12)


def refused(path, message):
    with pytest.raises(UserError, match=message) as caught:
        ih.load_model(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + 3 * len(str(path))


def assert_same(path, network):
    logits = ih.ablate(ih.load_model(path), [IDS], None).logits[0]
    expected = network(torch.tensor([IDS])).logits[0, -1]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_part_stands_for_the_whole(number, llama, parts):
    path = parts.with_name(f"small-0000{number}-of-00003.gguf")
    assert_same(path, llama)
    model = ih.load_model(path)
    assert model.name == "small"
    assert model.encode("abcdf") == [15, 8]
    assert model.provenance["unpacked_from"] == "gguf"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_missing_part_is_named(number, parts):
    lost = parts.with_name(f"small-0000{number}-of-00003.gguf")
    lost.unlink()
    refused(next(iter(sorted(parts.parent.glob("*.gguf")))), rf"1 are missing .*get {lost.name}")


def test_parts_of_different_models_are_refused(parts, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    longer = tiny_network("llama", head_dim=8, num_hidden_layers=4)
    write_gguf(other / "small.gguf", longer, parts=14)
    name = "small-00002-of-00003.gguf"
    shutil.copy(other / name, parts.with_name(name))
    refused(parts, rf"{name} is no part of the same model .*split\.tensors\.count is 39, not 30")


def test_parts_in_the_wrong_order_are_refused(parts):
    second, third = (parts.with_name(f"small-0000{i}-of-00003.gguf") for i in (2, 3))
    shutil.copy(third, second)
    refused(parts, r"small-00002-of-00003\.gguf is no part .*split\.no is 2, not 1")


def test_a_part_with_another_name_says_how_to_name_them(parts):
    renamed = parts.rename(parts.with_name("model.gguf"))
    refused(renamed, r"one of 3 parts .*name the parts NAME-00001-of-00003\.gguf")


def test_the_name_of_a_part_alone_makes_no_part(file, llama, tmp_path):
    whole = tmp_path / "all-00001-of-00001.gguf"
    shutil.copy(file, whole)
    assert_same(whole, llama)
    assert ih.load_model(whole).name == "all"


def test_upper_case_is_no_other_format(file, llama, parts, tmp_path):
    path = tmp_path / "SMALL.GGUF"
    shutil.copy(file, path)
    assert_same(path, llama)
    for each in sorted(parts.parent.glob("small-*.gguf")):
        each.rename(each.with_suffix(".GGUF"))
    assert_same(parts.with_suffix(".GGUF"), llama)
    with pytest.raises(UserError, match="there is no file or folder"):
        ih.load_model("absent.GGUF")


def test_a_folder_with_one_model_is_that_model(file, llama, parts, tmp_path):
    assert_same(parts.parent, llama)
    (tmp_path / "._hidden.gguf").touch()
    assert_same(tmp_path, llama)
    shutil.copy(file, tmp_path / "other.gguf")
    refused(tmp_path, r"has 2 models in \.gguf files: give the path of one, such as .*other\.gguf")


def emptied(path, architecture="llama", **texts):
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in texts.items():
        writer.add_string(key.replace("_", ".", 1), value)
    writer.add_tensor("a", np.zeros((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "texts", "message"),
    [
        ("llama", {"general_type": "adapter"}, r"is a LoRA adapter: merge it"),
        ("clip", {"general_type": "mmproj"}, r"\(mmproj\): give the file of the language model"),
        ("clip", {}, r"\(mmproj\): give the file of the language model"),
        ("imatrix", {"general_type": "imatrix"}, r"is an importance matrix"),
        ("controlvector", {}, r"is a control vector"),
        ("bert", {}, r"'bert': it is an encoder"),
        ("llama", {}, r"has no matrix token_embd\.weight"),
    ],
)
def test_files_of_other_kinds_are_refused_for_what_they_are(architecture, texts, message, tmp_path):
    refused(emptied(tmp_path / "m.gguf", architecture, **texts), message)


def test_a_vocabulary_alone_is_refused(llama, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama, without=lambda name: True)
    refused(path, "has a vocabulary and no weights")


def replaced(data, start, new):
    return data[:start] + new + data[start + len(new) :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "an empty file"),
        (lambda data: data[:6], r"damaged or incomplete"),
        (lambda data: b"PK" + data, r"not a GGUF file \(it starts with b'PKGG'\)"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (lambda data: b"GGUF" + b"\xff" * 200, "GGUF version 4294967295"),
        (lambda data: replaced(data, 4, b"\1\0\0\0"), "GGUF version 1"),
        (lambda data: replaced(data, 4, b"\0\0\0\3"), "is big-endian"),
        (lambda data: data[:60], "damaged or incomplete"),
        (lambda data: data[: int(0.6 * len(data))], "more than there are"),
        (lambda data: data[:-100], "more than there are"),
        (lambda data: replaced(data, 8, b"\xff" * 8), "damaged .* tensors"),
        (lambda data: replaced(data, 16, b"\xff" * 8), "damaged .* keys"),
        (lambda data: replaced(data, 24, b"\xff" * 8), "ends in the middle"),
    ],
)
def test_a_damaged_file_is_refused(file, tmp_path, damage, message):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(damage(file.read_bytes()))
    refused(bad, message)


def test_a_weight_that_is_not_a_number_is_named(file, tmp_path):
    bad = tmp_path / "bad.gguf"
    start = read_header(file).tensors["blk.1.ffn_up.weight"].start
    for value in (float("nan"), float("inf")):
        bad.write_bytes(replaced(file.read_bytes(), start + 40, struct.pack("<f", value)))
        refused(bad, r"blk\.1\.ffn_up\.weight in .* has NaN or infinity")


@pytest.mark.parametrize(("code", "message"), [(26, "I32"), (999, "type 999"), (16, "IQ2_XXS")])
def test_a_type_that_cannot_be_unpacked_is_named(code, message, file, tmp_path, monkeypatch):
    if code == 16:  # gguf unpacks it; stands for any type that an older gguf lacks
        monkeypatch.setattr(
            "inactive_heads.models.weights.gguf.header.dequantize",
            lambda *_: (_ for _ in ()).throw(NotImplementedError),
        )
    data, name = file.read_bytes(), b"output_norm.weight"
    at = data.rindex(name) + len(name) + 4 + 8
    bad = tmp_path / "bad.gguf"
    if code == 16:
        bad.write_bytes(data)
        refused(bad, "stored as F32, which cannot be unpacked here: give a file of another")
    else:
        bad.write_bytes(replaced(data, at, struct.pack("<I", code)))
        refused(bad, rf"output_norm\.weight in .* stored as .*{message}")


def test_200_damaged_headers_load_or_are_refused_in_one_line(file, tmp_path):
    """Bytes turned at random in the header: no traceback, no hang, no huge allocation."""
    data, bad = file.read_bytes(), tmp_path / "bad.gguf"
    generator = random.Random(0)
    end = min(tensor.start for tensor in read_header(file).tensors.values())
    n_refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(generator.choice([1, 1, 2, 8])):
            damaged[generator.randrange(end)] = generator.choice([0, 1, 127, 255])
        bad.write_bytes(bytes(damaged))
        try:
            _ = read_model(bad), GgufFile(bad).config
        except UserError as error:
            n_refused += 1
            message = str(error)
            assert "\n" not in message
            assert len(message) < 700, message
    assert n_refused > 50
