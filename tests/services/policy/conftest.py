"""A tiny random policy of each architecture, on disk and loaded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from rstar_policy.transformers_engine import TransformersPolicy

from tests.support.tiny_model import save_policy


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=["llama", "qwen2"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
async def policy(checkpoint: Path) -> AsyncIterator[TransformersPolicy]:
    async with TransformersPolicy.load(checkpoint) as loaded:
        yield loaded
