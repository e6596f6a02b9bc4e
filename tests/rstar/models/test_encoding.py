"""Training and serving see the same token ids, and generated ids give back their text, in every family of tokenizers."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rstar_jobs.encoded import NO_LOSS, PairData, encode_example
from rstar_policy.policy_tokenizer import PolicyTokenizer
from transformers import AutoTokenizer

from rstar.models.encoding import TrajectoryTokenizer
from rstar.prompt import PromptStyle, render
from rstar.selection import Continuation, PairGroup, SftExample
from rstar.trajectory import CODE, END_OF_ANSWER, END_OF_CODE, END_OF_OUTPUT, END_OF_STEP, OUTPUT, neutralise
from tests.support import tokenizers

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FAMILIES = st.sampled_from(sorted(tokenizers.EXACT))
PIECES = st.sampled_from(
    [
        " ",
        "  ",
        "\n",
        "\n\n",
        "    ",
        "\t",
        "the",
        " the",
        "1",
        ".",
        ".\n",
        "print",
        "e\u0301",
        "é",
        "ﬁ",
        "漢",
        "🙂",
        "▁",
        "A",
        "<0x0A>",
        "Ġ",
        "<s>",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)
STEPS = st.lists(TEXTS.map(neutralise).map(lambda text: f"{text}{END_OF_STEP}"), max_size=3)
LAST = st.sampled_from(
    [
        f"{CODE}\nprint(1)\n{END_OF_CODE}\n{OUTPUT}1{END_OF_OUTPUT}\n",
        f"\n{CODE}\n x{END_OF_CODE}\n{OUTPUT} 1\n{END_OF_OUTPUT}\n<answer> It is \\boxed{{1}}.{END_OF_ANSWER}",
        "no marker at all ",
    ]
)


@cache
def made(family: str) -> TrajectoryTokenizer:
    return TrajectoryTokenizer(tokenizers.EXACT[family]())


def encodable(text: str) -> bool:
    return text.encode(errors="ignore").decode() == text


@UNTIMED
@given(FAMILIES, TEXTS.filter(encodable))
def test_a_continuation_gives_back_its_text_byte_for_byte(family: str, text: str) -> None:
    assert made(family).text(made(family).continuation(text)) == text


@UNTIMED
@given(FAMILIES, TEXTS.filter(encodable), STEPS, LAST)
def test_training_and_serving_encode_the_same_state_alike(
    family: str, question: str, steps: list[str], last: str
) -> None:
    tokenizer = made(family)
    served = PolicyTokenizer(tokenizer, "trained", [2]).encode(question, [*steps, last])
    trained = encode_example(tokenizer, SftExample("p", question, (*steps, last), 1.0))
    assert trained.ids.tolist() == [*served, tokenizer.eos]
    right, wrong = (Continuation((text,), q, terminal=False) for text, q in ((last, 1.0), ("b", 0.0)))
    group = PairGroup("p", question, tuple(steps), (right,), (wrong,), ((0, 0),))
    with tempfile.TemporaryDirectory() as folder:
        assert PairData(tokenizer, [group], 10**6, Path(folder))[0].chosen.tolist() == served


@UNTIMED
@given(FAMILIES, TEXTS.filter(encodable), STEPS, LAST, st.sampled_from(["trained", "bootstrap"]))
def test_the_ids_of_a_state_begin_with_those_of_its_parent(
    family: str, question: str, steps: list[str], last: str, style: Any
) -> None:
    tokenizer = made(family)
    parent = tokenizer.state(question, steps, style)
    assert tokenizer.state(question, [*steps, last], style) == parent + tokenizer.step(last)


@UNTIMED
@given(FAMILIES, TEXTS.filter(encodable), STEPS, LAST)
def test_the_ids_of_a_state_give_back_the_rendered_text_after_bos(
    family: str, question: str, steps: list[str], last: str
) -> None:
    ids = made(family).state(question, [*steps, last])
    assert made(family).text(ids).removeprefix("<s>") == render(question, [*steps, last])


@UNTIMED
@given(FAMILIES, st.lists(STEPS.filter(bool).map(lambda steps: steps[0]), min_size=1, max_size=3))
def test_a_generated_step_has_the_same_ids_when_it_is_part_of_the_next_state(family: str, texts: list[str]) -> None:
    tokenizer = made(family)
    policy = PolicyTokenizer(tokenizer, "trained", [2])
    state = policy.encode("q", [])
    steps: list[str] = []
    for text in texts:
        generated = tokenizer.continuation(text)
        steps.append(policy.decode(generated))
        state += generated
        assert policy.encode("q", steps) == state


@pytest.mark.parametrize("family", tokenizers.EXACT)
def test_a_text_that_starts_a_sequence_has_the_ids_that_the_model_was_trained_with(family: str) -> None:
    original = tokenizers.EXACT[family]()
    for text in ("the sum of the roots", "You solve math problems", "1 + 1\n  x"):
        assert TrajectoryTokenizer(original).prompt(text) == original.encode(text)


def test_the_first_line_break_of_a_policy_is_not_merged_with_the_end_of_its_prompt() -> None:
    for family in tokenizers.EXACT:
        tokenizer = made(family)
        prompt = tokenizer.state("q")
        assert tokenizer.state("q", ["\n<code>\n"])[: len(prompt)] == prompt


def test_bytes_that_are_not_utf8_do_not_change_the_text_around_them() -> None:
    tokenizer = made("sentencepiece_bpe")
    line_break, half = tokenizer.continuation("\n"), tokenizer.continuation("漢")[:1]
    assert tokenizer.text([*line_break, *half, *line_break]) == "\n\ufffd\n"
    assert tokenizer.text([10**6, *line_break]) == "\n"


@pytest.mark.parametrize("kind", [tokenizers.t5, tokenizers.wordpiece])
def test_a_tokenizer_that_loses_line_breaks_is_refused_with_one_sentence(kind: Any) -> None:
    with pytest.raises(ValueError, match="does not keep a program's text") as caught:
        TrajectoryTokenizer(kind())
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_a_tokenizer_json_is_refused_with_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"object has no tokenizer\.json"):
        TrajectoryTokenizer(object())


@pytest.mark.parametrize("family", tokenizers.EXACT)
def test_the_loss_is_on_what_the_policy_wrote(family: str) -> None:
    tokenizer = made(family)
    steps = (f"{CODE}\nprint(4)\n{END_OF_CODE}\n{OUTPUT}4{END_OF_OUTPUT}\n", f"<answer> 4{END_OF_ANSWER}")
    encoded = encode_example(tokenizer, SftExample("p", "q", steps, 1.0))
    trained = [token for token in encoded.labels if token != NO_LOSS]
    assert tokenizer.text(trained) == f"{CODE}\nprint(4)\n{END_OF_CODE}{steps[1]}</s>"


@pytest.mark.parametrize("family", tokenizers.EXACT)
def test_a_stored_tokenizer_encodes_as_it_did_in_training(family: str, tmp_path: Path) -> None:
    trained = tokenizers.EXACT[family]()
    trained.save_pretrained(tmp_path)
    in_training, in_serving = (TrajectoryTokenizer(t) for t in (trained, AutoTokenizer.from_pretrained(tmp_path)))
    steps = (
        f"{CODE}\n# Step 1: é 漢\n    x = 2\n{END_OF_STEP}",
        f" print(x) \n{END_OF_CODE}\n{OUTPUT}2{END_OF_OUTPUT}\n",
    )
    styles: tuple[PromptStyle, ...] = ("trained", "bootstrap")
    for style in styles:
        ids = in_serving.state("How  many?\n", steps, style)
        assert ids == in_training.state("How  many?\n", steps, style)
        assert in_serving.text(ids) == in_training.text(ids)
