"""How process reward models read a solution: one function per convention, from question and steps to token ids.

Every convention scores a step at the last token of its encoding, which is the model's step separator. So the n candidates
of a state share its ids, whatever the convention. All functions are pure.

============== ============================================== ============== ==========================================
rstar          the platform's own PPMs: the trajectory's text last token     tanh of a scalar head
qwen-prm       Qwen2.5-Math-PRM: ChatML, its system prompt    ``<extra_0>``  softmax of two labels, the second is correct
math-shepherd  Math-Shepherd: ``QUESTION Step 1: ...``        `` ки``        softmax of the tokens `` +`` and `` -``
skywork-prm    Skywork-o1-Open-PRM: question, then lines      line break     sigmoid of a value head
============== ============================================== ============== ==========================================

Public models judge steps of natural language. They get our steps without markers and blank lines: Python with its comments,
and what the program printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.model_folder import ConventionName
from rstar.prompt import PromptStyle, render_prompt
from rstar.trajectory import MARKERS

QWEN_SEPARATOR: Final = "<extra_0>"
QWEN_SYSTEM: Final = r"Please reason step by step, and put your final answer within \boxed{}."
SHEPHERD_SEPARATOR: Final = " ки"
SHEPHERD_CORRECT: Final = " +"
SHEPHERD_WRONG: Final = " -"
SKYWORK_SEPARATOR: Final = "\n"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a solution; ``ends[i]`` is the position of the token at which step i is scored."""

    ids: tuple[int, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepEncoder:
    """A convention with a tokenizer. ``prompt``: the ids of a question; ``step``: of a step and its number, from 1."""

    prompt: Callable[[str], list[int]]
    step: Callable[[str, int], list[int]]

    def encoded(self, question: str, steps: Iterable[str]) -> Encoded:
        """Return the ids of the question and the steps, in which markers may be."""
        ids = self.prompt(question)
        ends: list[int] = []
        for number, step in enumerate(steps, 1):
            ids += self.step(step, number)
            ends.append(len(ids) - 1)
        return Encoded(tuple(ids), tuple(ends))


def rstar(tokenizer: TrajectoryTokenizer, style: PromptStyle) -> StepEncoder:
    """Return the encoding of training: ``render(question, steps)``."""
    return StepEncoder(
        lambda question: tokenizer.prompt(render_prompt(question, style)), lambda step, _: tokenizer.step(step)
    )


def qwen_prm(tokenizer: TrajectoryTokenizer) -> StepEncoder:
    """Return the encoding of Qwen2.5-Math-PRM. Raises ``ValueError`` when the tokenizer lacks its special tokens."""
    separator = single_token(tokenizer, QWEN_SEPARATOR)
    for marker in ("<|im_start|>", "<|im_end|>"):
        single_token(tokenizer, marker)

    def prompt(question: str) -> list[int]:
        system = f"<|im_start|>system\n{QWEN_SYSTEM}<|im_end|>\n"
        return tokenizer.prompt(f"{system}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")

    return StepEncoder(prompt, lambda step, _: [*tokenizer.continuation(plain_step(step)), separator])


def math_shepherd(tokenizer: TrajectoryTokenizer) -> StepEncoder:
    """Return the encoding of Math-Shepherd. Raises ``ValueError`` when the separator is not one token."""
    separator = single_token(tokenizer, SHEPHERD_SEPARATOR)

    def step(text: str, number: int) -> list[int]:
        before = " " if number == 1 else "\n"
        return [*tokenizer.continuation(f"{before}Step {number}: {plain_step(text)}"), separator]

    return StepEncoder(tokenizer.prompt, step)


def skywork_prm(tokenizer: TrajectoryTokenizer, begin: str | None) -> StepEncoder:
    """Return the encoding of Skywork-o1-Open-PRM; ``begin``: the tokenizer's token for the begin of a text.

    The model was trained on one step per line, so each line of a step ends with the separator. Raises ``ValueError`` when
    there is no such token, or when the separator is not one token.
    """
    if begin is None:
        raise ValueError("the tokenizer has no begin-of-text token (bos_token), with which a question must begin")
    separator = single_token(tokenizer, SKYWORK_SEPARATOR)

    def step(text: str, _: int) -> list[int]:
        lines = plain_step(text).split("\n")
        return [token for line in lines for token in (*tokenizer.continuation(line), separator)]

    return StepEncoder(lambda question: tokenizer.prompt(f"{begin}{question}\n"), step)


def single_token(tokenizer: TrajectoryTokenizer, text: str) -> int:
    """Return the id of a text that must be one token. Raises ``ValueError``."""
    ids = tokenizer.continuation(text)
    if len(ids) != 1:
        raise ValueError(f"the tokenizer has no token {text!r}: it makes {len(ids)} tokens of it")
    return ids[0]


def plain_step(step: str) -> str:
    r"""Return the lines of a step without markers and blank lines, joined by line breaks.

    >>> plain_step("<code>\n# Step 1: double it\nx = 2 * 4\n<end_of_step>")
    '# Step 1: double it\nx = 2 * 4'
    """
    for marker in MARKERS:
        step = step.replace(marker, "\n")
    return "\n".join(line.rstrip() for line in step.splitlines() if line.strip())


def step_encoder(
    name: ConventionName, tokenizer: TrajectoryTokenizer, begin: str | None, style: PromptStyle
) -> StepEncoder:
    """Return the encoder of a convention. ``style`` is for rstar only, ``begin`` as for ``skywork_prm``.

    Raises ``ValueError`` with one sentence when the tokenizer lacks a token of the convention.
    """
    match name:
        case "rstar":
            return rstar(tokenizer, style)
        case "qwen-prm":
            return qwen_prm(tokenizer)
        case "math-shepherd":
            return math_shepherd(tokenizer)
        case "skywork-prm":
            return skywork_prm(tokenizer, begin)
