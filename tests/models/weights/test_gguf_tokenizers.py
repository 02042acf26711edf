"""Tokenizers of .gguf files split and open texts as the file says."""

import gguf
import pytest
from helpers.gguf_files import small_vocabulary, tiny_network, write_gguf

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.weights.bundled import demo_checkpoint
from inactive_heads.models.weights.gguf.load import GgufFile
from inactive_heads.models.weights.gguf.splits import SPLITS


@pytest.fixture(scope="module")
def llama():
    return tiny_network("llama", head_dim=8)


def tokenizer(llama, path, *, without=(), tokens=None, merges=None, model="gpt2", **settings):
    def vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
        small_vocabulary(writer, size)
        written = writer.kv_data[0]
        for key in ("tokens", "merges"):
            given = {"tokens": tokens, "merges": merges}[key]
            if given is not None:
                filled = given + [f"<{i}>" for i in range(len(given), size)] * (key == "tokens")
                del written[f"tokenizer.ggml.{key}"]
                writer.add_array(f"tokenizer.ggml.{key}", filled)
        if model == "llama":
            writer.add_token_scores([-float(i) for i in range(size)])
            del written["tokenizer.ggml.merges"]
        del written["tokenizer.ggml.model"]
        writer.add_tokenizer_model(model)
        for key, value in settings.items():
            written.pop(f"tokenizer.ggml.{key}", None)
            add = writer.add_bool if isinstance(value, bool) else writer.add_string
            add(f"tokenizer.ggml.{key}", value)
        for key in without:
            del written[f"tokenizer.ggml.{key}"]

    return GgufFile(write_gguf(path / "m.gguf", llama, tokenizer=vocabulary)).tokenizer()


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, [15]),
        ({"add_bos_token": True}, [0, 15]),
        ({"add_bos_token": True, "add_eos_token": True}, [0, 15, 1]),
        ({"pre": "llama-bpe"}, [0, 15]),  # llama.cpp opens these with BOS where nothing is said
        ({"pre": "llama-bpe", "add_bos_token": False}, [15]),
        ({"pre": "tekken"}, [0, 15]),
    ],
)
def test_a_text_opens_and_ends_as_the_file_says(settings, ids, llama, tmp_path):
    assert tokenizer(llama, tmp_path, **settings)("abcd").input_ids == ids


TOKENS = ["<s>", "</s>", "<unk>", "Ċ", "1", "2", "ĊĊ", "12", "Ġ", "a", "Ġ1", "zq"]
MERGES = ["Ċ Ċ", "1 2", "Ġ 1"]


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        # Digits stay alone, and the newlines before them together (as in SmolLM2 and StarCoder).
        ("smollm", ["ĊĊ", "1", "2", "Ġ", "1"]),
        ("gpt-2", ["Ċ", "Ċ", "12", "Ġ1"]),
        ("qwen2", ["ĊĊ", "1", "2", "Ġ", "1"]),
        ("llama-bpe", ["<s>", "ĊĊ", "12", "Ġ", "1"]),
    ],
)
def test_a_text_is_split_by_the_rule_of_the_file(pre, pieces, llama, tmp_path):
    read = tokenizer(llama, tmp_path, pre=pre, tokens=TOKENS, merges=MERGES)
    assert read.convert_ids_to_tokens(read("\n\n12 1").input_ids) == pieces


def test_a_word_of_the_vocabulary_is_taken_whole_where_the_model_does_so(llama, tmp_path):
    tokens = ["<s>", "</s>", "<unk>", "z", "q", "zq", "c", "d", "cd"]  # no merge makes "zq"
    for pre, ids in (("llama-bpe", [0, 5]), ("gpt-2", [3, 4])):
        read = tokenizer(llama, tmp_path, pre=pre, tokens=tokens, merges=["c d"])
        assert read("zq").input_ids == ids


@pytest.mark.parametrize("pre", SPLITS)
def test_every_rule_is_a_valid_expression(pre, llama, tmp_path):
    read = tokenizer(llama, tmp_path, pre=pre, add_bos_token=False)
    assert read("abcd f").input_ids[0] == 15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pre": "newest-bpe"}, r"splits texts by the rule 'newest-bpe', .*tokenizer=FOLDER"),
        ({"model": "bert"}, r"of the kind 'bert', which is not read here; .*tokenizer="),
        ({"add_sep_token": True}, "add_sep_token, which is not read"),
        ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces, which is not read"),
    ],
)
def test_what_is_not_known_is_refused(settings, message, llama, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        tokenizer(llama, tmp_path, **settings)
    assert "\n" not in str(caught.value)


def test_a_missing_rule_is_noticed_where_it_matters(llama, tmp_path):
    assert tokenizer(llama, tmp_path, without=["pre"])("abcd").input_ids == [15]
    with pytest.warns(Notice, match=r"does not say how its tokenizer splits texts"):
        tokenizer(llama, tmp_path, without=["pre"], tokens=TOKENS, merges=MERGES)


def test_a_file_without_a_vocabulary_has_no_tokenizer(llama, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama, tokenizer=lambda writer, size: None)
    assert GgufFile(path).tokenizer() is None


PIECES = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab"]


@pytest.mark.parametrize(("prefix", "pieces"), [(True, ["<s>", "▁ab"]), (False, ["<s>", "ab"])])
def test_sentencepiece_adds_a_space_unless_the_file_says_not_to(prefix, pieces, llama, tmp_path):
    settings = {"model": "llama", "tokens": PIECES, "add_space_prefix": prefix}
    ids = ["bos_token_id", "eos_token_id", "unknown_token_id"]  # left to sentencepiece's own
    read = tokenizer(llama, tmp_path, without=ids, **settings)
    assert read.convert_ids_to_tokens(read("ab").input_ids) == pieces


def test_the_bundled_model_keeps_newlines_before_digits_together():
    """As SmolLM2's own tokenizer and llama.cpp do; transformers' reader of .gguf files does not."""
    read = demo_checkpoint().tokenizer()
    assert [read.decode([i]) for i in read("a\n\n12").input_ids] == ["a", "\n\n", "1", "2"]
