"""Mutual TLS with real certificates: who is served, who is refused and with which sentence, and the renewal of files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rstar.interfaces import Sampling, State
from rstar.rpc import endpoints, tls
from rstar.rpc.clients import PolicyClient
from rstar.rpc.codec import propose_request
from rstar.rpc.errors import ServiceUnavailable
from rstar.rpc.tls import Certificate, CertificateError, Pem, TlsSettingsError, explain, open_channel, own_certificate
from rstar.v1 import policy_pb2_grpc
from tests.support.certificates import DAY, USAGES, Authority, shown, write
from tests.support.rpc.servicers import PROPOSE, ScriptedPolicy, free_port, policy_process, running

STATE = State("p1", "1 + 1 = ?")
SAMPLING = Sampling(max_new_tokens=8)
PAST = timedelta(hours=-1)
NAME = (("grpc.ssl_target_name_override", tls.SERVER_NAME),)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def variables(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A certificate of ``authority``, in the environment of this process and of those that it starts."""
    named = write(tmp_path / "own", authority.issue())
    for variable, file in named.items():
        monkeypatch.setenv(variable, file)
    return named


def credentials(pem: Pem) -> grpc.ServerCredentials:
    """Return credentials that were not checked at the start."""
    return grpc.ssl_server_credentials([(pem.key, pem.certificate)], pem.ca, require_client_auth=True)


async def propose(address: str, pem: Pem | None) -> str:
    """Call the policy over a new connection; return "" or the sentence of the failure."""
    async with open_channel(address, pem) as channel:
        try:
            await propose_on(channel)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {explain(error.details() or '', tls=pem is not None)}"
        return ""


async def propose_on(channel: grpc.aio.Channel) -> None:
    stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
    await stub.Propose(propose_request(STATE, 1, SAMPLING, 0))


async def until(condition: Callable[[], bool]) -> None:
    while True:
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.05)


async def test_a_client_and_a_server_with_certificates_of_one_ca_work_together(variables: dict[str, str]) -> None:
    certificate = own_certificate()
    assert certificate is not None
    async with (
        running(ScriptedPolicy(), credentials=certificate.server_credentials()) as server,
        PolicyClient([server.address]) as policy,  # its watch of the health is a stream
    ):
        assert len((await policy.propose(STATE, 3, SAMPLING, 0)).candidates) == 3


async def test_without_the_variables_nothing_has_tls() -> None:
    assert own_certificate({}) is None
    async with running(ScriptedPolicy()) as server:
        assert await propose(server.address, None) == ""


async def test_a_server_refuses_every_client_without_a_valid_certificate_of_its_ca(authority: Authority) -> None:
    """Each tenant has its own CA: a certificate of tenant B opens nothing of tenant A."""
    policy = ScriptedPolicy()
    other = Authority("tenant-b").issue()
    expired = authority.issue(ends=PAST)
    async with running(policy, credentials=credentials(authority.issue())) as server:
        assert "as for a client without TLS: set RSTAR_TLS_CERT, " in await propose(server.address, None)
        for refused in (replace(other, ca=authority.pem), expired):
            sentence = await propose(server.address, refused)
            assert "as for a client certificate of another CA or an expired one (RSTAR_TLS_CERT)" in sentence
        without = grpc.aio.secure_channel(server.address, grpc.ssl_channel_credentials(authority.pem), options=NAME)
        async with without as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="Socket closed"):
                await propose_on(channel)
        assert policy.calls.started == 0


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            "another CA",
            "the server's certificate does not verify against RSTAR_TLS_CA: unable to get local issuer certificate",
        ),
        ("expired", "the server's certificate does not verify against RSTAR_TLS_CA: certificate has expired"),
        ("another name", "the server's certificate does not have the DNS name rstar.internal"),
        (
            "no TLS",
            "the server has no TLS, but this client has: set RSTAR_TLS_CERT, RSTAR_TLS_KEY, RSTAR_TLS_CA for both",
        ),
    ],
)
async def test_a_client_refuses_a_server_that_it_cannot_verify(fault: str, sentence: str, authority: Authority) -> None:
    served = {
        "another CA": replace(Authority("tenant-b").issue(), ca=authority.pem),
        "expired": authority.issue(ends=PAST),
        "another name": authority.issue(names=["rstar-executor.tenant-a.svc"]),
    }.get(fault)
    policy = ScriptedPolicy()
    async with running(policy, credentials=credentials(served) if served else None) as server:
        assert (await propose(server.address, authority.issue())).startswith(f"UNAVAILABLE: {sentence}")
        assert policy.calls.started == 0


async def test_the_error_of_a_client_names_the_cause(variables: dict[str, str]) -> None:
    async with running(ScriptedPolicy()) as server:
        client = PolicyClient([server.address], ready_seconds=0.2)
        try:
            sentence = "not reached yet"
            while "not reached yet" in sentence:
                with pytest.raises(ServiceUnavailable) as caught:
                    await client.connect()
                sentence = str(caught.value)
        finally:
            await client.close()
    assert f"{server.address}: UNAVAILABLE: the server has no TLS, but this client has" in sentence


async def test_a_new_ca_takes_effect_on_running_servers_and_clients_and_no_call_fails(
    authority: Authority, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "REREAD_SECONDS", 0.0)
    monkeypatch.setattr(endpoints, "LOOK_UP_SECONDS", 0.1)
    old, successor = own_certificate(), Authority("successor")
    assert old is not None
    before, both = old.latest(), authority.pem + successor.pem
    ended = asyncio.Event()
    async with (
        running(ScriptedPolicy(), credentials=old.server_credentials()) as server,
        PolicyClient([server.address]) as policy,
    ):

        async def calls() -> int:
            made = 0
            while not ended.is_set():
                await policy.propose(STATE, 1, SAMPLING, 0)
                made += 1
                await asyncio.sleep(0)
            return made

        async def until_served(pem: Pem) -> None:
            write(tmp_path / "own", pem)
            await until(lambda: shown(server.address) == pem.certificate)
            await until(lambda: policy._endpoints._pem == pem)

        calling = asyncio.ensure_future(calls())
        await until_served(replace(before, ca=both))
        await until_served(replace(successor.issue(), ca=both))
        assert await propose(server.address, replace(before, ca=both)) == ""
        await until_served(successor.issue())
        assert await propose(server.address, replace(before, ca=both)) != ""
        ended.set()
        assert await calling > 0


async def test_files_that_cannot_be_used_do_not_replace_the_certificate(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tls, "REREAD_SECONDS", 0.0)
    first = authority.issue()
    certificate = own_certificate(write(tmp_path, first))
    assert certificate is not None
    for unusable in (
        replace(authority.issue(), key=first.key),
        authority.issue(ends=PAST),
        replace(first, ca=b""),
        Authority("tenant-b").issue(names=["elsewhere"]),
    ):
        write(tmp_path, unusable)
        assert certificate.latest() == certificate.latest() == first
    assert capsys.readouterr().out.count("certificate kept") == 4
    second = authority.issue()
    write(tmp_path, second)
    assert certificate.latest() == second


@pytest.mark.parametrize("unset", ["RSTAR_TLS_CERT", "RSTAR_TLS_KEY", "RSTAR_TLS_CA"])
def test_some_of_the_variables_are_an_error(unset: str, authority: Authority, tmp_path: Path) -> None:
    named = write(tmp_path, authority.issue())
    for missing in ({unset: ""}, {name: "" for name in named if name != unset}):
        with pytest.raises(TlsSettingsError, match=r"TLS needs all of .* unset: .* Set all or none"):
            own_certificate(named | missing)


def test_files_that_cannot_be_used_are_an_error_with_one_sentence(authority: Authority, tmp_path: Path) -> None:
    good = authority.issue()

    def sentence(pem: Pem, kind: type[Exception]) -> str:
        with pytest.raises(kind) as caught:
            own_certificate(write(tmp_path, pem))
        return str(caught.value)

    assert "do not belong together" in sentence(replace(good, key=authority.issue().key), TlsSettingsError)
    assert "without a password" in sentence(authority.issue(password=b"secret"), TlsSettingsError)
    assert "in PEM format" in sentence(replace(good, certificate=b"\0"), TlsSettingsError)
    assert "(RSTAR_TLS_CA) has no certificate" in sentence(replace(good, ca=b""), TlsSettingsError)
    assert "certificate has expired" in sentence(authority.issue(ends=PAST), CertificateError)
    assert "Hostname mismatch" in sentence(authority.issue(names=["elsewhere"]), CertificateError)
    assert "local issuer" in sentence(replace(good, ca=Authority("tenant-b").pem), CertificateError)
    for usage in USAGES:
        assert "purpose" in sentence(authority.issue(usages=[usage]), CertificateError)
    with pytest.raises(TlsSettingsError, match=r"\(RSTAR_TLS_CERT\) cannot be read: No such file"):
        Certificate(tmp_path / "none", tmp_path / "none", tmp_path / "none")


def test_a_certificate_that_ends_is_valid_until_then(authority: Authority, tmp_path: Path) -> None:
    assert own_certificate(write(tmp_path, authority.issue(ends=DAY))) is not None


async def test_the_port_for_probes_offers_the_health_alone_and_without_tls(variables: dict[str, str]) -> None:
    port = free_port()
    async with policy_process("--health-port", str(port)) as server, open_channel(f"127.0.0.1:{port}", None) as channel:
        health: health_pb2_grpc.HealthAsyncStub = health_pb2_grpc.HealthStub(channel)
        for name in ("", PROPOSE):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Propose(propose_request(STATE, 1, SAMPLING, 0))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        reflection = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in reflection(iter([b""])):
                pass
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "without TLS" in await propose(server.address, None)
        async with PolicyClient([server.address]) as policy:
            assert (await policy.propose(STATE, 1, SAMPLING, 0)).candidates
