"""A wrong checkpoint is refused with the reason before any library loads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rstar.models.checkpoint_files import INDEX, SINGLE, check_checkpoint
from tests.support.tiny_model import save_policy, save_ppm


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("saved")
    return {"policy": save_policy("qwen2", folder / "policy"), "ppm": save_ppm("llama", folder / "ppm")}


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / SINGLE)
    change(tensors)
    save_file(tensors, folder / SINGLE, {"format": "pt"})


def without_lm_head(folder: Path) -> None:
    rewritten(folder, lambda tensors: tensors.pop("lm_head.weight", None))
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))


def without_last_rows(folder: Path) -> None:
    rewritten(folder, lambda t: t.update({"model.embed_tokens.weight": t["model.embed_tokens.weight"][:-3].clone()}))


def half_copied(folder: Path) -> None:
    content = (folder / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(content[: len(content) // 2])


def beginning_only(folder: Path) -> None:
    (folder / SINGLE).write_bytes((folder / SINGLE).read_bytes()[:20])


def empty_file(folder: Path) -> None:
    (folder / SINGLE).write_bytes(b"")


def a_shard_missing(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


@pytest.mark.parametrize("role", ["policy", "ppm"])
def test_a_whole_checkpoint_passes(saved: dict[str, Path], role: str) -> None:
    check_checkpoint(saved[role], "ppm" if role == "ppm" else "policy")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_lm_head, "no output head"),
        (without_last_rows, "its tokenizer has token .* but its embeddings have"),
        (half_copied, "is incomplete: .* bytes; copy the checkpoint again"),
        (beginning_only, "only its beginning"),
        (empty_file, "only its beginning"),
        (a_shard_missing, r"model-00002-of-00002\.safetensors is missing"),
        (broken_config, r"config\.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_the_reason(
    saved: dict[str, Path], tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    folder = shutil.copytree(saved["policy"], tmp_path / "copy")
    damage(folder)
    with pytest.raises(ValueError, match=reason):
        check_checkpoint(folder, "policy")


def test_a_policy_is_no_ppm(saved: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="has no scalar head"):
        check_checkpoint(saved["policy"], "ppm")
