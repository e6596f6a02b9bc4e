"""The endpoint over real HTTP and gRPC, with a scripted search service, called by OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import openai
import pytest
from prometheus_client import REGISTRY
from rstar_openai.limits import Limits
from rstar_openai.searches import problem_of
from rstar_search.service import SearchService

from rstar.config import SearchConfig
from rstar.rpc.clients import ExecutorClient, PolicyClient
from rstar.search.solve import solve
from tests.support.rpc.openai_endpoint import RunningEndpoint, endpoint
from tests.support.rpc.scripted_search import TOKENS_PER_STEP, ScriptedSearch
from tests.support.rpc.servicers import Context, ScriptedExecutor, ScriptedPolicy, fails, never, running
from tests.support.scripted import DigitPolicy, SumExecutor

SECRET = "sk-0123456789abcdef"
ALL_TOKENS = 100 + 3 * TOKENS_PER_STEP
MESSAGES: Any = [{"role": "user", "content": "What is 6 times 7?"}]
ASK = {"model": "rstar", "messages": MESSAGES}


def client_of(served: RunningEndpoint, key: str = SECRET) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0)


async def post(served: RunningEndpoint, body: Any, **options: Any) -> tuple[int, Any, Any]:
    """Return status, JSON and headers of a request; ``body`` may be bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{served.url}/v1/chat/completions", data=data, **options) as reply,
    ):
        return reply.status, await reply.json(), reply.headers


async def until_cancelled(search: ScriptedSearch) -> None:
    await asyncio.wait_for(search.calls.was_cancelled.wait(), 30)


async def test_the_official_client_gets_a_searched_answer() -> None:
    async with endpoint() as served, client_of(served) as client:
        reply = await client.chat.completions.create(model="rstar", messages=MESSAGES, seed=3)
        [choice] = reply.choices
        assert choice.message.content is not None
        assert choice.message.content.endswith("#### 42")
        assert choice.finish_reason == "stop"
        assert reply.usage is not None
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (0, ALL_TOKENS)
        assert reply.system_fingerprint == "fp_policy-diges-ppm-digest"
        assert choice.model_extra is not None
        facts = choice.model_extra["rstar"]
        assert (facts["answer"], facts["score"], facts["seed"], len(facts["trajectory"])) == ("42", 0.5, 3, 3)
        [asked] = served.search.asked
        assert (asked.problem.question, asked.seed, asked.equivalence) == ("What is 6 times 7?", 3, "math-verify")


async def test_the_synchronous_client_lists_models_and_asks_with_search_settings() -> None:
    async with endpoint() as served:

        def ask() -> None:
            with openai.OpenAI(base_url=f"{served.url}/v1", api_key=SECRET, max_retries=0) as client:
                names = [model.id for model in client.models.list()]
                assert names[0] == "rstar"
                assert client.models.retrieve(names[1]).id == names[1]
                with pytest.raises(openai.NotFoundError):
                    client.models.retrieve("gpt-9")
                client.chat.completions.create(
                    model=names[1], messages=MESSAGES, extra_body={"search": {"rollouts": 5, "guidance": "ppm"}}
                )
                chunks = client.chat.completions.create(model="rstar", messages=MESSAGES, stream=True)
                assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).endswith("#### 42")

        await asyncio.to_thread(ask)
        assert (served.search.asked[0].config.rollouts, served.search.asked[0].config.guidance) == (5, "ppm")


@pytest.mark.parametrize("steps", ["text", "reasoning"])
async def test_a_stream_has_progress_then_steps_then_the_answer_and_the_usage(steps: str) -> None:
    async def slow(_: Context) -> None:
        await asyncio.sleep(0.2)

    async with endpoint(ScriptedSearch(before=slow)) as served, client_of(served) as client:
        whole = await client.chat.completions.create(model="rstar", messages=MESSAGES, extra_body={"steps": steps})
        stream = await client.chat.completions.create(
            model="rstar",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"steps": steps},
        )
        chunks = [chunk async for chunk in stream]
    *parts, last = chunks
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == ALL_TOKENS
    assert all(part.usage is None for part in parts)
    deltas = [part.choices[0].delta for part in parts]
    assert deltas[0].role == "assistant"
    thoughts = [delta.reasoning_content for delta in deltas if getattr(delta, "reasoning_content", None)]
    assert thoughts[0].startswith(
        "rollouts: 1, steps: 3, solutions: 1, tokens: 7\n\nBest solution so far, answer 41 (PPM score 0.25):\n\nStep 1\n"
    )
    assert "Output:\n```text\n41\n```" in thoughts[0]
    assert len(thoughts) == (1 if steps == "text" else 4)
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert parts[-1].choices[0].finish_reason == "stop"


async def test_choices_are_independent_searches_in_one_reply_and_in_one_stream() -> None:
    async with endpoint() as served, client_of(served) as client:
        reply = await client.chat.completions.create(model="rstar", messages=MESSAGES, n=3, seed=1)
        assert [choice.index for choice in reply.choices] == [0, 1, 2]
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 3 * ALL_TOKENS
        stream = await client.chat.completions.create(model="rstar", messages=MESSAGES, n=3, seed=1, stream=True)
        ends = [c.index async for chunk in stream for c in chunk.choices if c.finish_reason]
        assert sorted(ends) == [0, 1, 2]
        seeds = [asked.seed for asked in served.search.asked]
        assert len(set(seeds[:3])) == 3
        assert sorted(seeds[:3]) == sorted(seeds[3:])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_its_search(stream: bool) -> None:
    async with endpoint(ScriptedSearch(before=never), admission=(1, 0)) as served:
        asking = asyncio.ensure_future(post(served, ASK | {"stream": stream}))
        await served.search.calls.arrived.wait()
        asking.cancel()
        await until_cancelled(served.search)
        served.search.before = at_least_once
        status, _, _ = await retried(served)  # its slot is free again
        assert status == 200


async def at_least_once(_: Context) -> None:
    """Answer, after a progress event."""


async def retried(served: RunningEndpoint) -> tuple[int, Any, Any]:
    """Ask until the slot of a search that has just been cancelled is free."""
    while (reply := await post(served, ASK))[0] == 429:  # noqa: ASYNC110 - only an answer shows that it is free
        await asyncio.sleep(0.05)
    return reply


async def test_requests_beyond_the_slots_wait_and_those_beyond_the_queue_get_429() -> None:
    opened = asyncio.Event()

    async def wait(_: Context) -> None:
        await opened.wait()

    async with endpoint(ScriptedSearch(before=wait), admission=(2, 1)) as served:
        asking = [asyncio.ensure_future(post(served, ASK)) for _ in range(6)]
        done: set[asyncio.Future[Any]] = set()
        while len(done) < 3:
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
        for refused in done:
            status, body, headers = refused.result()
            assert (status, body["error"]["code"]) == (429, "overloaded")
            assert 1 <= int(headers["Retry-After"]) <= 60
        opened.set()
        statuses = [status for status, _, _ in await asyncio.gather(*asking)]
        assert sorted(statuses) == [200, 200, 200, 429, 429, 429]


async def test_a_waiting_client_that_leaves_gives_its_place_to_the_next() -> None:
    opened = asyncio.Event()

    async def wait(_: Context) -> None:
        await opened.wait()

    async with endpoint(ScriptedSearch(before=wait), admission=(1, 1)) as served:
        first = asyncio.ensure_future(post(served, ASK))
        await served.search.calls.arrived.wait()
        leaving = asyncio.ensure_future(post(served, ASK))
        while not REGISTRY.get_sample_value("rstar_openai_queued"):  # noqa: ASYNC110 - a gauge has no event
            await asyncio.sleep(0.01)
        leaving.cancel()
        third = asyncio.ensure_future(retried(served))
        await asyncio.sleep(0.1)
        opened.set()
        assert [(await first)[0], (await third)[0]] == [200, 200]
    assert REGISTRY.get_sample_value("rstar_openai_active") == 0
    assert REGISTRY.get_sample_value("rstar_openai_queued") == 0


async def test_the_deadline_ends_the_search_and_is_that_of_the_call() -> None:
    async with endpoint(ScriptedSearch(before=never), seconds=100) as served:
        status, body, headers = await post(served, ASK | {"timeout": 0.5})
        assert (status, body["error"]["type"]) == (504, "timeout_error")
        assert headers["x-should-retry"] == "false"
        await until_cancelled(served.search)
        remaining = served.search.asked[0].seconds
        assert remaining is not None
        assert remaining <= 1  # gRPC rounds it up


async def test_a_stream_that_fails_ends_with_the_error() -> None:
    async with endpoint(ScriptedSearch(before=never)) as served, client_of(served) as client:
        stream = await client.chat.completions.create(
            model="rstar", messages=MESSAGES, stream=True, extra_body={"timeout": 1.0}
        )
        with pytest.raises(openai.APIError, match="did not end within 1 s"):
            async for _ in stream:
                pass


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.FAILED_PRECONDITION, 400),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    ],
)
async def test_each_failure_of_the_search_has_its_status(code: grpc.StatusCode, status: int) -> None:
    async with endpoint(ScriptedSearch(before=fails(code))) as served:
        found, body, headers = await post(served, ASK)
        assert found == status
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert "127.0.0.1" not in body["error"]["message"]
        assert ("Retry-After" in headers) == (status in {429, 503})


async def test_without_a_valid_key_nothing_is_answered(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"lab {SECRET}\n")
    async with endpoint(keys=keys) as served:
        async with client_of(served) as client:
            assert (await client.chat.completions.create(model="rstar", messages=MESSAGES)).choices
        async with client_of(served, "sk-another-0123456789") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model="rstar", messages=MESSAGES)
        assert len(served.search.asked) == 1
        async with aiohttp.ClientSession() as session, session.get(f"{served.url}/healthz") as reply:
            assert reply.status == 200


async def test_the_limits_of_a_key_do_not_hold_for_another(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"lab {SECRET} requestsPerMinute=1\nweb {SECRET}-web tokensPerMinute=10\n")
    async with endpoint(keys=keys, limits=Limits(at_once=5)) as served:

        async def status(key: str) -> int:
            found, _, headers = await post(served, ASK, headers={"Authorization": f"Bearer {key}"})
            assert found == 200 or int(headers["Retry-After"]) >= 1
            return found

        assert [await status(SECRET), await status(SECRET)] == [200, 429]
        # The tokens of the first request emptied the bucket.
        assert [await status(f"{SECRET}-web"), await status(f"{SECRET}-web")] == [200, 429]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{" * 10_000, 400),
        (b"\x00\xff", 400),
        (b'{"model": "rstar", "messages": [{"role": "user", "content": "\\ud800"}]}', 200),
        (b'{"model": "rstar", "messages": [{"role": "user", "content": "<script>\\u0000</script>"}]}', 200),
        (b'{"model": "rstar", "messages": [{"role": "user", "content": "' + b"x" * 300_000 + b'"}]}', 413),
        (b'{"model": "\\n\\r\\nSet-Cookie: a", "messages": []}', 404),
    ],
)
async def test_hostile_bodies_get_a_json_reply_and_no_traceback(body: bytes, status: int) -> None:
    async with endpoint() as served:
        found, reply, headers = await post(served, body)
        assert found == status
        assert "Traceback" not in json.dumps(reply)
        assert "Set-Cookie" not in headers


async def test_other_paths_and_methods_have_errors_in_the_same_format() -> None:
    async with endpoint() as served, aiohttp.ClientSession() as session:
        for method, path, status in (("GET", "/v1/completions", 404), ("GET", "/v1/chat/completions", 405)):
            async with session.request(method, served.url + path) as reply:
                assert (reply.status, set(await reply.json())) == (status, {"error"})


async def test_a_page_of_an_allowed_origin_may_call_from_a_browser() -> None:
    async with endpoint(cors_origins=frozenset({"https://chat.example"})) as served, aiohttp.ClientSession() as session:
        ask = {"Origin": "https://chat.example", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
        async with session.options(f"{served.url}/v1/chat/completions", headers=ask) as reply:
            assert reply.status == 204
            assert reply.headers["Access-Control-Allow-Origin"] == "https://chat.example"
            assert reply.headers["Access-Control-Allow-Headers"] == "authorization,x-stainless-os"
        _, _, headers = await post(served, ASK | {"stream": False}, headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in headers


async def test_a_drain_refuses_new_requests_finishes_running_ones_and_ends_slow_ones() -> None:
    opened = asyncio.Event()

    async def wait(_: Context) -> None:
        await opened.wait()

    async with endpoint(ScriptedSearch(before=wait)) as served:
        running = asyncio.ensure_future(post(served, ASK))
        await served.search.calls.arrived.wait()
        draining = asyncio.ensure_future(served.endpoint.drain(60))
        await asyncio.sleep(0)
        status, body, headers = await post(served, ASK)
        assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "shutting_down", "1")
        opened.set()
        assert (await running)[0] == 200
        await draining

    async with endpoint(ScriptedSearch(before=never)) as served:
        slow = asyncio.ensure_future(post(served, ASK))
        await served.search.calls.arrived.wait()
        await served.endpoint.drain(0)
        status, body, _ = await slow
        assert (status, body["error"]["code"]) == (503, "shutting_down")
        await until_cancelled(served.search)


async def test_a_client_that_leaves_ends_the_calls_to_the_models_of_a_real_search() -> None:
    policy, executor = ScriptedPolicy(never), ScriptedExecutor()
    async with (
        running(policy, executor) as models,
        PolicyClient([models.address]) as policies,
        ExecutorClient([models.address]) as executors,
        endpoint(SearchService(policies, executors)) as served,
    ):
        asking = asyncio.ensure_future(post(served, ASK | {"stream": True}))
        await policy.calls.arrived.wait()
        asking.cancel()
        await asyncio.wait_for(policy.calls.was_cancelled.wait(), 30)


async def test_a_real_search_is_answered_with_the_tokens_that_it_generated() -> None:
    policy, executor = ScriptedPolicy(model=DigitPolicy()), ScriptedExecutor(model=SumExecutor())
    async with (
        running(policy, executor) as models,
        PolicyClient([models.address]) as policies,
        ExecutorClient([models.address]) as executors,
        endpoint(SearchService(policies, executors)) as served,
    ):
        status, body, _ = await post(served, ASK | {"seed": 3, "search": {"rollouts": 6, "candidates": 4}})
        again = await post(served, ASK | {"seed": 3, "search": {"rollouts": 6, "candidates": 4}})
        local = await solve(
            problem_of("What is 6 times 7?"),
            SearchConfig(rollouts=6, candidates=4),
            policy=DigitPolicy(),
            executor=SumExecutor(),
            seed=3,
        )
    [choice] = body["choices"]
    assert status == 200
    assert body["usage"]["completion_tokens"] == local.usage.tokens
    assert choice["rstar"]["answer"] == local.nodes[local.chosen].answer
    assert again[1]["choices"] == body["choices"]
