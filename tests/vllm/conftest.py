"""A tiny random policy and PPM that vLLM's CPU kernels can run, and one engine of each for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from rstar_policy.vllm_engine import VllmPolicy
from rstar_ppm.vllm_ppm import VllmPreferenceModel

from rstar.models.vllm_runtime import VllmOptions
from tests.support.tiny_model import save_policy, save_ppm

HIDDEN = 128
"""Four heads of 32: vLLM's CPU attention has no narrower ones."""
ROWS = 16
OPTIONS = VllmOptions(memory_share=0.01, max_rows=ROWS, threads=1)


START_SECONDS = 1_200
"""vLLM reads gigabytes of libraries when it starts, in three processes; a fixture's start counts as part of a test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(START_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy("qwen2", tmp_path_factory.mktemp("policy"), hidden_size=HIDDEN, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def ppm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Weights so small that a score is no steep function of the last bits of its logit.
    return save_ppm("qwen2", tmp_path_factory.mktemp("ppm"), hidden_size=HIDDEN, initializer_range=0.1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def policy(policy_folder: Path) -> AsyncIterator[VllmPolicy]:
    async with VllmPolicy.load(policy_folder, options=OPTIONS) as engine:
        yield engine


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ppm(ppm_folder: Path) -> AsyncIterator[VllmPreferenceModel]:
    async with VllmPreferenceModel.load(ppm_folder, options=OPTIONS) as engine:
        yield engine
