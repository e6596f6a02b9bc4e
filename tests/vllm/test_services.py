"""The whole programs with the engine vllm: answers, lost clients, a killed engine, a killed service, an adapter."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import torch
from rstar_policy.transformers_engine import TransformersPolicy
from safetensors.torch import save_file

from rstar.interfaces import Sampling, State
from rstar.rpc.clients import PolicyClient, PreferenceModelClient
from rstar.rpc.codec import propose_request
from rstar.v1 import policy_pb2_grpc
from tests.support.rpc.servicers import free_port
from tests.support.tiny_model import until
from tests.vllm.conftest import HIDDEN, START_SECONDS

RUNNING = "rstar_policy_running_candidates"
ENDLESS = Sampling(0.7, 1.0, 400, ())


@dataclass
class Service:
    process: subprocess.Popen[bytes]
    address: str
    metrics: str
    log: Path

    def engine(self) -> list[psutil.Process]:
        """Return the processes of the engine."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def metric(self, name: str) -> float:
        text = urllib.request.urlopen(self.metrics, timeout=10).read().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@contextmanager
def service(module: str, folder: Path, work: Path, *options: str) -> Iterator[Service]:
    """Run a service with the engine vllm until the block ends."""
    ready, log, port = work / "ready", work / "log", free_port()
    command = [sys.executable, "-m", module, "--engine", "vllm", "--model", str(folder), "--port", "0"]
    command += ["--ready-file", str(ready), "--metrics-port", str(port), "--memory-share", "0.01", "--max-rows", "8"]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--threads", "1", *options], stdout=file, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + START_SECONDS
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield Service(process, ready.read_text(), f"http://127.0.0.1:{port}/metrics", log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    """Return whether all processes end within ``seconds``."""
    return not psutil.wait_procs(processes, seconds)[1]


async def test_a_policy_answers_frees_the_requests_of_lost_clients_and_ends_with_its_engine(
    policy_folder: Path, tmp_path: Path
) -> None:
    with service("rstar_policy", policy_folder, tmp_path) as running:
        async with PolicyClient([running.address]) as client:
            proposal = await client.propose(State("p", "1 + 1?"), 4, Sampling(1.0, 1.0, 8, ()), 7)
            assert len(proposal.candidates) == 4
            assert len(proposal.model_digest) == 64
        async with grpc.aio.insecure_channel(running.address) as channel:
            stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
            lost = [stub.Propose(propose_request(State(str(i), "go"), 8, ENDLESS, i)) for i in range(4)]
            await until(lambda: running.metric(RUNNING) > 0)
        del lost
        await until(lambda: running.metric(RUNNING) == 0)
        async with PolicyClient([running.address]) as client:
            call = asyncio.ensure_future(client.propose(State("p", "go"), 8, ENDLESS, 0))
            await until(lambda: running.metric(RUNNING) > 0)
            engine = running.engine()
            for process in engine:
                process.kill()
            assert await asyncio.to_thread(running.process.wait, 60) == 1
            assert "policy: the process of the vLLM engine has ended" in running.log.read_text()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)


async def test_the_engine_ends_when_its_service_is_killed(ppm_folder: Path, tmp_path: Path) -> None:
    with service("rstar_ppm", ppm_folder, tmp_path) as running:
        async with PreferenceModelClient([running.address]) as client:
            scores = await client.score(State("p", "1?"), ["a", "b"])
            assert len(scores.values) == 2
        engine = running.engine()
        assert engine
        os.kill(running.process.pid, signal.SIGKILL)
        assert await asyncio.to_thread(gone, engine, 60), "the engine still holds its memory"


def save_adapter(folder: Path, scale: float) -> Path:
    """Write a LoRA adapter of rank 8 for the query projection of the first layer, as PEFT names its parts."""
    folder.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    torch.manual_seed(3)
    tensors = {f"{name}.lora_A.weight": torch.randn(8, HIDDEN), f"{name}.lora_B.weight": scale * torch.randn(HIDDEN, 8)}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 8, "lora_dropout": 0.0}
    config |= {"target_modules": ["q_proj"], "bias": "none", "base_model_name_or_path": "base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


async def test_an_adapter_changes_the_policy_and_its_digest(policy_folder: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", 1.0)
    greedy, state = Sampling(0.0, 1.0, 24, ()), State("p", "1 + 1?")
    with service("rstar_policy", policy_folder, tmp_path, "--adapter", str(adapter)) as running:
        async with PolicyClient([running.address]) as client:
            adapted = await client.propose(state, 1, greedy, 0)
        running.process.terminate()
        assert await asyncio.to_thread(running.process.wait, 60) == 0, running.log.read_text()
    async with TransformersPolicy.load(policy_folder, threads=1) as base:
        plain = await base.propose(state, 1, greedy, 0)
    assert adapted.model_digest != plain.model_digest
    assert adapted.candidates[0].text != plain.candidates[0].text
