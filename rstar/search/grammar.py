r"""Whether a candidate follows the grammar of a trajectory (section 3.1), so that all of its code is executed.

Rejected, with a reason: text that the system alone inserts (a forged output), code that would never run (beside an
answer), and an answer without a program, except under ``answer: unexecuted``. Pure functions on texts.
"""

from __future__ import annotations

from collections.abc import Sequence

from rstar.interfaces import Candidate, Finish
from rstar.trajectory import (
    ANSWER,
    END_OF_ANSWER,
    END_OF_OUTPUT,
    OUTPUT,
    boxed,
    ends_answer,
    ends_code,
    has_code,
)


def malformed(candidate: Candidate, steps: Sequence[str], *, code_ended: bool, needs_program: bool = True) -> str:
    """Return why ``candidate`` cannot be the next step after ``steps``, or '' where it can.

    ``code_ended``: the program of ``steps`` is finished, so only the answer is missing; ``needs_program``: an answer
    must come after a program.
    """
    if candidate.finish is Finish.LENGTH:
        return "the step did not end within max_new_tokens"
    if reason := foreign_text(candidate.text):
        return reason
    if ends_answer(candidate.text):
        if not code_ended and needs_program:
            return "the answer comes before a program was finished, so nothing was executed for it"
        return malformed_answer(candidate.text)
    if code_ended:
        return "the program is finished, but the step is not an answer"
    if candidate.finish is Finish.EOS:
        return "the text ended without a marker"
    if ends_code(candidate.text) and not has_code((*steps, candidate.text)):
        return "the program has no code"
    return ""


def foreign_text(step: str) -> str:
    """Return which text of ``step`` does not belong to a step of a policy, or ''."""
    if OUTPUT in step or END_OF_OUTPUT in step:
        return "the step writes the program's output itself"
    if ANSWER in step and not ends_answer(step):
        return "the step has an answer inside its code, which is not executed"
    return ""


def malformed_answer(step: str) -> str:
    r"""Return why an answer step is none, or ''. It is ``<answer>... \boxed{X}<end_of_answer>`` and nothing else."""
    text = step.strip()
    if not text.startswith(ANSWER) or END_OF_ANSWER in text.removesuffix(END_OF_ANSWER):
        return "the answer step has text outside <answer>...<end_of_answer>, which is not executed"
    return "" if boxed(text) is not None else "the answer has no \\boxed{}"
