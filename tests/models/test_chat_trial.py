"""Chat templates that lose, alter or date a prompt: refused or mended, never used as they are."""

import datetime
import json

import pytest
from helpers.models_on_disk import save_folder, word_tokenizer
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.errors import Notice, UserError
from inactive_heads.models import chat_template
from inactive_heads.models.chat_template import ChatTemplate
from inactive_heads.tasks.prompt import Prompt

OPEN = "{% if add_generation_prompt %}<assistant>{% endif %}"
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}" + OPEN
PARTS = (
    "{% for m in messages %}<{{ m.role }}>{% for c in m.content %}{% if c.type == 'text' %}"
    "{{ c.text }}{% endif %}{% endfor %}</>{% endfor %}" + OPEN
)
PARTS_BY_INDEX = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content[0]['text'] + '' }}</>{% endfor %}" + OPEN
)
EITHER = (
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}"
    "{{ m.content | map(attribute='text') | join }}{% endif %}</>{% endfor %}" + OPEN
)
PROMPT = Prompt("About <b>.\n\n", [("What's it?", "A"), ("Who & how?", "B")], "Why {{ x }}?")
WRITTEN = (
    "<system>About <b>.\n\n</><user>What's it?</><assistant>A</><user>Who & how?</>"
    "<assistant>B</><user>Why {{ x }}?</><assistant>"
)


def chat_of(template, **arguments):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = template
    return ChatTemplate.of(tokenizer, "m", arguments)


@pytest.mark.parametrize("template", [TURNS, PARTS, PARTS_BY_INDEX, EITHER])
def test_contents_are_texts_or_parts_as_the_template_takes_them(template):
    chat = chat_of(template)
    assert chat.in_parts == (template in (PARTS, PARTS_BY_INDEX))
    assert chat.render(PROMPT.turns) == WRITTEN


def test_a_template_of_parts_answers_as_its_twin_of_texts(tmp_path):
    task = ih.ChoiceTask(
        "cats",
        [ih.ChoiceItem("q", "s", Prompt("", [], "the cat"), (" sat", " ran"), 0)],
        "cloze",
        0,
    )
    found = []
    for name, template in (("a", TURNS), ("b", PARTS)):
        tokenizer = word_tokenizer()
        tokenizer.chat_template = template
        model = ih.load_model(save_folder(tmp_path / name, tokenizer=tokenizer), chat_template="on")
        found.append(ih.evaluate(model, task).items.choice_logprobs.tolist())
    assert found[0] == found[1]


ALTERS_QUESTIONS = {
    "upper case": TURNS.replace("m.content", "m.content | upper"),
    "escaped": TURNS.replace("m.content", "m.content | e"),
    "cut": TURNS.replace("m.content", "m.content[:9]"),
    "no content": TURNS.replace("m.content", "m.text"),
    "nothing": "x",
    "parts as Python": TURNS.replace("m.content", "m.content[:3]"),
    "parts as JSON": TURNS.replace("m.content", "m.content[:3] | tojson"),
    "replaced": TURNS.replace("m.content", "m.content | replace('?', '')"),
}


@pytest.mark.parametrize("kind", ALTERS_QUESTIONS)
def test_a_template_that_alters_any_question_is_refused_at_once(kind):
    with pytest.raises(
        UserError, match=r"of 'm' leaves out or alters a question; give a tokenizer"
    ):
        chat_of(ALTERS_QUESTIONS[kind])


def test_a_question_written_twice_is_refused():
    with pytest.raises(UserError, match=r"template of 'm' writes a question 2 times"):
        chat_of(TURNS.replace("{{ m.content }}", "{{ m.content }} {{ m.content }}"))


LOSES = {
    "only the last": (
        "<user>{{ messages[-1].content }}</>" + OPEN,
        "the question of an example",
    ),
    "the first and the last": (
        "{% for m in messages[:1] + messages[1:][-1:] %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
        + OPEN,
        "the answer of an example",
    ),
    "users only": (
        "{% for m in messages if m.role == 'user' %}<user>{{ m.content }}</>{% endfor %}" + OPEN,
        "the answer of an example",
    ),
    "no system": (
        "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
        + OPEN,
        r"the description, as in 'About <b>\.'",
    ),
    "the last three turns": (
        "{% for m in messages[-3:] %}<{{ m.role }}>{{ m.content }}</>{% endfor %}" + OPEN,
        "the description",
    ),
    "long contents": (
        TURNS.replace("m.content", "m.content[:20]"),
        r"the question, as in 'A question that is long",
    ),
    "answers in lower case": (
        TURNS.replace(
            "{{ m.content }}",
            "{% if m.role == 'assistant' %}{{ m.content | lower }}{% else %}{{ m.content }}{% endif %}",
        ),
        "the answer of an example",
    ),
    "the other way round": (
        "{% for m in messages | reverse %}<{{ m.role }}>{{ m.content }}</>{% endfor %}" + OPEN,
        "an example",
    ),
}


@pytest.mark.parametrize("kind", LOSES)
def test_a_template_that_loses_part_of_a_prompt_is_refused_for_it(kind):
    template, lost = LOSES[kind]
    chat = chat_of(template)
    question = "A question that is longer than twenty characters" if "long" in kind else "Why?"
    prompt = Prompt("About <b>.\n\n", [("Who?", "A")], question)
    with pytest.raises(UserError, match=rf"of 'm' leaves out or alters .*{lost}") as refusal:
        chat.render(prompt.turns)
    assert len(str(refusal.value)) < 300
    bare = chat.render([{"role": "user", "content": "Why?"}])  # what it can write, it writes
    assert bare == "<user>Why?</><assistant>"


def test_white_space_around_a_content_may_go():
    chat = chat_of(TURNS.replace("m.content", "m.content | trim"))
    assert chat.render(PROMPT.turns) == WRITTEN.replace("\n\n", "")


def test_a_template_that_never_opens_the_answer_is_refused():
    with pytest.raises(UserError, match=r"does not open .* with '</><assistant>' as before"):
        chat_of(TURNS.removesuffix(OPEN))
    instruct = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
    )  # Mistral's: the end of a question is the opening of its answer
    asked = [{"role": "user", "content": "Why?"}]
    assert chat_of(instruct).render(asked) == "[INST] Why? [/INST]"
    thinking = TURNS.replace("<assistant>{% endif", "<assistant><think></think>{% endif")
    assert chat_of(thinking).render(asked) == "<user>Why?</><assistant><think></think>"


def test_answers_of_examples_opened_in_another_way_are_noticed():
    other = TURNS.replace("<{{ m.role }}>", "<{{ 'user' if m.role == 'assistant' else m.role }}>")
    with pytest.warns(
        Notice, match=r"an example's answer with '</><user>', .* with '</><assistant>'"
    ):
        chat_of(other)


def test_a_template_that_draws_is_refused():
    with pytest.raises(UserError, match=r"writes a question differently each time"):
        chat_of("{{ range(99999) | random }}" + TURNS)


DATED = "{% set today = strftime_now('%d %b %Y') %}Today: {{ today }}. " + TURNS


WITH_DESCRIPTION = (
    "{% if messages[0].role == 'system' %}Today: {{ strftime_now('%d %b %Y') }}. {% endif %}"
) + TURNS


@pytest.mark.parametrize("template", [DATED, WITH_DESCRIPTION])
def test_the_date_is_the_same_every_day_and_recorded(template, monkeypatch):
    with pytest.warns(Notice, match=r"writes today's date: here it is always 26 Jul 2024"):
        chat = chat_of(template)
    assert chat.render(PROMPT.turns).startswith("Today: 26 Jul 2024. <system>")
    assert chat.record == f"on ({chat.digest}, today is 2024-07-26)"
    assert datetime.date.today() > chat_template.DATE.date()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("%d %b %Y", "26 Jul 2024"),
        ("%Y-%m-%d", "2024-07-26"),
        ("%B %-d, %Y", "July 26, 2024"),
        ("%F %T", "2024-07-26 00:00:00"),
        ("%A, %e.%-m.%y", "Friday, 26.7.24"),
    ],
)
def test_the_date_in_every_format(asked, expected):
    assert chat_template.DATE.strftime(asked) == expected
    with pytest.warns(Notice):
        chat = chat_of("{{ strftime_now(format=" + repr(asked) + ") }}" + TURNS)
    assert chat.render(PROMPT.turns) == expected + WRITTEN


def test_a_date_that_is_given_is_no_news():
    chat = chat_of(
        "{% set today = day if day is defined else strftime_now('%Y') %}{{ today }} " + TURNS,
        day="1 Jan 2025",
    )
    assert chat.render(PROMPT.turns) == "1 Jan 2025 " + WRITTEN
    assert chat.record == f"on ({chat.digest})"


def test_several_templates_need_a_default_or_a_name(tmp_path):
    other = TURNS.replace("<", "[")
    assert chat_of({"default": TURNS, "rag": "x"}).render(PROMPT.turns) == WRITTEN
    chosen = chat_of({"default": TURNS, "rag": other}, chat_template="rag")
    assert chosen.render(PROMPT.turns).startswith("[system>About")
    assert chosen.digest != chat_of({"default": TURNS, "rag": other}).digest
    several = {"tool_use": other, "rag": TURNS}
    for arguments, message in [
        ({}, r"'m' comes with the chat templates tool_use, rag, and none is the default: name one"),
        ({"chat_template": "chat"}, r"tool_use, rag, and no 'chat': name one in a preset"),
    ]:
        with pytest.raises(UserError, match=message) as refusal:
            chat_of(several, **arguments)
        assert len(str(refusal.value).splitlines()) == 1
    tokenizer = word_tokenizer()
    tokenizer.chat_template = several
    save_folder(tmp_path / "weights", tokenizer=tokenizer)
    with pytest.raises(UserError, match=r"'weights' comes with the chat templates"):
        ih.load_model(tmp_path / "weights", chat_template="on")
    preset = tmp_path / "mine.toml"
    preset.write_text(
        'model = "weights"\nchat_template = true\nchat_template_args = { chat_template = "rag" }'
    )
    assert ih.load_model(preset).chat.render(PROMPT.turns) == WRITTEN


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('never') }}", "TemplateError: never"),
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("{{ tools | length }}" + TURNS, "cannot be used"),
        ("{{ nobody.knows.this }}" + TURNS, "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        (5, "cannot be used|leaves out"),
    ],
)
def test_a_template_that_fails_is_refused_in_one_line(template, message):
    with pytest.raises(UserError, match=message) as refusal:
        chat_of(template)
    assert len(str(refusal.value).splitlines()) == 1


def test_arguments_that_are_set_here_are_refused():
    with pytest.raises(UserError, match=r"chat_template_args of 'm' has tokenize, which is set by"):
        chat_of(TURNS, tokenize=True)


def test_a_template_in_a_file_of_its_own_is_used(tmp_path):
    folder = save_folder(tmp_path / "m")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert "chat_template" not in config
    (folder / "chat_template.jinja").write_text(TURNS)
    assert ih.load_model(folder, chat_template="on").chat.render(PROMPT.turns) == WRITTEN


def test_an_answer_begun_for_the_model_is_left_open():
    turns = [*PROMPT.turns, {"role": "assistant", "content": "The answer is"}]
    for template in (TURNS, PARTS):
        assert chat_of(template).continued(turns) == WRITTEN + "The answer is"
    lost = chat_of("<user>{{ messages[-1].content }}</>" + OPEN)
    with pytest.raises(UserError, match="leaves out or alters"):
        lost.continued(turns)


def test_a_prompt_is_written_by_its_turns_and_other_texts_are_refused():
    chat = chat_of(TURNS)
    with unchecked():
        assert chat.render(PROMPT) == chat.render(PROMPT.turns)
        for given, message in [
            ("Why?", "a list of turns, not the text 'Why.'"),
            (["Why?"], "a turn has a role and a content, and 'Why.' does not"),
            ([{"role": "user"}], "a turn has a role and a content"),
        ]:
            with pytest.raises(ih.UserError, match=message):
                chat.render(given)
