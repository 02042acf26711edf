"""Prompts as parts, chat templates, and the tokens of what may follow."""

import copy
import warnings

import pytest
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny_llama
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.errors import Notice, UserError
from inactive_heads.tasks.base import ChoiceItem
from inactive_heads.tasks.choice_task import ChoiceTask
from inactive_heads.tasks.prompt import Prompt
from inactive_heads.tasks.question_tokens import asked_of, written_prompt

TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
) + TURNS
PROMPT = Prompt("About cats.\n\n", [("the cat", "sat"), ("a dog", "ran")], "the mat")
ITEM = ChoiceItem("q7", "cats", PROMPT, (" sat", " ran", " far", " on"), 2)


def load(folder, template=TURNS, words=WORDS, **options):
    tokenizer = word_tokenizer(words=words)
    tokenizer.chat_template = template
    return ih.load_model(save_folder(folder, tokenizer=tokenizer), **options)


def test_a_prompt_is_its_text_and_keeps_its_parts():
    assert PROMPT == "About cats.\n\nthe cat sat\n\na dog ran\n\nthe mat"
    other = copy.deepcopy(PROMPT)  # as pickling does, on the way to other processes
    assert other == PROMPT
    assert other.turns == PROMPT.turns


def test_examples_are_turns(tmp_path):
    model = load(tmp_path / "m", chat_template="on")
    assert model.chat.render(PROMPT.turns) == (
        "<system>About cats.\n\n</><user>the cat</><assistant>sat</>"
        "<user>a dog</><assistant>ran</><user>the mat</><assistant>\n"
    )
    bare = Prompt("", [], "the mat")
    assert model.chat.render(bare.turns) == "<user>the mat</><assistant>\n"


def test_arguments_of_a_preset_reach_the_template(tmp_path):
    load(tmp_path / "weights", "{{ day }}: " + TURNS)
    preset = tmp_path / "mine.toml"
    preset.write_text(
        'model = "weights"\nchat_template = true\nchat_template_args = { day = "the" }'
    )
    model = ih.load_model(preset)
    assert model.chat.render(PROMPT.turns).startswith("the: <system>About cats.")
    assert model.recipe["chat_template"] == "auto"
    assert ih.load_model(**model.recipe).provenance == model.provenance
    plain = ih.load_model(preset, chat_template="off")
    assert plain.chat is None
    assert plain.provenance["chat_template"] == "off"
    digest = model.provenance["chat_template"]
    preset.write_text(preset.read_text().replace('"the"', '"a"'))
    assert ih.load_model(preset).provenance["chat_template"] != digest


def test_a_template_that_takes_no_system_turn_goes_without_and_says_so_once(tmp_path):
    model = load(tmp_path / "m", NO_SYSTEM, chat_template="on")
    with pytest.warns(Notice, match=r"'m' takes no system turn: .* is left out"):
        first = model.chat.render(PROMPT.turns)
    with warnings.catch_warnings():
        assert model.chat.render(PROMPT.turns) == first
    assert first.startswith("<user>the cat</>")
    assert "About" not in first


def test_a_model_without_a_template_says_what_can_be_done(tmp_path):
    for missing in ("", None):
        with pytest.raises(UserError, match=r"'m' comes without a chat template.*--tokenizer"):
            load(tmp_path / "m", missing, chat_template="on")
    with pytest.raises(UserError, match=r"'bare' has no tokenizer, and a chat template"):
        ih.load_model(save_folder(tmp_path / "bare", tokenizer=None), chat_template="on")
    wrong = r"chat_template='yes' is unknown; give one of auto, on"
    with unchecked(), pytest.raises(UserError, match=wrong):
        load(tmp_path / "m", chat_template="yes")


def test_a_template_that_fails_is_named(tmp_path):
    with pytest.raises(UserError, match=r"chat template of 'm' cannot be used \(.*never"):
        load(tmp_path / "m", "{{ raise_exception('never') }}", chat_template="on")


def test_only_prompts_are_written_by_the_template(tmp_path):
    model = load(tmp_path / "m", chat_template="on")
    assert written_prompt(model, ITEM.context).startswith("<system>")
    assert written_prompt(model, str(PROMPT)) == PROMPT


def test_white_space_at_the_end_is_read_with_the_answer():
    """One token of white space, shared by the answers: one input, as lm-evaluation-harness groups."""

    def encode(text):
        return [ord(character) % 97 for character in text]

    model = ih.as_model(bridge())
    model = ih.Model(model.engine, None, model.provenance, encode)
    asked = asked_of(model, ChoiceItem("q", "s", "ab\n", ("C", "D"), 0), "letter")
    assert asked.prompts == [encode("ab")] * 2
    assert asked.answers == [encode("\nC"), encode("\nD")]
    (one,) = asked.inputs
    assert one.tokens == encode("ab\n")
    assert one.positions == [1, 2, 2]
    assert one.targets == encode("\nCD")
    task = ChoiceTask("t", [ChoiceItem("q", "s", "ab\n", ("C", "D"), 0)], "letter", 0)
    apart = ChoiceTask("t", [ChoiceItem("q", "s", "ab", ("\nC", "\nDD"), 0)], "letter", 0)
    shared, single = (ih.evaluate(model, one).items.choice_logprobs[0] for one in (task, apart))
    assert shared[0] == pytest.approx(single[0], rel=1e-5)


def bridge():
    from inactive_heads.engines.lens import bridge_of

    return bridge_of(tiny_llama(), "tiny")


def test_letters_that_are_one_token_are_refused(tmp_path):
    model = load(tmp_path / "m")
    letters = ChoiceItem("q7", "cats", PROMPT, (" A", " B", " C", " D"), 2)
    with pytest.raises(UserError, match=r"gives ' A' and ' B' the same tokens \[2\], so letters"):
        asked_of(model, letters, "letter")
    assert asked_of(model, letters, "cloze").answers == [[2]] * 4
    nothing = ChoiceItem("q7", "cats", PROMPT, (" sat", " "), 0)
    with pytest.raises(UserError, match=r"makes no token of its own of the answer ' ' to question"):
        asked_of(model, nothing, "letter")


def test_letters_that_join_the_prompt_are_refused():
    tokens = {"x": [1], "x A": [2, 3]}  # a token for "x " that the prompt alone does not have
    model = ih.Model(ih.as_model(bridge()).engine, None, {"model": "tiny"}, tokens.__getitem__)
    with pytest.raises(UserError, match=r"joins the answer ' A' to question 'q' with the prompt"):
        asked_of(model, ChoiceItem("q", "s", "x", (" A",), 0), "letter")


@pytest.mark.parametrize("bos", ["auto", "on"])
def test_a_prompt_that_opens_with_bos_gets_no_second(tmp_path, bos):
    tokenizer = word_tokenizer(adds_bos=True)
    model = ih.load_model(save_folder(tmp_path / "m", tokenizer=tokenizer), bos=bos)
    assert model.encode("the cat") == model.encode("<s> the cat") == [0, 3, 4]


def test_the_prompt_is_shown_as_its_tokens_decode(tmp_path):
    template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    model = load(tmp_path / "m", template, chat_template="on")
    shown = ChoiceTask("cats", [ITEM], "letter", 2).first_prompt(model)
    assert shown.splitlines() == [
        "cats: question 'q7', 2 shots, the model's chat template, 11 tokens, bos auto",
        "-" * 80,
        "<unk> <unk> <unk> the cat sat a dog ran the mat",
        "-" * 80,
        "answer 'sat': tokens [5]",
        "answer 'ran': tokens [11]",
        "answer 'far': tokens [12]   <- right",
        "answer 'on': tokens [6]",
    ]
    text = ih.TextTask("text-loss", ["the cat sat"]).first_prompt(model)
    assert text.splitlines()[2] == "the cat sat"
