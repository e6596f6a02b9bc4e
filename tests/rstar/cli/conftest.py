"""A toy task with scripted models, and its problems."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.rpc.servicers import ScriptedExecutor, ScriptedPolicy, ScriptedPreferenceModel, running
from tests.support.scripted import ClosenessModel, DigitPolicy, SumExecutor


@pytest.fixture
async def toy() -> AsyncIterator[list[str]]:
    """The options of three servers with scripted models: a solution is four digits that add up to 20."""
    policy, executor = ScriptedPolicy(model=DigitPolicy()), ScriptedExecutor(model=SumExecutor())
    async with running(policy, executor, ScriptedPreferenceModel(model=ClosenessModel(20))) as server:
        yield ["--policy", server.address, "--executor", server.address, "--ppm", server.address]


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{i}", "question": "20?", "answer": "20"}) + "\n" for i in range(3)))
    return path
