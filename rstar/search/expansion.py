"""One expansion: propose n candidates, merge duplicates, execute their code, score those that ran, verify answers.

Every search method grows its trees through this module, so that the rules of the grammar and the counting of tokens
are the same for all. Which node is expanded next is the method's decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from rstar.config import SearchConfig
from rstar.interfaces import (
    Candidate,
    Execution,
    ExecutionStatus,
    Executor,
    Finish,
    Policy,
    PreferenceModel,
    Sampling,
    State,
    Verifier,
)
from rstar.problem import Problem
from rstar.record import Usage
from rstar.search.tree import Node, backup, close
from rstar.trajectory import (
    END_OF_OUTPUT,
    OUTPUT,
    STEP_STOPS,
    boxed,
    display_output,
    ends_answer,
    ends_code,
    output_block,
)

T = TypeVar("T")


class SearchContext:
    """One search: its problem, settings, models and verifier, and what it has spent and found so far."""

    def __init__(
        self,
        problem: Problem,
        config: SearchConfig,
        *,
        policy: Policy,
        executor: Executor,
        ppm: PreferenceModel | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        self.problem = problem
        self.config = config
        self.policy = policy
        self.executor = executor
        self.ppm = ppm
        self.verifier = verifier
        self.usage = Usage()
        self.trajectories = 0
        self.correct = 0
        self.policy_digest = ""
        self.ppm_digest = ""
        temperature = 0.0 if config.method == "greedy" else config.temperature
        self.sampling = Sampling(temperature, config.top_p, config.max_new_tokens, STEP_STOPS)
        self.limits = config.execution.limits

    def state(self, steps: tuple[str, ...]) -> State:
        """Return the paper's state: the question and ``steps``."""
        return State(self.problem.id, self.problem.question, steps)

    def spent(self) -> bool:
        """Say whether the token budget is used up."""
        budget = self.config.token_budget
        return budget is not None and self.usage.tokens >= budget


async def expand(context: SearchContext, node: Node, n: int, seed: int) -> list[Node]:
    """Add up to ``n`` children to ``node`` and return them; a candidate with the text of a child is merged into it.

    New terminals are verified and backed up at once (section 3.2). Failed candidates stay in the tree, closed,
    so that they are not executed again.
    """
    state = context.state(node.steps())
    proposal = await context.policy.propose(state, n, context.sampling, seed)
    context.policy_digest = proposal.model_digest
    new = _distinct(node, proposal.candidates)
    context.usage.tokens += sum(candidate.tokens for candidate in proposal.candidates)
    context.usage.nodes += len(new)
    children = [Node(node, c.text, c.tokens, c.logprob) for c in new]
    node.children = children if node.children is None else node.children + children
    node.barren = 0 if children else node.barren + 1

    for child, candidate in zip(children, new, strict=True):
        reason = malformed(candidate, node.code_ended)
        if reason:
            fail(child, reason)
    await execute(context, node, state, [child for child in children if child.valid])
    await score(context, state, [child for child in children if child.valid])
    for child in children:
        if child.valid and child.terminal:
            await reward_terminal(context, child)
    return children


def malformed(candidate: Candidate, code_ended: bool) -> str:
    """Return why a candidate cannot be a step, or '' where it can."""
    if candidate.finish is Finish.LENGTH:
        return "the step did not end within max_new_tokens"
    if OUTPUT in candidate.text or END_OF_OUTPUT in candidate.text:
        return "the step writes the program's output itself"
    if ends_answer(candidate.text):
        return "" if boxed(candidate.text) is not None else "the answer has no \\boxed{}"
    if code_ended:
        return "the program is finished, but the step is not an answer"
    if candidate.finish is Finish.EOS:
        return "the text ended without a marker"
    return ""


def fail(node: Node, reason: str) -> None:
    """End a path whose candidate failed: q = -1, N = 1, the node itself only (section 3.2)."""
    node.valid = False
    node.terminal = True
    node.reason = reason
    node.visits, node.value = 1, -1.0
    close(node)


async def execute(context: SearchContext, parent: Node, state: State, children: Sequence[Node]) -> None:
    """Execute the program of each child and apply the result; an answer has no program and becomes a terminal."""
    programs = []
    for child in children:
        if ends_answer(child.text):
            child.terminal, child.answer = True, boxed(child.text)
        else:
            programs.append(child)
    if not programs:
        return
    executions = await context.executor.execute(state, [child.text for child in programs], context.limits)
    context.usage.executions += len(executions)
    for child, execution in zip(programs, executions, strict=True):
        apply_execution(context.config, parent, child, execution)


def apply_execution(config: SearchConfig, parent: Node, child: Node, execution: Execution) -> None:
    """Fail the child if its program failed, unless ``max_consecutive_errors`` allows a next step to repair it."""
    finished = ends_code(child.text)
    if execution.status is not ExecutionStatus.OK:
        child.errors = parent.errors + 1
        child.reason = f"{execution.status}: {execution.reason}"
        if finished or child.errors >= config.max_consecutive_errors:
            fail(child, child.reason)
            return
    if finished:
        child.code_ended = True
        child.output = display_output(execution.stdout)
        if config.answer == "output":
            child.terminal, child.answer = True, child.output
        else:
            child.text += output_block(child.output)
    elif child.depth >= config.max_depth:
        fail(child, f"no answer within {config.max_depth} steps")


async def score(context: SearchContext, state: State, children: Sequence[Node]) -> None:
    """Equation 3: a new step starts with q = PPM(prefix + step) and N = 1."""
    if context.ppm is None or not children:
        return
    scores = await context.ppm.score(state, [child.text for child in children])
    context.ppm_digest = scores.model_digest
    context.usage.scored += len(children)
    for child, value in zip(children, scores.values, strict=True):
        child.score = value
        if not child.terminal:
            child.visits, child.value = 1, value


async def reward_terminal(context: SearchContext, terminal: Node) -> None:
    """Verify a terminal and back up its reward: +1 or -1 by the verifier, else the PPM's score (section 3.2).

    Without a verifier and a PPM the reward is 0: the visit counts, the worth of the answer is unknown.
    """
    reward = terminal.score or 0.0
    context.trajectories += 1
    if context.verifier is not None:
        verdict = await context.verifier.verify(context.problem, terminal.answer or "")
        terminal.correct, terminal.reason = verdict.correct, verdict.reason
        context.correct += verdict.correct
        reward = 1.0 if verdict.correct else -1.0
    backup(terminal, reward)
    close(terminal)


def _distinct(node: Node, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates without those whose text a child or an earlier candidate has."""
    seen = {child.text.partition(f"\n{OUTPUT}")[0] for child in node.children or ()}
    new = []
    for candidate in candidates:
        if candidate.text not in seen:
            seen.add(candidate.text)
            new.append(candidate)
    return new


async def gather_or_cancel(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of ``work`` in order. The first failure cancels the others and is raised unchanged.

    With ``asyncio.gather`` the others would still call models for a search that has already failed.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
