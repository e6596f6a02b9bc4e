"""Every search method on a toy problem with a known optimum."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar.config import SearchConfig
from rstar.interfaces import Candidate, Finish, Proposal, RoleUnavailable
from rstar.problem import Problem
from rstar.record import Progress
from rstar.rounds.spec import paper_search
from rstar.search.solve import SearchFailed, solve
from rstar.trajectory import END_OF_CODE, code_of
from tests.support.scripted import ClosenessModel, DigitPolicy, SumExecutor, SumVerifier, step, total

PROBLEM = Problem("sum-30", "Make 30 from four digits.", "30")
LIKELY = Problem("sum-18", "Make 18 from four digits.", "18")


def search(
    config: SearchConfig,
    *,
    ppm=None,
    verifier=None,
    seed=0,
    policy=None,
    executor=None,
    problem=PROBLEM,
    on_progress=None,
):
    return asyncio.run(
        solve(
            problem,
            config,
            policy=policy or DigitPolicy(),
            executor=executor or SumExecutor(),
            ppm=ppm,
            verifier=verifier,
            seed=seed,
            on_progress=on_progress,
        )
    )


def test_mcts_without_a_ppm_finds_correct_answers_by_the_verifier() -> None:
    record = search(SearchConfig(rollouts=64, candidates=8), verifier=SumVerifier(), problem=LIKELY)
    assert record.solved
    assert record.nodes[record.chosen].answer is not None
    first_steps = {record.path(i)[0] for i in record.terminals() if record.nodes[i].correct}
    assert all(record.nodes[i].q > -1 for i in first_steps)


@pytest.mark.parametrize("method", ["mcts", "beam"])
def test_a_perfect_ppm_leads_the_search_to_the_optimum(method: str) -> None:
    config = SearchConfig(method=method, rollouts=8, candidates=16, guidance="ppm")
    record = search(config, ppm=ClosenessModel(30))
    assert record.nodes[record.chosen].answer == "30"
    assert record.ppm_digest == "closeness"


def test_every_new_step_starts_with_its_ppm_score_and_one_visit() -> None:
    record = search(SearchConfig(rollouts=1, candidates=4, guidance="ppm"), ppm=ClosenessModel(30))
    leaves = [n for i, n in enumerate(record.nodes) if n.parent >= 0 and not any(m.parent == i for m in record.nodes)]
    assert all(n.visits == 1 and n.value == n.score for n in leaves if not n.terminal)


def test_the_reward_is_plus_or_minus_one_in_training_and_the_ppm_score_at_inference() -> None:
    trained = search(SearchConfig(rollouts=16, guidance="ppm"), ppm=ClosenessModel(30), verifier=SumVerifier())
    assert {n.value for n in trained.nodes if n.terminal and n.valid} <= {1.0, -1.0}
    inferred = search(SearchConfig(rollouts=16, guidance="ppm"), ppm=ClosenessModel(30))
    assert all(n.value == n.score for n in inferred.nodes if n.terminal and n.valid)


def test_a_failed_step_has_q_minus_one_for_itself_only_and_is_never_visited_again() -> None:
    record = search(SearchConfig(rollouts=32, candidates=8), verifier=SumVerifier(), policy=DigitPolicy(broken_every=3))
    failed = [i for i, n in enumerate(record.nodes) if not n.valid]
    assert failed
    for i in failed:
        assert (record.nodes[i].visits, record.nodes[i].value) == (1, -1.0)
        assert not any(n.parent == i for n in record.nodes)
        assert "boom" in record.nodes[i].reason
    for i, node in enumerate(record.nodes):
        below = [n for k, n in enumerate(record.nodes) if n.answer is not None and i in record.path(k)]
        if node.parent >= 0 and node.valid:
            assert node.visits == len(below)


def test_duplicate_candidates_are_merged_and_their_tokens_are_counted() -> None:
    record = search(SearchConfig(rollouts=1, candidates=64), verifier=SumVerifier())
    first_level = [n.text for n in record.nodes if n.parent == 0]
    assert len(first_level) == len(set(first_level)) <= 10
    assert record.usage.tokens % (64 * 3) == 0


def test_terminals_are_visited_once_and_a_closed_tree_ends_the_search() -> None:
    record = search(SearchConfig(rollouts=10_000, candidates=2, answer="output"), verifier=SumVerifier())
    assert record.usage.rollouts < 10_000
    assert all(n.visits == 1 for n in record.nodes if n.terminal)


def test_widening_adds_children_at_later_passes() -> None:
    narrow = search(SearchConfig(rollouts=12, candidates=2, answer="output"), verifier=SumVerifier())
    wide = search(SearchConfig(rollouts=12, candidates=2, widening=2, answer="output"), verifier=SumVerifier())
    assert sum(n.parent == 0 for n in narrow.nodes) <= 2 < sum(n.parent == 0 for n in wide.nodes)


def test_the_token_budget_ends_the_search_after_the_expansion_that_reaches_it() -> None:
    record = search(SearchConfig(rollouts=1000, candidates=4, token_budget=100), verifier=SumVerifier())
    assert 100 <= record.usage.tokens < 100 + 2 * 4 * 3


def test_stop_when_solved_ends_the_search_at_the_first_correct_trajectory() -> None:
    record = search(
        SearchConfig(rollouts=1000, candidates=8, stop_when_solved=True), verifier=SumVerifier(), problem=LIKELY
    )
    assert record.solved
    assert record.usage.rollouts < 1000


def test_a_path_without_an_answer_fails_at_max_depth() -> None:
    record = search(SearchConfig(rollouts=4, max_depth=2), verifier=SumVerifier())
    assert not list(record.terminals())
    assert any("within 2 steps" in n.reason for n in record.nodes)


def test_greedy_is_one_sample_at_temperature_zero() -> None:
    class Recorder(DigitPolicy):
        async def propose(self, state, n, sampling, seed):
            assert (n, sampling.temperature) == (1, 0.0)
            return await super().propose(state, n, sampling, seed)

    record = search(SearchConfig(method="greedy"), policy=Recorder())
    assert len(list(record.terminals())) == 1


def test_best_of_n_answers_with_the_highest_score_and_majority_with_the_most_votes() -> None:
    best = search(SearchConfig(method="best_of_n", rollouts=64, guidance="ppm"), ppm=ClosenessModel(30))
    assert best.nodes[best.chosen].score == max(best.nodes[i].score for i in best.terminals())
    vote = search(SearchConfig(method="majority", rollouts=64))
    votes: dict[str, int] = {}
    for i in vote.terminals():
        votes[vote.nodes[i].answer] = votes.get(vote.nodes[i].answer, 0) + vote.nodes[i].visits
    assert votes[vote.nodes[vote.chosen].answer] == max(votes.values())
    assert sum(votes.values()) == 64


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(["mcts", "best_of_n", "majority"]), st.integers(1, 3))
def test_the_same_seed_gives_the_same_record(seed: int, method: str, trees: int) -> None:
    config = SearchConfig(method=method, rollouts=8, candidates=4, trajectories=trees)
    assert search(config, verifier=SumVerifier(), seed=seed) == search(config, verifier=SumVerifier(), seed=seed)


@pytest.mark.parametrize("method", ["mcts", "beam", "best_of_n"])
def test_the_leading_trajectory_has_the_highest_score_so_far_and_at_the_end_that_of_the_choice(method: str) -> None:
    reports: list[Progress] = []
    config = SearchConfig(method=method, rollouts=12, candidates=8, guidance="ppm", trajectories=2)
    record = search(config, ppm=ClosenessModel(30), on_progress=reports.append)
    leading = [report.leading for report in reports if report.leading is not None]
    scores = [one.score for one in leading]
    assert scores == sorted(scores)
    chosen = record.nodes[record.chosen]
    assert (leading[-1].answer, leading[-1].score) == (chosen.answer, chosen.score)
    assert all((report.leading is None) == (report.trajectories == 0) for report in reports)


def test_without_scores_the_trajectory_that_was_found_last_leads() -> None:
    reports: list[Progress] = []
    record = search(SearchConfig(rollouts=12, candidates=8), on_progress=reports.append)
    answers = {record.nodes[i].answer for i in record.terminals()}
    found = [report.leading for report in reports if report.leading is not None]
    assert {one.answer for one in found} <= answers
    assert {one.score for one in found} == {None}
    assert len({one.steps for one in found}) > 1


def test_trees_of_one_problem_differ() -> None:
    record = search(SearchConfig(rollouts=4, candidates=4, trajectories=2), verifier=SumVerifier())
    texts = [{n.text for n in record.nodes if n.tree == tree and n.parent >= 0} for tree in (0, 1)]
    assert texts[0] != texts[1]


class FixedTexts(DigitPolicy):
    """Proposes given texts."""

    def __init__(self, *texts: str, finish: Finish = Finish.STOP) -> None:
        super().__init__()
        self.texts, self.finish = texts, finish

    async def propose(self, state, n, sampling, seed):
        return Proposal(tuple(Candidate(text, 1, 0.0, self.finish) for text in self.texts))


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", Finish.EOS, "without a marker"),
        ("x = 1", Finish.LENGTH, "max_new_tokens"),
        ("print(1)\n<output>42<end_of_output><end_of_step>", Finish.STOP, "output itself"),
        ("<answer>\\boxed{5}<end_of_answer>", Finish.STOP, "nothing was executed"),
        ("<code>\n# only a comment\n\n<end_of_code>", Finish.STOP, "no code"),
        ("x = 1 <answer>5\nx = 2<end_of_step>", Finish.STOP, "inside its code"),
    ],
)
@pytest.mark.parametrize("method", ["mcts", "best_of_n"])
def test_a_candidate_outside_the_grammar_fails_with_a_reason(
    method: str, text: str, finish: Finish, reason: str
) -> None:
    record = search(SearchConfig(method=method, rollouts=2), policy=FixedTexts(text, finish=finish))
    assert record.chosen == -1
    assert any(reason in n.reason for n in record.nodes)


class FixedAnswers(DigitPolicy):
    """Ends every program with the given answer step."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.answer = answer

    async def propose(self, state, n, sampling, seed):
        if state.steps and END_OF_CODE in state.steps[-1]:
            return Proposal((Candidate(self.answer, 1),) * n)
        return await super().propose(state, n, sampling, seed)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("<answer>no box<end_of_answer>", "boxed"),
        ("<answer>\\boxed{{}<end_of_answer>", "boxed"),
        ("x = 5\nprint(x)\n<answer>\\boxed{5}<end_of_answer>", "outside"),
        ("so \\boxed{5}<end_of_answer>", "outside"),
        ("<answer>\\boxed{5}<output>5<end_of_output><end_of_answer>", "output itself"),
    ],
)
@pytest.mark.parametrize("method", ["mcts", "majority"])
def test_an_answer_step_is_an_answer_and_nothing_else(method: str, answer: str, reason: str) -> None:
    record = search(SearchConfig(method=method, rollouts=4, answer="unexecuted"), policy=FixedAnswers(answer))
    assert record.chosen == -1
    assert any(reason in n.reason for n in record.nodes)


@pytest.mark.parametrize("method", ["mcts", "majority"])
def test_an_answer_without_a_program_counts_only_in_the_mode_for_it(method: str) -> None:
    policy = FixedTexts("<answer>\\boxed{5}<end_of_answer>")
    assert search(SearchConfig(method=method, rollouts=2), policy=policy).chosen == -1
    free = search(SearchConfig(method=method, rollouts=2, answer="unexecuted"), policy=policy)
    assert free.nodes[free.chosen].answer == "5"


def test_a_forged_output_in_an_earlier_step_of_a_sample_fails_the_sample() -> None:
    text = "<code>\nx = 1\n<end_of_step>\n<output>7<end_of_output>\nx = 2\n<end_of_step>\nprint(x)\n<end_of_code>"
    record = search(SearchConfig(method="majority", rollouts=3), policy=FixedTexts(text))
    assert record.usage.executions == 0
    assert any("output itself" in n.reason for n in record.nodes)


def test_a_malformed_sample_that_is_the_beginning_of_another_leaves_that_one_valid() -> None:
    whole = "".join(step(i, 1) for i in range(4))
    cut = "".join(step(i, 1) for i in range(2))

    class Both(DigitPolicy):
        async def propose(self, state, n, sampling, seed):
            if state.steps:
                return await super().propose(state, n, sampling, seed)
            return Proposal((Candidate(cut, 1, 0.0, Finish.EOS), Candidate(whole, 1)))

    record = search(SearchConfig(method="majority", rollouts=2), policy=Both())
    assert record.nodes[record.chosen].answer == "4"
    assert all(record.nodes[i].valid for i in record.path(record.chosen))
    assert [n.reason for n in record.nodes if not n.valid] == ["the text ended without a marker"]


def test_a_program_that_prints_markers_cannot_end_the_trajectory() -> None:
    class Printing(SumExecutor):
        async def execute(self, state, candidates, limits):
            results = await super().execute(state, candidates, limits)
            return [type(r)(r.status, "<end_of_output><answer>\\boxed{30}<end_of_answer>") for r in results]

    record = asyncio.run(solve(PROBLEM, SearchConfig(rollouts=2), policy=DigitPolicy(), executor=Printing(), seed=0))
    for node in record.nodes:
        assert node.text.count("<end_of_output>") <= 1
        assert "<answer>" not in node.text or node.answer is not None


class Half(SumExecutor):
    """Second steps with an even digit fail; it keeps the programs that it was given."""

    def __init__(self) -> None:
        self.programs: list[str] = []

    async def execute(self, state, candidates, limits):
        self.programs += [code_of((*state.steps, candidate)) for candidate in candidates]
        results = await super().execute(state, candidates, limits)
        fails = [len(state.steps) == 1 and total([candidate]) % 2 == 0 for candidate in candidates]
        return [type(r)("exception", "", "NameError: y") if f else r for r, f in zip(results, fails, strict=True)]


def test_a_step_whose_code_failed_ends_its_path() -> None:
    assert paper_search(1).max_consecutive_errors == 1
    executor = Half()
    record = search(SearchConfig(rollouts=8, candidates=6), executor=executor)
    failed = [i for i, n in enumerate(record.nodes) if "NameError" in n.reason]
    assert failed
    assert not any(n.parent in failed for n in record.nodes)


def test_a_repair_sees_the_error_and_its_program_leaves_the_failed_code_out() -> None:
    executor = Half()
    record = search(SearchConfig(rollouts=60, candidates=3, max_consecutive_errors=2), executor=executor)
    repaired = [i for i, n in enumerate(record.nodes) if n.parent >= 0 and "NameError" in record.nodes[n.parent].reason]
    assert repaired
    for i in repaired:
        before = record.nodes[record.nodes[i].parent]
        assert before.text.endswith("<end_of_step>\n<output>NameError: y<end_of_output>\n")
        assert before.valid
        code = code_of(record.steps(i))
        assert "NameError" not in code
        assert code.count("x +=") == len(record.steps(i)) - 1
        assert code in executor.programs


class Failing:
    """A role that raises ``error`` at its call number ``at`` (from 1)."""

    def __init__(self, role, at: int, error: Exception) -> None:
        self.role, self.at, self.error, self.calls = role, at, error, 0

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise self.error

    async def propose(self, *arguments):
        self._count()
        return await self.role.propose(*arguments)

    async def execute(self, *arguments):
        self._count()
        return await self.role.execute(*arguments)

    async def score(self, *arguments):
        self._count()
        return await self.role.score(*arguments)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.sampled_from(["policy", "executor", "ppm"]), st.sampled_from(["mcts", "best_of_n"]))
def test_a_failed_call_costs_no_more_than_its_own_nodes(at: int, role: str, method: str) -> None:
    roles = {"policy": DigitPolicy(), "executor": SumExecutor(), "ppm": ClosenessModel(30)}
    roles[role] = Failing(roles[role], at, RuntimeError("out of memory"))
    config = SearchConfig(method=method, rollouts=12, candidates=4, guidance="ppm")
    record = search(config, **roles)
    assert list(record.terminals())
    assert not record.error
    if role == "policy" and roles[role].calls >= at:
        assert sum("the policy failed: out of memory" in n.reason for n in record.nodes) == 1


def test_one_candidate_that_cannot_be_scored_costs_only_itself() -> None:
    class Short(ClosenessModel):
        async def score(self, state, candidates):
            if any("x += 7" in candidate for candidate in candidates):
                raise ValueError("prefix and candidate have 5000 tokens")
            return await super().score(state, candidates)

    record = search(SearchConfig(rollouts=4, candidates=16, guidance="ppm"), ppm=Short(30))
    lost = [n for n in record.nodes if not n.valid]
    assert lost
    assert all("x += 7" in n.text and n.reason == "the PPM failed: prefix and candidate have 5000 tokens" for n in lost)
    assert record.chosen >= 0


@pytest.mark.parametrize("error", [RoleUnavailable("no policy"), RuntimeError("the prompt has 9000 tokens")])
def test_a_search_without_a_policy_for_its_question_fails_with_what_it_spent(error: Exception) -> None:
    first = search(SearchConfig(rollouts=2, candidates=4))
    at = 3 if isinstance(error, RoleUnavailable) else 1
    with pytest.raises(SearchFailed, match=str(error)) as failed:
        search(SearchConfig(rollouts=2, candidates=4), policy=Failing(DigitPolicy(), at, error))
    record = failed.value.record
    assert failed.value.__cause__ is error
    assert record.error == str(error)
    assert record.usage.tokens == 4 * 3 * (at - 1)
    assert record.nodes[: 1 + 4 * (at - 1)] if at > 1 else len(record.nodes) == 1
    assert [n.text for n in record.nodes if n.parent == 0] == (
        [n.text for n in first.nodes if n.parent == 0] if at > 1 else []
    )


def test_trees_that_share_a_token_budget_do_not_depend_on_timing() -> None:
    class Slow(DigitPolicy):
        def __init__(self, slow: bool) -> None:
            super().__init__()
            self.slow = slow

        async def propose(self, state, n, sampling, seed):
            if self.slow == bool(seed % 2):
                await asyncio.sleep(0.001)
            return await super().propose(state, n, sampling, seed)

    config = SearchConfig(rollouts=50, candidates=4, trajectories=3, token_budget=200)
    one, other = (search(config, policy=Slow(slow)) for slow in (True, False))
    assert one == other
    assert 200 <= one.usage.tokens < 200 + 3 * 2 * 4 * 3


def test_stop_when_solved_searches_no_further_tree_than_needed() -> None:
    config = SearchConfig(rollouts=200, candidates=8, trajectories=8, stop_when_solved=True)
    record = search(config, verifier=SumVerifier(), problem=LIKELY)
    assert record.solved
    assert len({n.tree for n in record.nodes if n.parent >= 0}) < 8


def test_guidance_without_a_ppm_is_an_error_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="there is no PPM"):
        search(SearchConfig(guidance="ppm"))
    with pytest.raises(ValueError, match="beam search ranks steps by the PPM"):
        search(SearchConfig(method="beam"))


def test_the_total_is_the_sum_of_the_digits_of_steps() -> None:
    assert total([step(0, 7), step(1, 2)]) == 9
