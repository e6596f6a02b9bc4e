"""One expansion: propose n candidates, merge duplicates, execute their code, score those that ran, verify answers.

Every search method grows its trees through this module, so that the counting of tokens and the treatment of failures
are the same for all. Which node is expanded next is the method's decision. One bad candidate or one failed call costs
no more than its own node: the node fails with the reason and the tree stays. Only ``RoleUnavailable`` ends a search.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from rstar.config import SearchConfig
from rstar.interfaces import (
    Candidate,
    Execution,
    ExecutionStatus,
    Executor,
    Policy,
    PreferenceModel,
    RoleUnavailable,
    Sampling,
    State,
    Verifier,
)
from rstar.problem import Problem
from rstar.record import Usage
from rstar.search.grammar import malformed
from rstar.search.tree import Node, backup, close
from rstar.trajectory import OUTPUT, STEP_STOPS, boxed, display_output, ends_answer, ends_code, output_block

T = TypeVar("T")


class SearchContext:
    """The growth of one tree: its problem, settings, models and verifier, and what it has spent and found so far.

    ``token_budget`` is the tree's own: trees that grow at the same time share nothing, so none depends on their timing.
    """

    def __init__(
        self,
        problem: Problem,
        config: SearchConfig,
        *,
        policy: Policy,
        executor: Executor,
        ppm: PreferenceModel | None = None,
        verifier: Verifier | None = None,
        token_budget: int | None = None,
    ) -> None:
        self.problem = problem
        self.config = config
        self.policy = policy
        self.executor = executor
        self.ppm = ppm
        self.verifier = verifier
        self.token_budget = token_budget
        self.root = Node()
        self.usage = Usage()
        self.trajectories = 0
        self.correct = 0
        self.leading: Node | None = None
        self.policy_digest = ""
        self.ppm_digest = ""
        temperature = 0.0 if config.method == "greedy" else config.temperature
        self.sampling = Sampling(temperature, config.top_p, config.max_new_tokens, STEP_STOPS)
        self.limits = config.execution.limits

    def state(self, steps: tuple[str, ...]) -> State:
        """Return the paper's state: the question and ``steps``."""
        return State(self.problem.id, self.problem.question, steps)

    def done(self) -> bool:
        """Return whether the token budget is spent, or a trajectory is correct and that ends the search."""
        return self.spent() or (self.config.stop_when_solved and self.correct > 0)

    def spent(self) -> bool:
        """Return whether the token budget is used up."""
        return self.token_budget is not None and self.usage.tokens >= self.token_budget

    def malformed(self, candidate: Candidate, steps: Sequence[str], code_ended: bool) -> str:
        """Return why ``candidate`` cannot be the next step after ``steps``, or ''."""
        needs_program = self.config.answer != "unexecuted"
        return malformed(candidate, steps, code_ended=code_ended, needs_program=needs_program)


async def expand(context: SearchContext, node: Node, n: int, seed: int) -> list[Node]:
    """Add up to ``n`` children to ``node`` and return them; a candidate with the text of a child is merged into it.

    New terminals are verified and backed up at once (section 3.2). Failed candidates stay in the tree, closed, so that
    they are not executed again. A node for which the policy proposes nothing, because its call failed, fails itself; a
    root then raises that error, because nothing is left to search.
    """
    state = context.state(node.steps())
    try:
        proposal = await context.policy.propose(state, n, context.sampling, seed)
    except RoleUnavailable:
        raise
    except Exception as error:
        _give_up(node, error)
        return []
    context.policy_digest = proposal.model_digest
    new = _distinct(node, proposal.candidates)
    context.usage.tokens += sum(candidate.tokens for candidate in proposal.candidates)
    context.usage.nodes += len(new)
    children = [Node(node, c.text, c.tokens, c.logprob) for c in new]
    node.children = children if node.children is None else node.children + children
    node.barren = 0 if children else node.barren + 1

    for child, candidate in zip(children, new, strict=True):
        if reason := context.malformed(candidate, state.steps, node.code_ended):
            fail(child, reason)
    await execute(context, node, state, [child for child in children if child.valid])
    await score(context, state, [child for child in children if child.valid and not child.errors])
    for child in children:
        if child.valid and child.terminal:
            await reward_terminal(context, child)
    return children


def _give_up(node: Node, error: Exception) -> None:
    """Fail a node whose policy call failed; one that has children keeps them and gets no more."""
    reason = f"the policy failed: {error}"
    node.exhausted = True
    if node.children:
        return
    if node.parent is None:
        raise error
    node.children = []
    fail(node, reason)


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

    async def call(some: Sequence[Node]) -> Sequence[Execution]:
        executions = await context.executor.execute(state, [child.text for child in some], context.limits)
        context.usage.executions += len(executions)
        return executions

    for child, execution in await _call_for_each("executor", call, programs):
        apply_execution(context.config, parent, child, execution)


def apply_execution(config: SearchConfig, parent: Node, child: Node, execution: Execution) -> None:
    """Apply the result of the child's program. A failed program ends the path.

    With ``max_consecutive_errors`` above 1 a next step may repair a failed one: its error is shown to the policy, its
    code is left out of later programs (``rstar.trajectory.code_of``), and it starts at q = -1, N = 1, so that steps
    which ran are tried before it.
    """
    finished = ends_code(child.text)
    if execution.status is not ExecutionStatus.OK:
        child.errors = parent.errors + 1
        child.reason = f"{execution.status}: {execution.reason}"
        if finished or child.errors >= config.max_consecutive_errors:
            fail(child, child.reason)
            return
        child.text += output_block(execution.reason)
        child.visits, child.value = 1, -1.0
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
    if context.ppm is None:
        return
    ppm = context.ppm

    async def call(some: Sequence[Node]) -> Sequence[float]:
        scores = await ppm.score(state, [child.text for child in some])
        context.ppm_digest = scores.model_digest
        context.usage.scored += len(some)
        return scores.values

    for child, value in await _call_for_each("PPM", call, children):
        child.score = value
        if not child.terminal:
            child.visits, child.value = 1, value


async def _call_for_each(
    role: str, call: Callable[[Sequence[Node]], Awaitable[Sequence[T]]], nodes: Sequence[Node]
) -> list[tuple[Node, T]]:
    """Return (node, result) for the nodes that got a result, from one call for all of them.

    When that call fails, each node is tried alone, and those whose own call fails too are failed. After a deadline they
    are not tried again: every one of them could take as long. Raises ``RoleUnavailable``.
    """
    if not nodes:
        return []
    try:
        return list(zip(nodes, await call(nodes), strict=True))
    except RoleUnavailable:
        raise
    except Exception as error:
        if len(nodes) == 1 or isinstance(error, TimeoutError):
            for node in nodes:
                fail(node, f"the {role} failed: {error}")
            return []
    alone = [await _call_for_each(role, call, [node]) for node in nodes]
    return [result for results in alone for result in results]


async def reward_terminal(context: SearchContext, terminal: Node) -> None:
    """Verify a terminal and back up its reward: +1 or -1 by the verifier, else the PPM's score (section 3.2).

    Without a verifier and a PPM the reward is 0: the visit counts, the worth of the answer is unknown.
    """
    reward = terminal.score or 0.0
    context.trajectories += 1
    before = context.leading.score if context.leading is not None else None
    if before is None or (terminal.score is not None and terminal.score > before):
        context.leading = terminal
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
