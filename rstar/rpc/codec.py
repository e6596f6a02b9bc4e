"""Encodes the plain data of ``rstar.interfaces`` as wire messages and decodes them, without loss.

Only text that UTF-8 cannot represent changes: lone surrogates become U+FFFD, so that the output of a broken program
never fails a call. Not covered: validation; servers refuse the requests that they cannot serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

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
from rstar.v1 import executor_pb2, policy_pb2, preference_pb2

_FINISH_TO_WIRE: Final = {
    Finish.STOP: policy_pb2.FINISH_STOP,
    Finish.LENGTH: policy_pb2.FINISH_LENGTH,
    Finish.EOS: policy_pb2.FINISH_EOS,
}
_FINISH: Final = {number: finish for finish, number in _FINISH_TO_WIRE.items()}

_STATUS_TO_WIRE: Final = {
    status: executor_pb2.ExecutionStatus.Value(f"EXECUTION_STATUS_{status.name}") for status in ExecutionStatus
}
_STATUS: Final = {number: status for status, number in _STATUS_TO_WIRE.items()}


def wire_text(text: str) -> str:
    """Return ``text`` without surrogates, which UTF-8 cannot represent: pairs are joined, lone ones become U+FFFD."""
    if text.isascii():  # reads a flag of the string, so it costs nothing
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _texts(texts: Iterable[str]) -> list[str]:
    return [wire_text(text) for text in texts]


def propose_request(
    state: State, n: int, sampling: Sampling, seed: int, seconds: float = 0.0
) -> policy_pb2.ProposeRequest:
    """Encode a call of ``Policy.propose`` that may take ``seconds`` from when the server begins (0: no bound).

    Raises ``ValueError`` unless ``n`` is in [0, 2^32) and ``seed`` in [0, 2^64).
    """
    return policy_pb2.ProposeRequest(
        problem_id=wire_text(state.problem_id),
        question=wire_text(state.question),
        steps=_texts(state.steps),
        n=n,
        sampling=policy_pb2.Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_new_tokens,
            stop=_texts(sampling.stop),
        ),
        seed=seed,
        seconds=seconds,
    )


def read_propose_request(message: policy_pb2.ProposeRequest) -> tuple[State, int, Sampling, int]:
    """Decode a call of ``Policy.propose`` into its arguments."""
    wire = message.sampling
    state = State(message.problem_id, message.question, tuple(message.steps))
    sampling = Sampling(wire.temperature, wire.top_p, wire.max_new_tokens, tuple(wire.stop))
    return state, message.n, sampling, message.seed


def propose_response(proposal: Proposal) -> policy_pb2.ProposeResponse:
    """Encode a proposal."""
    return policy_pb2.ProposeResponse(
        candidates=[
            policy_pb2.Candidate(
                text=wire_text(candidate.text),
                tokens=candidate.tokens,
                logprob=candidate.logprob,
                finish=_FINISH_TO_WIRE[candidate.finish],
            )
            for candidate in proposal.candidates
        ],
        model_digest=proposal.model_digest,
    )


def read_propose_response(message: policy_pb2.ProposeResponse) -> Proposal:
    """Decode a proposal. Raises ``ValueError`` when the finish of a candidate is unknown."""
    return Proposal(
        tuple([Candidate(wire.text, wire.tokens, wire.logprob, _finish(wire.finish)) for wire in message.candidates]),
        message.model_digest,
    )


def _finish(number: policy_pb2.Finish.ValueType) -> Finish:
    try:
        return _FINISH[number]
    except KeyError:
        raise ValueError(
            f"a candidate ended with the unknown reason {number}: use the same version for client and policy server"
        ) from None


def score_request(state: State, candidates: Sequence[str], seconds: float = 0.0) -> preference_pb2.ScoreRequest:
    """Encode a call of ``PreferenceModel.score`` that may take ``seconds`` from when the server begins (0: no bound)."""
    return preference_pb2.ScoreRequest(
        problem_id=wire_text(state.problem_id),
        question=wire_text(state.question),
        steps=_texts(state.steps),
        candidates=_texts(candidates),
        seconds=seconds,
    )


def score_steps_request(state: State, seconds: float = 0.0) -> preference_pb2.ScoreRequest:
    """Encode a call of ``TrajectoryScorer.score_steps``, with ``seconds`` as above."""
    request = score_request(state, (), seconds)
    request.every_step = True
    return request


def read_score_request(message: preference_pb2.ScoreRequest) -> tuple[State, list[str]]:
    """Decode a call of ``PreferenceModel.score`` into its arguments; that of ``score_steps`` has no candidates."""
    return State(message.problem_id, message.question, tuple(message.steps)), list(message.candidates)


def score_response(scores: Scores) -> preference_pb2.ScoreResponse:
    """Encode scores."""
    return preference_pb2.ScoreResponse(scores=scores.values, model_digest=scores.model_digest)


def read_score_response(message: preference_pb2.ScoreResponse) -> Scores:
    """Decode scores."""
    return Scores(tuple(message.scores), message.model_digest)


def execute_request(
    state: State, candidates: Sequence[str], limits: ExecutionLimits, tenant: str = "", *, tracebacks: bool = False
) -> executor_pb2.ExecuteRequest:
    """Encode a call of ``Executor.execute`` by ``tenant``. The question is not sent: no program needs it."""
    return executor_pb2.ExecuteRequest(
        problem_id=wire_text(state.problem_id),
        steps=_texts(state.steps),
        candidates=_texts(candidates),
        limits=executor_pb2.ExecutionLimits(
            seconds=limits.seconds,
            memory_mib=limits.memory_mib,
            output_bytes=limits.output_bytes,
            file_mib=limits.file_mib,
        ),
        tenant=wire_text(tenant),
        tracebacks=tracebacks,
    )


def with_candidates(request: executor_pb2.ExecuteRequest, candidates: Sequence[str]) -> executor_pb2.ExecuteRequest:
    """Return ``request`` with other candidates."""
    message = executor_pb2.ExecuteRequest()
    message.CopyFrom(request)
    message.candidates[:] = _texts(candidates)
    return message


def read_execute_request(message: executor_pb2.ExecuteRequest) -> tuple[State, list[str], ExecutionLimits]:
    """Decode a call of ``Executor.execute`` into its arguments; a limit of 0 means the server's default.

    The question of the state is empty, because it is not sent.
    """
    wire = message.limits
    limits = ExecutionLimits(wire.seconds, wire.memory_mib, wire.output_bytes, wire.file_mib)
    return State(message.problem_id, "", tuple(message.steps)), list(message.candidates), limits


def execute_response(executions: Iterable[Execution]) -> executor_pb2.ExecuteResponse:
    """Encode the results of one call, in the order of its candidates."""
    return executor_pb2.ExecuteResponse(
        executions=[
            executor_pb2.Execution(
                status=_STATUS_TO_WIRE[execution.status],
                stdout=wire_text(execution.stdout),
                reason=wire_text(execution.reason),
                milliseconds=execution.milliseconds,
                traceback=wire_text(execution.traceback),
            )
            for execution in executions
        ]
    )


def read_execute_response(message: executor_pb2.ExecuteResponse) -> list[Execution]:
    """Decode the results of one call. A status that this version does not know becomes INTERNAL."""
    return [
        Execution(
            _STATUS.get(wire.status, ExecutionStatus.INTERNAL),
            wire.stdout,
            wire.reason,
            wire.milliseconds,
            wire.traceback,
        )
        for wire in message.executions
    ]
