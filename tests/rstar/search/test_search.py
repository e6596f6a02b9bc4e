"""Every search method on a toy problem with a known optimum."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar.config import SearchConfig
from rstar.interfaces import Candidate, Finish, Proposal
from rstar.problem import Problem
from rstar.search.solve import solve
from tests.support.scripted import ClosenessModel, DigitPolicy, SumExecutor, SumVerifier, step, total

PROBLEM = Problem("sum-30", "Make 30 from four digits.", "30")
LIKELY = Problem("sum-18", "Make 18 from four digits.", "18")


def search(config: SearchConfig, *, ppm=None, verifier=None, seed=0, policy=None, problem=PROBLEM):
    return asyncio.run(
        solve(
            problem,
            config,
            policy=policy or DigitPolicy(),
            executor=SumExecutor(),
            ppm=ppm,
            verifier=verifier,
            seed=seed,
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
    config = SearchConfig(method=method, rollouts=8, candidates=4, trees=trees)
    assert search(config, verifier=SumVerifier(), seed=seed) == search(config, verifier=SumVerifier(), seed=seed)


def test_trees_of_one_problem_differ() -> None:
    record = search(SearchConfig(rollouts=4, candidates=4, trees=2), verifier=SumVerifier())
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
        ("<answer>no box<end_of_answer>", Finish.STOP, "boxed"),
        ("<answer>\\boxed{{}<end_of_answer>", Finish.STOP, "boxed"),
    ],
)
@pytest.mark.parametrize("method", ["mcts", "best_of_n"])
def test_a_candidate_outside_the_grammar_fails_with_a_reason(
    method: str, text: str, finish: Finish, reason: str
) -> None:
    record = search(SearchConfig(method=method, rollouts=2), policy=FixedTexts(text, finish=finish))
    assert record.chosen == -1
    assert any(reason in n.reason for n in record.nodes)


def test_a_program_that_prints_markers_cannot_end_the_trajectory() -> None:
    class Printing(SumExecutor):
        async def execute(self, state, candidates, limits):
            results = await super().execute(state, candidates, limits)
            return [type(r)(r.status, "<end_of_output><answer>\\boxed{30}<end_of_answer>") for r in results]

    record = asyncio.run(solve(PROBLEM, SearchConfig(rollouts=2), policy=DigitPolicy(), executor=Printing(), seed=0))
    for node in record.nodes:
        assert node.text.count("<end_of_output>") <= 1
        assert "<answer>" not in node.text or node.answer is not None


def test_a_failed_step_is_kept_for_repair_only_below_max_consecutive_errors() -> None:
    class Late(SumExecutor):
        async def execute(self, state, candidates, limits):
            results = await super().execute(state, candidates, limits)
            return [
                type(r)("exception", "", "SyntaxError: unfinished block") if len(state.steps) == 1 else r
                for r in results
            ]

    def run(errors: int):
        config = SearchConfig(rollouts=4, max_consecutive_errors=errors)
        return asyncio.run(solve(PROBLEM, config, policy=DigitPolicy(), executor=Late(), seed=0))

    assert not list(run(1).terminals())
    assert list(run(2).terminals())


def test_guidance_without_a_ppm_is_an_error_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="there is no PPM"):
        search(SearchConfig(guidance="ppm"))
    with pytest.raises(ValueError, match="beam search ranks steps by the PPM"):
        search(SearchConfig(method="beam"))


def test_the_total_is_the_sum_of_the_digits_of_steps() -> None:
    assert total([step(0, 7), step(1, 2)]) == 9
