"""``rstar plan`` as a real process: the examples' files, JSON, an earlier round, and one sentence per error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rstar.rounds.estimate.model_size import KNOWN
from rstar.store.folder_store import FolderStore
from tests.support.commands import PLAIN_TERMINAL, assert_refused, rstar
from tests.support.paths import ROOT
from tests.support.rounds.earlier_round import finished_round

GAME24, GSM8K = (ROOT / f"examples/{name}/rounds.yaml" for name in ("game24", "gsm8k"))
HUB = ("--parameters", "1.5B", "--train-problems", "7473", "--evaluation-problems", "1319")


def game24_store(folder: Path) -> Path:
    """Write what the file of the example names: games, and the config of a model of which no weights are here."""
    store = folder / "store"
    for name, games in (("train", 30), ("held-out", 10)):
        path = store / f"data/{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"nums": [i, 2, 6, 4], "target": 24}) + "\n" for i in range(1, games + 1)))
    config = {"model_type": "llama", "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    config |= {"intermediate_size": 384, "vocab_size": 341}
    (store / "models/base").mkdir(parents=True)
    (store / "models/base/config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    return store


def plan_json(*arguments: str) -> dict[str, Any]:
    finished = rstar("plan", *arguments, "--json")
    assert finished.code == 0, finished.err
    found: dict[str, Any] = json.loads(finished.out)
    return found


def test_the_demos_file_is_planned_from_its_store_and_the_table_of_machines(tmp_path: Path) -> None:
    store = game24_store(tmp_path)
    found = plan_json(str(GAME24), "--store", str(store), "--machine", "cpu-2-game24")
    assert [item["name"] for item in found["rounds"]] == [f"game24-r{number}" for number in range(1, 5)]
    first = found["rounds"][0]
    assert (first["problems"], first["evaluated"], first["model"]["parameters"]) == (30, 10, 683_520)
    assert found["total"]["seconds"] == sum(item["seconds"] for item in found["rounds"]) > 0
    assert found["total"]["gpu_hours"] == 0
    text = rstar("plan", str(GAME24), "--store", str(store), "--machine", "cpu-2-game24")
    for part in ("game24-r1: 30 problems, 10 held out", "train-policy process", "examples/game24: its tokenizer"):
        assert part in text.out


def test_a_file_of_the_hub_is_planned_by_options_and_without_rates_only_the_time_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PLAIN_TERMINAL, "HF_HOME", str(tmp_path))  # this machine may have the model
    found = plan_json(str(GSM8K), *HUB)
    assert found["total"]["tokens"] > 0
    assert (found["total"]["seconds"], found["total"]["gpu_hours"]) == (None, None)
    assert found["rounds"][0]["model"]["layers"] == KNOWN["Qwen2.5-1.5B"].layers
    text = rstar("plan", str(GSM8K), *HUB)
    assert text.code == 0
    assert "--measured STORE" in text.out
    assert "shape of Qwen2.5-1.5B assumed" in text.out
    rates = ("--policy-tokens-per-second", "2500", "--train-tokens-per-second", "8000")
    assert plan_json(str(GSM8K), *HUB, *rates)["total"]["gpu_hours"] > 0


def test_an_earlier_round_is_the_source_of_a_plan(tmp_path: Path) -> None:
    store = game24_store(tmp_path)
    finished_round(FolderStore(store), "game24-r1", "2026-01-01", tmp_path)
    for place in (str(store), f"{store}/rounds/game24-r1"):
        found = plan_json(str(GAME24), "--store", str(store), "--measured", place)
        values = {item["name"]: (item["value"], item["source"]) for item in found["rounds"][0]["assumptions"]}
        assert values["policy_rate"] == (60, f"measured: game24-r1 in {store}")
        assert values["steps"][0] == 2


def test_what_is_not_here_is_asked_for_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(rstar("plan", str(GSM8K)), "problems of hf:openai/gsm8k/main are not here: give --train-problems")
    counts = HUB[2:]
    monkeypatch.setitem(PLAIN_TERMINAL, "HF_HOME", str(tmp_path / "hub"))
    assert_refused(rstar("plan", str(GSM8K), *counts), "hf:Qwen/Qwen2.5-Math-1.5B is not here", "--parameters")
    assert_refused(rstar("plan", str(GSM8K), *counts, "--parameters", "big"), "--parameters: 'big' is no number")
    assert_refused(rstar("plan", str(GSM8K), *HUB, "--machine", "h100"), "no machine 'h100'", "cpu-2-vllm")
    assert_refused(rstar("plan", str(GSM8K), *HUB, "--measured", str(tmp_path)), "has no finished rollout to measure")
    assert_refused(rstar("plan", str(GSM8K), *HUB, "--measured", "nowhere"), "there is no such folder")
    assert_refused(rstar("plan", str(tmp_path / "none.yaml")), "none.yaml: cannot be read")
    assert not (tmp_path / "rounds").exists()
