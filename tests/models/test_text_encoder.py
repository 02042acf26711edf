"""What a tokenizer adds to a text: learned once, kept before a text, left out after it."""

import re
import warnings

import pytest
import transformers
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny_llama
from helpers.unchecked import unchecked
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import inactive_heads as ih
from inactive_heads.engines.lens import bridge_of
from inactive_heads.errors import Notice, UserError
from inactive_heads.models.load import as_model
from inactive_heads.models.text_encoder import TextEncoder

MORE = [*WORDS, "[CLS]", "[SEP]", "<en>"]
BOS, EOS, CLS, SEP, LANGUAGE = 0, 1, *range(len(WORDS), len(MORE))
SPECIAL = [(MORE[at], at) for at in (BOS, EOS, CLS, SEP, LANGUAGE)]

AROUND = {
    "eos": ("$A </s>", [], [EOS]),
    "bos and eos": ("<s> $A </s>", [BOS], [EOS]),
    "bert": ("[CLS] $A [SEP]", [CLS], [SEP]),
    "language before": ("<s> <en> $A", [BOS, LANGUAGE], []),
    "two after": ("$A </s> <en>", [], [EOS, LANGUAGE]),
    "eos twice": ("$A </s> </s>", [], [EOS, EOS]),
    "an ordinary word after": ("$A cat", [], [WORDS.index("cat")]),
}


def tokenizer_with(template, words=MORE):
    tokenizer = word_tokenizer(words=words)
    tokenizer.add_special_tokens({"additional_special_tokens": words[len(WORDS) :]})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template,
        pair=f"{template} $B </s>",
        special_tokens=[*SPECIAL, ("cat", WORDS.index("cat"))],
    )
    return tokenizer


@pytest.mark.parametrize("kind", AROUND)
def test_what_stands_after_a_text_is_left_out_and_recorded(tmp_path, kind):
    template, before, after = AROUND[kind]
    tokenizer = tokenizer_with(template)
    assert tokenizer("the cat sat").input_ids == [*before, 3, 4, 5, *after]
    with pytest.warns(Notice, match=r"the tokenizer of 'm' puts "):
        model = ih.load_model(save_folder(tmp_path / "m", tokenizer=tokenizer))
    assert model.encode("the cat sat") == [*before, 3, 4, 5]
    assert model.encode("the cat sat </s>") == [*before, 3, 4, 5, EOS]  # the text's own
    assert model.encode("sat </s> </s>") == [*before, 5, EOS, EOS]
    assert model.encode("<s> the") == [BOS, 3]  # opens as a template may have written it
    assert model.encode("") == before
    said = model.provenance["bos"]
    left_out = " ".join(MORE[token] for token in after)
    assert (f"{left_out} after a text left out" in said) == bool(after)
    assert said.startswith("auto; ")
    (bare,) = quietly(tokenizer, ["off"])
    assert bare("the cat sat") == [3, 4, 5]
    assert bare.rule == "off"
    (with_bos,) = quietly(tokenizer, ["on"])
    rest = before if before[:1] == [BOS] else [BOS, *before]
    assert with_bos("the cat sat") == [*rest, 3, 4, 5]


def quietly(tokenizer, rules):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        return [TextEncoder.of(tokenizer, rule, "m") for rule in rules]


@pytest.mark.parametrize(("template", "expected"), [("$A", []), ("<s> $A", [BOS])])
def test_usual_tokenizers_are_no_news(template, expected):
    encode = TextEncoder.of(tokenizer_with(template), "auto", "m")
    assert encode.rule == "auto"
    assert encode("cat sat") == [*expected, 4, 5]
    assert encode("") == expected


def test_a_text_that_opens_with_the_tokens_before_it_gets_no_more():
    (encode,) = quietly(tokenizer_with("[CLS] $A [SEP]"), ["auto"])
    assert encode("[CLS] the cat") == [CLS, 3, 4]
    assert encode("the [CLS] cat") == [CLS, 3, CLS, 4]


def test_the_demo_model_answers_alike_where_eos_is_added(demo_model, tmp_path):
    tokenizer = ih.load_model().tokenizer
    eos = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.warns(Notice, match=f"puts {re.escape(eos)} after a text, which is left out"):
        added = ih.load_model(dtype="float32", tokenizer=tmp_path)
    assert added.tokenizer("Hello").input_ids[-1] == tokenizer.eos_token_id
    plain = ih.load_model(dtype="float32")
    task = ih.load_task("quiz", limit=6, num_fewshot=1)
    expected, found = (ih.evaluate(one, task).items for one in (plain, added))
    assert expected.choice_logprobs.tolist() == found.choice_logprobs.tolist()
    texts = ["The capital of France is", "One, two,"]
    written = [ih.generate(one, texts, max_new_tokens=4).tokens for one in (plain, added)]
    assert written[0] == written[1]
    loss = [ih.evaluate(one, ih.TextTask("t", texts)).items.loss.tolist() for one in (plain, added)]
    assert loss[0] == loss[1]


def test_tokens_at_random_or_in_the_text_are_refused():
    merges = [("c", "a"), ("ca", "t"), ("s", "at"), ("a", "t")]
    vocabulary = {w: i for i, w in enumerate(["<s>", "</s>", *"cats", "ca", "at", "cat", "sat"])}
    for dropout, refused in ((0.3, True), (0.001, True), (None, False)):
        bpe = models.BPE(vocabulary, merges, dropout=dropout)
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(bpe), bos_token="<s>", eos_token="</s>"
        )
        if refused:
            with pytest.raises(UserError, match=r"of 'm' draws a text's tokens at random"):
                TextEncoder.of(tokenizer, "auto", "m")
        else:
            assert TextEncoder.of(tokenizer, "auto", "m")("cat") == [vocabulary["cat"]]


@pytest.mark.parametrize("added", ["</s>", "cat", "[SEP]"])
@pytest.mark.parametrize("rule", ["auto", "off", "on"])
def test_what_a_normalizer_adds_is_refused(added, rule):
    tokenizer = word_tokenizer(words=MORE)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex("$"), f" {added}")
    assert tokenizer("the sat", add_special_tokens=False).input_ids == [3, 5, MORE.index(added)]
    message = f"'m' adds {re.escape(added)} to every text, also without special"
    with pytest.raises(UserError, match=message):
        TextEncoder.of(tokenizer, rule, "m")


class Interleaved(transformers.PythonBackend):
    """A slow tokenizer of letters, with a token between any two of them."""

    def __init__(self, **options):
        self.letters = {letter: at for at, letter in enumerate("|_abcdefgh")}
        super().__init__(bos_token="|", eos_token="_", unk_token="_", **options)

    vocab_size = property(lambda self: len(self.letters))
    get_vocab = lambda self: dict(self.letters)  # noqa: E731
    _tokenize = lambda self, text, **_: list(text)  # noqa: E731
    _convert_token_to_id = lambda self, token: self.letters.get(token, 1)  # noqa: E731
    _convert_id_to_token = lambda self, at: list(self.letters)[at]  # noqa: E731

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        return [token for own in token_ids_0 for token in (own, 0)]


class Ended(Interleaved):
    """A slow tokenizer of letters that puts two tokens after a text."""

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        return [0, *token_ids_0, 1, 0]


def test_slow_tokenizers_with_rules_of_their_own():
    (encode,) = quietly(Ended(), ["auto"])
    assert encode("abc") == [0, 2, 3, 4]
    assert encode.rule == "auto; _ | after a text left out"
    with pytest.raises(UserError, match=r"'m' adds tokens in another way than before and after"):
        TextEncoder.of(Interleaved(), "auto", "m")
    assert TextEncoder.of(Interleaved(), "off", "m")("ab") == [2, 3]
    assert TextEncoder.of(Interleaved(), "on", "m")("ab") == [0, 2, 3]


def test_a_length_and_padding_in_the_file_change_nothing(tmp_path):
    tokenizer = tokenizer_with("<s> $A </s>")
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    with pytest.warns(Notice):
        model = ih.load_model(save_folder(tmp_path / "m", tokenizer=tokenizer))
    assert model.encode("the cat sat on a mat") == [BOS, *range(3, 9)]


def sentencepiece_like(prepend):
    """A Llama-like BPE tokenizer: spaces are ▁, one of which is put before a text."""
    words = ["<s>", "</s>", "<unk>", "▁", *"catson", "▁c", "at", "▁cat", "▁s", "▁sat"]
    merges = [("▁", "c"), ("a", "t"), ("▁c", "at"), ("▁", "s"), ("▁s", "at")]
    backend = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges, unk_token="<unk>"))
    steps = [normalizers.Prepend("▁")] if prepend else []
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    return tokenizer, words


@pytest.mark.parametrize("prepend", [True, False])
def test_a_prompt_and_its_answer_are_the_whole_s_tokens(tmp_path, prepend):
    tokenizer, words = sentencepiece_like(prepend)
    with pytest.warns(Notice):
        model = ih.load_model(save_folder(tmp_path / "m", tokenizer=tokenizer))
    item = ih.ChoiceItem("q", "s", "cat", (" sat", " cat", " son"), 0)
    (inputs,) = ih.ChoiceTask("t", [item], "cloze", 0).inputs(model)
    asked = [words[token] for token in model.encode("cat")]
    assert asked == ["<s>", *(["▁cat"] if prepend else ["c", "at"])]
    read = [[words[t] for t in one.tokens] + [words[one.targets[-1]]] for one in inputs]
    assert read == [[*asked, "▁sat"], [*asked, "▁cat"], [*asked, "▁s", "o", "n"]]
    assert [len(one.targets) for one in inputs] == [1, 1, 3]


def test_an_answer_that_the_tokenizer_joins_with_the_prompt_is_noticed(tmp_path):
    words = [*WORDS, "c", "a", "t", "ca", "at"]
    vocabulary = {w: i for i, w in enumerate(words)}
    backend = Tokenizer(models.BPE(vocabulary, [("c", "a"), ("a", "t")], unk_token="<unk>"))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    model = ih.load_model(save_folder(tmp_path / "m", tokenizer=tokenizer))
    item = ih.ChoiceItem("q5", "s", "tc", ("at", "ct"), 0)
    task = ih.ChoiceTask("joins", [item], "cloze", 0)
    with pytest.warns(Notice, match=r"in 1 of 1 questions of 'joins' \('q5' first\), .* joins"):
        task.inputs(model)
    apart = ih.ChoiceTask("t", [ih.ChoiceItem("q", "s", "tt", ("at", "ct"), 0)], "cloze", 0)
    apart.inputs(model)


def test_answers_that_are_one_to_the_tokenizer_are_noticed(tmp_path):
    tokenizer = word_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    model = ih.load_model(save_folder(tmp_path / "m", tokenizer=tokenizer))

    def task(*answers):
        return ih.ChoiceTask("t", [ih.ChoiceItem("q1", "s", "the", answers, 0)], "cloze", 0)

    for answers in ((" cat", " CAT"), (" sat", " dog", " Dog"), (" sat", " Eis", " Wei")):
        with pytest.warns(
            Notice, match=r"\('q1' first\), the tokenizer of 'm' gives different answ"
        ):
            task(*answers).inputs(model)
    twice = ih.ChoiceItem("q1", "s", "the", (" cat", " sat", " cat"), 1)
    ih.ChoiceTask("t", [twice], "cloze", 0).inputs(model)  # that is the question's own affair


@pytest.mark.parametrize("prepend", [True, False])
@pytest.mark.parametrize("kind", ["eos", "bos and eos", "two after"])
def test_a_bridge_leaves_out_what_stands_after_a_text(prepend, kind):
    template, before, after = AROUND[kind]
    bridge = bridge_of(tiny_llama(), "mine")
    bridge.tokenizer = tokenizer_with(template)
    bridge.tokenizer.pad_token = "</s>"
    bridge.cfg.default_prepend_bos = prepend
    bridge.cfg.tokenizer_prepends_bos = before[:1] == [BOS]
    assert bridge.to_tokens("the cat")[0].tolist()[-len(after) :] == after
    with pytest.warns(Notice, match=r"the tokenizer of 'mine' puts .* after a text"):
        model = as_model(bridge)
    expected = [BOS, 3, 4] if prepend else [3, 4]
    assert model.encode("the cat") == expected
    assert model.encode("the cat </s>") == [*expected, EOS]
    assert model.provenance["bos"].endswith(" after a text left out")


def test_what_is_no_text_is_refused(tmp_path):
    model = ih.load_model(save_folder(tmp_path / "m"))
    for text, message in [
        ("the \ud83d cat", r"the text has a lone surrogate, '\\ud83d', at character 4"),
        ("\udcff", r"lone surrogate, '\\udcff', at character 0"),
        (b"the cat", r"the text is of type bytes, not a text: b'the cat'"),
        (None, r"the text is of type NoneType"),
    ]:
        with unchecked(), pytest.raises(UserError, match=message):
            model.encode(text)


def test_a_tokenizer_that_knows_nothing_of_a_text_is_refused(tmp_path):
    model = ih.load_model(save_folder(tmp_path / "m", tokenizer=word_tokenizer(adds_bos=True)))
    unknown = r"has only unknown tokens \(<unk>\): the tokenizer of 'm' knows nothing of 'Guten"
    with pytest.raises(UserError, match="sample 1 " + unknown):
        ih.score_heads(model, ["the Guten", "Guten Tag"])
    item = ih.ChoiceItem("q", "s", "Guten Tag", (" cat", " sat"), 0)
    with pytest.raises(UserError, match="the prompt of question 'q' " + unknown):
        ih.evaluate(model, ih.ChoiceTask("t", [item], "cloze", 0))
    with pytest.raises(UserError, match="sample 0 " + unknown):
        ih.generate(model, ["Guten"], max_new_tokens=1)


def test_pre_tokenizers_that_lose_a_leading_space_lose_nothing_else(tmp_path):
    words = [*WORDS, "Ġcat", "Ġthe", "Ġsat"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    model = ih.load_model(save_folder(tmp_path / "m", tokenizer=tokenizer))
    assert model.encode("cat sat") == model.encode(" cat sat")
    item = ih.ChoiceItem("q", "s", "the", (" cat", " sat"), 0)
    (inputs,) = ih.ChoiceTask("t", [item], "letter", 0).inputs(model)
    assert [words[token] for token in inputs[0].targets] == ["Ġcat", "Ġsat"]
