"""The number of threads of a model on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rstar.models import pretrained
from tests.support.tiny_model import save_policy


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("given", "small", "expected"), [(None, 20_000_000, 2), (None, 0, 4), (3, 20_000_000, 3), (1, 0, 1)]
)
def test_a_small_model_gets_half_of_the_threads_unless_they_are_given(
    given: int | None, small: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "SMALL_MODEL", small)
    monkeypatch.setattr(pretrained, "_DEFAULT_THREADS", 4)
    folder = save_policy("llama", tmp_path)
    for _ in range(2):
        pretrained.load_pretrained(AutoModelForCausalLM, "model", folder, device="cpu", dtype="float32", threads=given)
        assert torch.get_num_threads() == expected
