from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.config import SearchConfig
from rstar.interfaces import (
    Candidate,
    Execution,
    ExecutionLimits,
    ExecutionStatus,
    Finish,
    Proposal,
    Sampling,
    Scores,
    State,
)
from rstar.problem import Problem
from rstar.record import LeadingTrajectory, NodeRecord, Progress, SearchRecord, Usage
from rstar.rounds.spec import RolloutSearch
from rstar.rpc import codec, search_codec
from rstar.v1 import executor_pb2, policy_pb2, preference_pb2, search_pb2

texts = st.text(st.characters(exclude_categories=["Cs"]))
any_texts = st.text(st.characters())  # with lone surrogates
uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
floats = st.floats(allow_nan=False)
steps = st.lists(texts).map(tuple)
states = st.builds(State, texts, texts, steps)
samplings = st.builds(Sampling, floats, floats, uint32, steps)
limits = st.builds(ExecutionLimits, floats, uint32, uint32, uint32)
candidates = st.builds(Candidate, texts, uint32, floats, st.sampled_from(Finish))
executions = st.builds(Execution, st.sampled_from(ExecutionStatus), texts, texts, floats)
usages = st.builds(Usage, uint32, uint64, uint64, uint64, uint64)
nodes = st.builds(
    NodeRecord,
    parent=st.integers(-1, 2**31 - 1),
    tree=uint32,
    text=texts,
    tokens=uint32,
    logprob=floats,
    visits=uint32,
    value=floats,
    score=st.none() | floats,
    valid=st.booleans(),
    reason=texts,
    terminal=st.booleans(),
    output=texts,
    answer=st.none() | texts,
    correct=st.none() | st.booleans(),
)
json_values = st.recursive(st.none() | st.booleans() | st.integers() | floats | any_texts, st.lists, max_leaves=5)


@given(states, uint32, samplings, uint64)
def test_a_propose_request_is_decoded_without_loss(state: State, n: int, sampling: Sampling, seed: int) -> None:
    sent = codec.propose_request(state, n, sampling, seed).SerializeToString()
    assert codec.read_propose_request(policy_pb2.ProposeRequest.FromString(sent)) == (state, n, sampling, seed)


@given(st.builds(Proposal, st.lists(candidates).map(tuple), texts))
def test_a_proposal_is_decoded_without_loss(proposal: Proposal) -> None:
    sent = codec.propose_response(proposal).SerializeToString()
    assert codec.read_propose_response(policy_pb2.ProposeResponse.FromString(sent)) == proposal


@given(states, st.lists(texts))
def test_a_score_request_is_decoded_without_loss(state: State, texts: list[str]) -> None:
    sent = codec.score_request(state, texts).SerializeToString()
    assert codec.read_score_request(preference_pb2.ScoreRequest.FromString(sent)) == (state, texts)
    steps = preference_pb2.ScoreRequest.FromString(codec.score_steps_request(state).SerializeToString())
    assert (steps.every_step, codec.read_score_request(steps)) == (True, (state, []))


@given(st.builds(Scores, st.lists(floats).map(tuple), texts))
def test_scores_are_decoded_without_loss(scores: Scores) -> None:
    sent = codec.score_response(scores).SerializeToString()
    assert codec.read_score_response(preference_pb2.ScoreResponse.FromString(sent)) == scores


@given(texts, st.lists(texts), st.lists(texts), limits)
def test_an_execute_request_is_decoded_without_loss_but_for_the_question(
    problem_id: str, steps: list[str], texts: list[str], limits: ExecutionLimits
) -> None:
    sent = codec.execute_request(State(problem_id, "a question", tuple(steps)), texts, limits).SerializeToString()
    state = State(problem_id, "", tuple(steps))
    assert codec.read_execute_request(executor_pb2.ExecuteRequest.FromString(sent)) == (state, texts, limits)


@given(st.lists(executions))
def test_executions_are_decoded_without_loss(executions: list[Execution]) -> None:
    sent = codec.execute_response(executions).SerializeToString()
    assert codec.read_execute_response(executor_pb2.ExecuteResponse.FromString(sent)) == executions


@given(
    st.builds(
        Problem, texts, texts, st.none() | texts, st.dictionaries(any_texts, json_values, max_size=3), st.booleans()
    ),
    uint64,
)
def test_a_solve_request_is_decoded_without_loss(problem: Problem, seed: int) -> None:
    message = search_codec.solve_request(problem, SearchConfig(rollouts=3), "exact", "math-verify", seed)
    received = search_pb2.SolveRequest.FromString(message.SerializeToString())
    assert search_codec.read_problem(received.problem) == problem
    assert SearchConfig.model_validate_json(received.config_json) == SearchConfig(rollouts=3)
    assert (received.verifier, received.equivalence, received.seed) == ("exact", "math-verify", seed)


@given(texts, st.lists(nodes, max_size=5).map(tuple), usages, st.integers(-1, 2**31 - 1), texts, texts, texts)
def test_a_record_is_decoded_without_loss(
    problem_id: str, nodes: tuple[NodeRecord, ...], usage: Usage, chosen: int, policy: str, ppm: str, error: str
) -> None:
    record = SearchRecord(problem_id, nodes, usage, chosen, policy, ppm, error)
    *parts, last = [
        search_pb2.SolveResponse.FromString(message.SerializeToString())
        for message in search_codec.result_responses(record)
    ]
    earlier = [node for part in parts for node in search_codec.read_nodes(part.nodes.nodes)]
    assert search_codec.read_result(problem_id, earlier, last.result) == record


leading = st.builds(LeadingTrajectory, steps, texts, st.none() | floats)


@given(st.builds(Progress, usages, uint32, uint32, st.none() | leading))
def test_progress_is_decoded_without_loss(progress: Progress) -> None:
    sent = search_codec.progress_response(progress).SerializeToString()
    assert search_codec.read_progress(search_pb2.SolveResponse.FromString(sent).progress) == progress


@given(any_texts)
def test_any_text_can_be_encoded_and_only_surrogates_change(text: str) -> None:
    sent = codec.wire_text(text)
    sent.encode()  # would raise
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert sent == text


def test_lone_surrogates_in_a_programs_output_become_replacement_characters() -> None:
    message = codec.execute_response([Execution(ExecutionStatus.OK, "a\ud800b", "\udfff")])
    assert codec.read_execute_response(message) == [Execution(ExecutionStatus.OK, "a\ufffdb", "\ufffd")]


def test_the_search_settings_of_a_round_are_sent_as_a_search_config() -> None:
    settings = RolloutSearch(rollouts=5, extra_rollouts=(16,))
    request = search_codec.solve_request(Problem("p", "q"), settings, "", "", 0)
    assert SearchConfig.model_validate_json(request.config_json).rollouts == 5


@pytest.mark.parametrize("data", ["[1]", "nonsense", '"text"'])
def test_problem_data_other_than_a_json_object_are_refused_with_the_problem_id(data: str) -> None:
    with pytest.raises(ValueError, match=r"'p7'.*JSON object"):
        search_codec.read_problem(search_pb2.Problem(id="p7", question="q", data_json=data))


def test_an_unknown_execution_status_becomes_internal() -> None:
    wire = executor_pb2.ExecuteResponse.FromString(b"\x0a\x02\x08\x63")  # status 99
    assert codec.read_execute_response(wire)[0].status is ExecutionStatus.INTERNAL


def test_a_candidate_without_a_finish_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown reason 0"):
        codec.read_propose_response(policy_pb2.ProposeResponse(candidates=[policy_pb2.Candidate(text="x")]))
