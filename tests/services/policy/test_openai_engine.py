"""The engine for OpenAI-compatible servers, against a real HTTP server whose abilities can be taken away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from rstar_policy import openai_http
from rstar_policy.openai_engine import OpenAIPolicy, inspect_endpoint, model_entry, open_endpoint
from rstar_policy.openai_http import CompletionsServer, EndpointUnavailable, base_url, retry_after
from rstar_policy.openai_replies import read_candidates, token_logprobs
from rstar_policy.service import PolicyService

from rstar.interfaces import Candidate, Finish, Sampling, State
from rstar.prompt import render
from rstar.rpc.codec import propose_request
from rstar.trajectory import END_OF_STEP
from rstar.v1 import policy_pb2_grpc
from tests.support.completions_server import NAME, Server, Switches, completions_server
from tests.support.tiny_model import save_policy, until

SAMPLING = Sampling(1.0, 1.0, 60, ("a", "bc", END_OF_STEP))
STATE = State("p", "1 + 1?", ("<code>\nx = 1\n<end_of_step>",))
ENDLESS = Sampling(0.0, 1.0, 400, ())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_http, "FIRST_PAUSE", 0.001)


@asynccontextmanager
async def endpoint(
    checkpoint: Path, max_rows: int = 100, key: str = "", **switches: Any
) -> AsyncIterator[tuple[OpenAIPolicy, Server]]:
    async with completions_server(checkpoint, Switches(**switches)) as server:
        model = await inspect_endpoint(CompletionsServer(server.url, key), None)
        server.bodies.clear()
        async with OpenAIPolicy(CompletionsServer(server.url, key), model, _text, max_rows) as policy:
            yield policy, server


def _text(state: State) -> str:
    return render(state.question, state.steps)


def texts(candidates: tuple[Candidate, ...]) -> list[tuple[str, Finish]]:
    return [(candidate.text, candidate.finish) for candidate in candidates]


@pytest.mark.parametrize(
    ("switches", "requests"),
    [
        ({}, 1),
        ({"stops": "kept"}, 1),
        ({"stops": "cut"}, 7),
        ({"strict": True, "stops": "cut"}, 7),
        ({"most_n": 1}, 7),
        ({"most_n": 5}, 2),
        ({"n_ignored": True}, 7),
        ({"logprobs": False}, 1),
    ],
    ids=str,
)
async def test_the_candidates_are_the_same_whatever_the_server_cannot_do(
    checkpoint: Path, switches: dict[str, Any], requests: int
) -> None:
    async with endpoint(checkpoint) as (policy, _):
        whole = await policy.propose(STATE, 7, SAMPLING, 5)
    assert {candidate.finish for candidate in whole.candidates} >= {Finish.STOP}
    assert all(candidate.text.endswith(SAMPLING.stop) for candidate in whole.candidates if candidate.finish == "stop")
    async with endpoint(checkpoint, **switches) as (policy, server):
        proposal = await policy.propose(STATE, 7, SAMPLING, 5)
        assert len(server.bodies) == requests
    assert texts(proposal.candidates) == texts(whole.candidates)
    assert all(candidate.tokens > 0 for candidate in proposal.candidates)


async def test_more_stop_texts_than_a_server_takes_give_the_same_candidates(checkpoint: Path) -> None:
    async with endpoint(checkpoint) as (policy, _):
        few = await policy.propose(STATE, 3, SAMPLING, 5)
        more = Sampling(1.0, 1.0, 60, (*SAMPLING.stop, "never to be seen", "nor this"))
        assert texts((await policy.propose(STATE, 3, more, 5)).candidates) == texts(few.candidates)


async def test_a_candidate_depends_on_its_number_and_the_seed_and_not_on_n(checkpoint: Path) -> None:
    async with endpoint(checkpoint) as (policy, _):
        few = await policy.propose(STATE, 3, SAMPLING, 2**64 - 1)
        many = await policy.propose(STATE, 9, SAMPLING, 2**64 - 1)
        other = await policy.propose(STATE, 3, SAMPLING, 2**64 - 2)
    assert texts(few.candidates) == texts(many.candidates[:3])
    assert texts(other.candidates) != texts(few.candidates)


async def test_tokens_and_log_probabilities_are_those_of_the_server(checkpoint: Path) -> None:
    async with endpoint(checkpoint) as (policy, server):
        [candidate] = (await policy.propose(STATE, 1, SAMPLING, 1)).candidates
        body = server.bodies[-1]
        plain = await server.policy.propose(State("", body["prompt"]), 1, SAMPLING, body["seed"])
    assert body["prompt"] == render(STATE.question, STATE.steps)
    assert candidate.tokens == plain.candidates[0].tokens
    assert candidate.logprob == pytest.approx(plain.candidates[0].logprob)


async def test_without_log_probabilities_the_tokens_of_a_reply_are_shared_by_length(checkpoint: Path) -> None:
    reply = {
        "choices": [{"index": 1, "text": "a" * 30}, {"index": 0, "text": "b" * 10}, {"index": 2, "text": ""}],
        "usage": {"completion_tokens": 46},
    }
    found = read_candidates(reply, ())
    assert [candidate.text[:1] for candidate in found] == ["b", "a", ""]
    assert sum(candidate.tokens for candidate in found) == 46
    assert 1 <= found[2].tokens < found[0].tokens < found[1].tokens


def test_both_forms_of_log_probabilities_are_read() -> None:
    assert token_logprobs({"logprobs": {"token_logprobs": [-1.0, None]}}) == [-1.0, 0.0]
    assert token_logprobs({"logprobs": {"content": [{"logprob": -0.5}]}}) == [-0.5]
    assert token_logprobs({"logprobs": None}) == []


async def test_no_more_candidates_than_max_rows_are_in_flight(checkpoint: Path) -> None:
    async with endpoint(checkpoint, max_rows=4) as (policy, server):
        server.most_in_flight = 0
        await asyncio.gather(*(policy.propose(STATE, 6, SAMPLING, seed) for seed in range(3)))
        assert server.most_in_flight == 4


async def test_a_request_beyond_the_context_is_sent_again_for_fewer_tokens(checkpoint: Path) -> None:
    room = len(render(STATE.question, STATE.steps).encode()) + 70
    async with endpoint(checkpoint, context=room) as (policy, server):
        proposal = await policy.propose(STATE, 2, Sampling(0.0, 1.0, 200, ()), 0)
        assert [body["max_tokens"] for body in server.bodies] == [200, 100, 50]
        assert [candidate.finish for candidate in proposal.candidates] == [Finish.LENGTH] * 2
        with pytest.raises(ValueError, match="refuses the request: the context is"):
            await policy.propose(State("p", "x" * 200), 1, SAMPLING, 0)


async def test_a_busy_or_failing_server_is_asked_again_and_its_retry_after_is_kept(checkpoint: Path) -> None:
    async with endpoint(checkpoint) as (policy, server):
        expected = await policy.propose(STATE, 3, SAMPLING, 0)
        server.switches.failures = [(503, {}), (0, {}), (429, {"Retry-After": "1"}), (500, {})]
        before = asyncio.get_running_loop().time()
        assert texts((await policy.propose(STATE, 3, SAMPLING, 0)).candidates) == texts(expected.candidates)
        assert asyncio.get_running_loop().time() - before >= 1


async def test_a_server_that_is_lost_makes_the_role_unavailable_after_a_few_tries(checkpoint: Path) -> None:
    async with endpoint(checkpoint) as (policy, server):
        server.switches.failures = [(503, {})] * 100
        with pytest.raises(EndpointUnavailable, match="answers 503: a failure was asked for"):
            await policy.propose(STATE, 1, SAMPLING, 0)
        assert len(server.bodies) == openai_http.ATTEMPTS
        server.switches.failures = [(429, {"Retry-After": "3600"})]
        with pytest.raises(EndpointUnavailable, match="answers 429"):
            await policy.propose(STATE, 1, SAMPLING, 0)


async def test_a_lost_server_ends_a_call_with_unavailable_so_that_a_search_ends(checkpoint: Path) -> None:
    async with endpoint(checkpoint) as (policy, server):
        server.switches.failures = [(503, {})] * 100
        service = grpc.aio.server()
        PolicyService(policy).register(service)
        port = service.add_insecure_port("127.0.0.1:0")
        await service.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="answers 503") as ended:
                await stub.Propose(propose_request(STATE, 1, SAMPLING, 0))
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        await service.stop(0)


@pytest.mark.parametrize("stops", ["named", "cut"])
async def test_a_cancelled_call_aborts_its_request_and_leaves_its_place(checkpoint: Path, stops: str) -> None:
    endless = Sampling(0.0, 1.0, 400, ("never",))
    async with endpoint(checkpoint, max_rows=2, stops=stops) as (policy, server):
        call = asyncio.ensure_future(policy.propose(STATE, 2, endless, 0))
        await until(lambda: server.policy.candidates > 0)
        call.cancel()
        await until(lambda: server.policy.candidates == 0 and server.aborted > 0)
        assert len((await policy.propose(STATE, 2, SAMPLING, 0)).candidates) == 2


async def test_a_streamed_reply_is_left_at_the_first_stop_text(checkpoint: Path) -> None:
    async with endpoint(checkpoint, stops="cut") as (policy, server):
        long = Sampling(1.0, 1.0, 300, ("a",))
        [candidate] = (await policy.propose(STATE, 1, long, 3)).candidates
        assert candidate.finish is Finish.STOP
        assert candidate.text.endswith("a")
        assert "stop" not in server.bodies[-1]
        assert candidate.tokens < 300
        await until(lambda: server.in_flight == 0)


async def test_a_closed_engine_ends_its_calls_with_the_reason(checkpoint: Path) -> None:
    async with endpoint(checkpoint) as (policy, server):
        call = asyncio.ensure_future(policy.propose(STATE, 2, ENDLESS, 0))
        await until(lambda: server.policy.candidates > 0)
        await policy.close()
        with pytest.raises(RuntimeError, match="closed during the call"):
            await call
        with pytest.raises(RuntimeError, match="is closed"):
            await policy.propose(STATE, 1, SAMPLING, 0)


@pytest.mark.parametrize(
    ("switches", "clause"),
    [
        ({"seeds": False}, "results cannot be reproduced"),
        ({"n_ignored": True}, "one request per candidate"),
        ({"stops": "cut"}, "read as streams"),
        ({"logprobs": False}, "recorded as 0"),
        ({"strict": True}, "beyond OpenAI's"),
    ],
    ids=str,
)
async def test_what_the_server_cannot_do_is_said(checkpoint: Path, switches: dict[str, Any], clause: str) -> None:
    async with completions_server(checkpoint, Switches(**switches)) as server:
        model = await inspect_endpoint(CompletionsServer(server.url), NAME)
        assert len(server.bodies) <= 12
    assert clause in "; ".join(model.abilities.missing())


async def test_the_digest_names_the_model_and_not_the_address(checkpoint: Path) -> None:
    async with endpoint(checkpoint) as (first, _), endpoint(checkpoint) as (second, _):
        assert first.digest == second.digest
    async with endpoint(checkpoint, models=("other",)) as (third, _):
        assert third.digest != first.digest


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("https://h/v1/", "https://h/v1"),
        ("https://h/openai", "https://h/openai"),
    ],
)
def test_an_address_without_a_path_gets_v1(given: str, url: str) -> None:
    assert base_url(given) == url


@pytest.mark.parametrize("given", ["h:8000", "ftp://h/v1", "http://", "http://user:secret@h/v1", "http://h/v1?key=1"])
def test_a_url_that_is_none_or_has_a_key_in_it_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="--endpoint") as refused:
        base_url(given)
    assert "secret" not in str(refused.value)


def test_retry_after_is_a_number_of_seconds_or_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after("7", now) == 7
    assert retry_after(format_datetime(now + timedelta(seconds=9)), now) == 9
    assert retry_after(format_datetime(now - timedelta(seconds=9)), now) == 0
    assert retry_after("soon", now) == retry_after("", now) == 0


def program(*options: str) -> list[str]:
    return [sys.executable, "-m", "rstar_policy", "--port", "0", *options]


async def test_the_program_serves_an_endpoint_with_the_key_of_a_variable(checkpoint: Path, tmp_path: Path) -> None:
    ready, key = tmp_path / "ready", "sk-very-secret"
    async with completions_server(checkpoint, Switches(key=key)) as server:
        options = ["--endpoint", server.url, "--api-key-env", "SOME_KEY", "--ready-file", str(ready)]
        process = await asyncio.create_subprocess_exec(
            *program(*options), env={**os.environ, "SOME_KEY": key}, stderr=asyncio.subprocess.PIPE
        )
        try:
            while not ready.exists():
                assert process.returncode is None
                await asyncio.sleep(0.05)
            async with grpc.aio.insecure_channel(ready.read_text()) as channel:
                stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
                reply = await stub.Propose(propose_request(STATE, 3, SAMPLING, 0))
            assert len(reply.candidates) == 3
            process.send_signal(signal.SIGTERM)
            _, err = await process.communicate()
            assert process.returncode == 0
            assert b'"event": "endpoint"' in err
            assert key.encode() not in err
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize(
    ("name", "variable", "sentence"),
    [
        ("large", None, "has no model 'large'; it has tiny: change --model-name"),
        (None, None, "asks for a key, and none was given: invalid key none"),
        (None, "WRONG", "refuses the key: invalid key Bearer ***"),
        (None, "UNSET", "--api-key-env UNSET: this environment variable is not set"),
    ],
)
async def test_a_wrong_model_or_key_is_refused_at_start_with_one_sentence(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, variable: str | None, sentence: str
) -> None:
    monkeypatch.setenv("WRONG", "sk-wrong")
    key = "" if name else "sk-right"
    async with completions_server(checkpoint, Switches(key=key)) as server:
        with pytest.raises((ValueError, OSError)) as refused:
            await asyncio.to_thread(open_endpoint, server.url, name, variable, _text, 8)
    assert sentence in str(refused.value)
    assert "sk-" not in str(refused.value)


def test_a_server_without_a_list_of_models_needs_the_name() -> None:
    assert model_entry(None, "m", "http://h/v1") == {"id": "m"}
    with pytest.raises(ValueError, match="has no list of models: give --model-name"):
        model_entry(None, None, "http://h/v1")
    with pytest.raises(ValueError, match=r"has 2 models \(a, b\): choose one by --model-name"):
        model_entry([{"id": "a"}, {"id": "b"}], None, "http://h/v1")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--endpoint", "http://127.0.0.1:9"], "cannot be reached"),
        (["--model", "m", "--endpoint", "http://h"], "give either --model, a checkpoint, or --endpoint"),
    ],
    ids=str,
)
def test_an_endpoint_that_cannot_be_used_ends_the_program_with_one_sentence(options: list[str], sentence: str) -> None:
    result = subprocess.run(program(*options), capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
