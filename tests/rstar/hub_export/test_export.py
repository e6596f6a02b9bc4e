"""``rstar export hub``: the folders are read by datasets, transformers and the hub's own classes, offline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import DatasetCard, ModelCard
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from rstar.cli.errors import CommandError
from rstar.cli.main import app
from rstar.models.encoding import TrajectoryTokenizer
from rstar.store.digests import file_digest
from rstar.store.open import open_store
from rstar.store.store import Store
from tests.support.made_store import make_store


@pytest.fixture
def made(store: Store, tmp_path: Path) -> Store:
    """A store, in a folder and in a bucket, with two finished rounds."""
    make_store(store, tmp_path / "models")
    return store


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A folder store with two finished rounds."""
    make_store(open_store(str(tmp_path / "store")), tmp_path / "models")
    return str(tmp_path / "store")


def export(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["export", "hub", *map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(*arguments: object) -> CommandError:
    with pytest.raises(CommandError) as raised:
        CliRunner().invoke(app, ["export", "hub", *map(str, arguments)], catch_exceptions=False)
    return raised.value


def test_every_configuration_loads_offline_with_its_splits(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    out = tmp_path / "out"
    report = export("--store", made.uri, "--out", out, "--license", "apache-2.0")
    names = [Path(one["folder"]).name for one in report["folders"]]
    assert names == ["data", "r1-policy", "r1-ppm", "r2-policy", "r2-ppm"]
    data = str(out / "data")

    def rows(config: str, split: str) -> list[dict[str, Any]]:
        loaded = datasets.load_dataset(data, config, split=split, cache_dir=str(tmp_path / "cache"))
        return list(loaded)

    assert [row["round"] for row in rows("sft", "train")] == ["r1", "r2"]
    assert len(rows("trees", "train")) == 4
    assert {row["split"] for row in rows("pairs", "held_out")} == {"held_out"}
    assert [row["round"] for row in rows("pairs-r2", "train")] == ["r2"]
    assert [row["scored"] for row in rows("evaluation", "test")] == [None, 3]
    assert {row["method"] for row in rows("evaluation-trees", "test")} == {"mcts+ppm"}
    assert rows("trees-r1", "train")[0]["nodes"][1]["text"] == "<script>alert(1)</script>"
    card = DatasetCard.load(out / "data" / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.configs[0] == {
        "config_name": "sft",
        "data_files": [{"split": "train", "path": "sft/*/train-*.parquet"}],
        "default": True,
    }
    assert "| `sft` | `train` | 2 |" in card.text
    assert made.uri not in card.content


def test_models_load_and_their_cards_have_results_and_lineage(folder: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export("--store", folder, "--out", out, "--round", "r2", "--license", "mit", "--only", "policy", "--only", "ppm")
    assert sorted(path.name for path in out.iterdir()) == ["r2-policy", "r2-ppm"]
    AutoModelForCausalLM.from_pretrained(out / "r2-policy")
    card = ModelCard.load(out / "r2-policy" / "README.md")
    assert (card.data.base_model, card.data.pipeline_tag, card.data.license) == ("lab/base", "text-generation", "mit")
    results = {one.metric_name: one.metric_value for one in card.data.eval_results}
    assert results == {"accuracy, greedy": 0.5, "accuracy, mcts+ppm": 1.0}
    record = json.loads((out / "r2-policy" / "export.json").read_text())
    manifest = record["made_from"]["r2"]["train-policy"]["manifest"]
    assert manifest in card.text
    assert record["files"]["config.json"]["sha256"] == file_digest(out / "r2-policy" / "config.json")


def test_the_snippet_of_the_ppms_card_gives_the_scores_of_the_service(folder: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export("--store", folder, "--out", out, "--round", "r2", "--only", "ppm")
    place = out / "r2-ppm"
    [snippet] = re.findall(r"^```python\n(.*?)^```", (place / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=place, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    model: Any = AutoModelForSequenceClassification.from_pretrained(place).eval()
    encoder = TrajectoryTokenizer(AutoTokenizer.from_pretrained(place))
    steps = re.search(r"^steps = (.*)$", snippet, re.MULTILINE)
    assert steps is not None
    texts = json.loads(steps[1])
    expected = []
    for count in range(1, len(texts) + 1):
        with torch.no_grad():
            logit = model(torch.tensor([encoder.state("What is 6 * 7?", texts[:count])])).logits[0, 0]
        expected.append(round(torch.tanh(logit).item(), 4))
    assert [float(line) for line in done.stdout.split()] == pytest.approx(expected, abs=2e-4)


def test_a_second_export_reads_only_what_is_missing_and_removes_what_is_no_longer_asked_for(
    folder: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export("--store", folder, "--out", out)
    digests = {path.relative_to(out): file_digest(path) for path in out.rglob("*") if path.is_file()}
    times = {path: (out / path).stat().st_mtime_ns for path in digests}
    (out / "r1-ppm" / "config.json").write_text("{}")
    for name in ("sft/r1/train-00000.parquet", "evaluation/r1/test-00000.parquet"):
        (out / "data" / name).unlink()
    export("--store", folder, "--out", out)
    assert {path.relative_to(out): file_digest(path) for path in out.rglob("*") if path.is_file()} == digests
    kept = [path for path, time in times.items() if (out / path).stat().st_mtime_ns == time]
    assert Path("data/trees/r1/train-00000.parquet") in kept
    assert Path("data/pairs/r1/train-00000.parquet") in kept
    assert Path("r1-policy/model.safetensors") in kept
    assert Path("r1-ppm/config.json") not in kept
    export("--store", folder, "--out", out, "--round", "r2")
    assert not (out / "data/sft/r1/train-00000.parquet").exists()
    assert (out / "data/sft/r2/train-00000.parquet").exists()


def test_damaged_files_are_named_and_left_out(folder: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    [shard] = Path(folder).glob("rounds/r1/rollout/*/trees/00001.parquet")
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    [weights] = Path(folder).glob("rounds/r2/train-ppm/*/checkpoint/model.safetensors")
    weights.unlink()
    [manifest] = Path(folder).glob("rounds/r2/evaluate/*/manifest.json")
    manifest.write_text("{")
    error = refused("--store", folder, "--out", out)
    assert error.code == 1
    for part in ("trees/00001.parquet does not match", "r2-ppm is left out", "is not a manifest"):
        assert part in str(error)
    assert sorted(path.name for path in out.iterdir()) == ["data", "r1-policy", "r1-ppm", "r2-policy"]
    assert sorted(path.name for path in (out / "data/trees/r1").iterdir()) == ["train-00000.parquet"]
    assert "trees/00001.parquet" in (out / "data/README.md").read_text()


def test_wrong_usage_is_refused_before_anything_is_written(folder: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "no finished stage of round r9" in str(refused("--store", folder, "--out", out, "--round", "r9"))
    assert "there is no store" in str(refused("--store", tmp_path / "none", "--out", out))
    assert "ORG/NAME" in str(refused("--store", folder, "--out", out, "--push", "justname"))
    report = export("--store", folder, "--out", out, "--push", "lab/tiny", "--dry-run")
    assert report["folders"][1]["repository"] == "lab/tiny-r1-policy"
    assert not out.exists()
    (out / "data").mkdir(parents=True)
    (out / "data" / "mine.txt").touch()
    assert "holds other files" in str(refused("--store", folder, "--out", out))
    assert [path.name for path in (out / "data").iterdir()] == ["mine.txt"]


class HubWithoutNetwork:
    """Stands for ``HfApi``: the protocol of uploads (LFS, Xet) cannot be served here."""

    calls: list[tuple[Any, ...]]
    mismatches: list[dict[str, str]]

    def whoami(self) -> dict[str, str]:
        return {"name": "lab"}

    def create_repo(self, name: str, *, repo_type: str, private: bool, exist_ok: bool) -> str:
        self.calls.append(("create", name, repo_type, private, exist_ok))
        return f"https://hub/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> None:
        self.calls.append(("upload", repo_id, Path(folder_path).name, (Path(folder_path) / "README.md").is_file()))

    def verify_repo_checksums(self, name: str, *, repo_type: str, local_dir: Path) -> Any:
        self.calls.append(("verify", name))
        return SimpleNamespace(mismatches=self.mismatches)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[HubWithoutNetwork]:
    monkeypatch.setattr("huggingface_hub.HfApi", HubWithoutNetwork)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    HubWithoutNetwork.calls, HubWithoutNetwork.mismatches = [], []
    return HubWithoutNetwork


def test_a_push_makes_private_repositories_and_compares_what_arrived(
    folder: str, tmp_path: Path, hub: type[HubWithoutNetwork]
) -> None:
    report = export("--store", folder, "--out", tmp_path / "out", "--round", "r2", "--push", "lab/tiny")
    assert hub.calls[:3] == [
        ("create", "lab/tiny", "dataset", True, True),
        ("upload", "lab/tiny", "data", True),
        ("verify", "lab/tiny"),
    ]
    assert [call[1:4] for call in hub.calls if call[0] == "create"][1:] == [
        ("lab/tiny-r2-policy", "model", True),
        ("lab/tiny-r2-ppm", "model", True),
    ]
    assert report["folders"][2]["url"] == "https://hub/lab/tiny-r2-ppm"
    card = ModelCard.load(tmp_path / "out" / "r2-ppm" / "README.md")
    assert (card.data.base_model, card.data.datasets) == ("lab/tiny-r2-policy", ["lab/tiny"])
    hub.mismatches.append({"path": "config.json"})
    error = refused("--store", folder, "--out", tmp_path / "out", "--round", "r2", "--push", "lab/tiny")
    assert (error.code, "config.json differs on the hub" in str(error)) == (1, True)


def test_a_push_without_a_token_or_offline_is_refused_before_anything_is_written(
    folder: str, tmp_path: Path, hub: type[HubWithoutNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--store", folder, "--out", tmp_path / "out", "--push", "lab/tiny")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "HF_TOKEN" in str(refused(*arguments))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in str(refused(*arguments))
    assert hub.calls == []
    assert not (tmp_path / "out").exists()
