"""A tiny random preference model of each architecture, on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.tiny_model import save_ppm


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=["llama", "qwen2"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ppm(request.param, tmp_path_factory.mktemp(request.param))
