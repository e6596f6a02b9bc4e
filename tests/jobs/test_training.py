"""The two training stages, as processes, with tiny random models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.stage import StageRun, stage_settings
from rstar.store.digests import checkpoint_digest
from rstar.trajectory import MARKERS
from tests.support.jobs.stage_workspace import StageWorkspace, examples, make_base, pairs

TRAINING = {"epochs": 2, "batchSize": 8, "learningRate": 1e-3, "saveSteps": 3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_base(folder)
    return folder


def new_workspace(folder: Path, base: Path, **training: Any) -> tuple[StageWorkspace, ManifestRef]:
    settings = {**TRAINING, **training}
    workspace = StageWorkspace(
        folder, baseModel=str(base), trainPolicy=settings, trainPpm={**settings, "scoreScale": 4}
    )
    held_out = [(pair, "held_out") for pair in (*pairs(4), *pairs(2, final=True))]
    return workspace, workspace.selected(examples(20), [(pair, "train") for pair in pairs(20)] + held_out)


def checkpoint(workspace: StageWorkspace) -> Path:
    return workspace.store.path(f"{workspace.ref().prefix}/checkpoint")


@pytest.mark.parametrize("markers", [pytest.param("text", marks=pytest.mark.slow), "tokens"])
def test_a_policy_and_its_ppm_are_trained_and_load_without_this_project(
    tmp_path: Path, base: Path, markers: str
) -> None:
    workspace, select = new_workspace(tmp_path, base)
    workspace.document["spec"]["trainPolicy"]["markers"] = markers
    code, result = workspace.run("train_policy", {"select": select})
    assert code == 0
    assert result["metrics"] | {"loss": 0} == {
        "examples": 20,
        "trained_examples": 40,
        "epochs": 2.0,
        "steps": 5,
        "train_tokens": result["metrics"]["train_tokens"],
        "loss": 0,
        "dropped_too_long": 0,
        "markers_added": len(MARKERS) if markers == "tokens" else 0,
    }
    progress = json.loads(workspace.progress.read_text())
    assert (progress["done"], progress["total"]) == (5, 5)
    assert progress["tokens_per_second"] > 0
    assert progress["loss"] > 0
    policy, folder = workspace.ref(), checkpoint(workspace)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for marker in MARKERS:
        assert (len(tokenizer.encode(marker, add_special_tokens=False)) == 1) is (markers == "tokens")
    assert model.config.use_cache
    assert model(torch.tensor([[1, 2, 3]])).logits.shape[-1] >= len(tokenizer)
    assert not list(workspace.store.list(f"{policy.prefix}/resume/"))

    code, result = workspace.run("train_ppm", {"select": select, "policy": policy})
    assert code == 0
    figures = result["metrics"]
    assert (figures["pairs_held_out"], figures["pairs_held_out_non_final"]) == (6, 4)
    assert 0 <= figures["pair_accuracy_before"] <= 1
    assert figures["pair_accuracy"] == figures["pair_accuracy_with_final"] == 1.0
    assert figures["problems_held_out_non_final"] == 4
    assert figures["pair_accuracy_low"] == pytest.approx(0.596, abs=1e-3)
    assert figures["head_mean_slope"] > 0.999
    assert 0 < figures["score_gap"] < 2
    ppm = AutoModelForSequenceClassification.from_pretrained(checkpoint(workspace))
    assert ppm.config.num_labels == 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_manifest_and_a_done_stage_is_not_repeated(tmp_path: Path, base: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        workspace, select = new_workspace(tmp_path / name, base)
        workspace.run("train_policy", {"select": select})
        digests.append(workspace.ref())
    assert digests[0] == digests[1]
    before = checkpoint(workspace).joinpath("model.safetensors").stat().st_mtime_ns
    workspace.result.unlink()
    code, _ = workspace.run("train_policy", {"select": select})
    assert (code, workspace.ref()) == (0, digests[1])
    assert checkpoint(workspace).joinpath("model.safetensors").stat().st_mtime_ns == before


ALL_CORRECT = {"easy": 7, "medium": 0, "hard": 2}


@pytest.mark.parametrize(
    ("use", "metrics", "some", "reason"),
    [
        ("auto", ALL_CORRECT, [], "both correct and wrong trajectories (7 have only correct ones, 2 no correct one)"),
        ("auto", {"medium": 3}, [], "no pair of steps meets select.minVisits, select.minMargin"),
        ("auto", {"medium": 3}, [(pairs(1)[0], "held_out")], "all 1 preference pairs are of held-out problems"),
        ("never", {}, [(pairs(1)[0], "train")], "preferenceModel.use is never"),
    ],
)
def test_a_round_without_pairs_or_with_never_is_done_without_a_ppm_and_says_why(
    tmp_path: Path, base: Path, use: str, metrics: dict[str, Any], some: list[Any], reason: str
) -> None:
    workspace, _ = new_workspace(tmp_path, base)
    workspace.document["spec"]["preferenceModel"] = {"use": use}
    inputs = {"select": workspace.selected([], some, **metrics), "policy": workspace.trained("train-policy", base)}
    code, result = workspace.run("train_ppm", inputs)
    assert code == 0
    assert list(result["metrics"]) == ["skipped"]
    assert reason in result["metrics"]["skipped"]
    assert result["metrics"]["skipped"].endswith("so no PPM was trained")
    assert not checkpoint(workspace).exists()


def test_always_without_pairs_is_an_error_that_says_so(tmp_path: Path, base: Path) -> None:
    workspace, _ = new_workspace(tmp_path, base)
    workspace.document["spec"] |= {"round": 2, "previousRound": "r0", "preferenceModel": {"use": "always"}}
    inputs = {"select": workspace.selected([], [], **ALL_CORRECT), "policy": workspace.trained("train-policy", base)}
    code, result = workspace.run("train_ppm", inputs)
    assert code == 2
    assert "there is no preference pair" in result["error"]
    assert "preferenceModel.use is always: use harder or more problems, or auto" in result["error"]


def test_a_ppm_without_held_out_pairs_is_trained_and_not_measured(tmp_path: Path, base: Path) -> None:
    workspace, _ = new_workspace(tmp_path, base)
    final_only = [(pair, "held_out") for pair in pairs(2, final=True)]
    select = workspace.selected([], [(pair, "train") for pair in pairs(8)] + final_only)
    inputs = {"select": select, "policy": workspace.trained("train-policy", base)}
    code, result = workspace.run("train_ppm", inputs)
    figures = result["metrics"]
    assert (code, figures["pair_accuracy"], figures["pairs_held_out_non_final"]) == (0, None, 0)
    assert figures["score_gap"] is None
    assert figures["pair_accuracy_with_final"] is not None
    assert checkpoint(workspace).exists()


def test_a_policy_whose_hidden_states_saturate_the_head_is_refused(tmp_path: Path, base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.norm.weight.fill_(1e9)
    model.save_pretrained(tmp_path / "diverged")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "diverged")
    workspace, select = new_workspace(tmp_path, base)
    policy = workspace.trained("train-policy", tmp_path / "diverged")
    code, result = workspace.run("train_ppm", {"select": select, "policy": policy})
    assert (code, result["exit_code"]) == (2, 2)
    assert "the PPM's head starts in saturation" in result["error"]
    assert "\n" not in result["error"]


@pytest.mark.slow
@pytest.mark.timeout(900)  # up to five programs, one after the other: on a busy machine each may take minutes
@pytest.mark.parametrize(
    ("stage", "lora"), [("train_policy", None), ("train_ppm", None), ("train_policy", {"rank": 4, "dropout": 0.1})]
)
def test_after_sigkill_training_resumes_and_gives_the_same_checkpoint(
    tmp_path: Path, base: Path, stage: str, lora: dict[str, Any] | None
) -> None:
    digests, slopes = [], []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        workspace, select = new_workspace(tmp_path / name, base)
        workspace.document["spec"]["trainPolicy" if stage == "train_policy" else "trainPpm"] |= {
            "epochs": 24,
            "saveSteps": 5,
            "lora": lora,
        }
        inputs = {"select": select}
        if stage == "train_ppm":
            assert workspace.run("train_policy", inputs)[0] == 0
            inputs["policy"] = workspace.ref()
        if name == "killed":
            process = workspace.start(stage, inputs)
            place = f"rounds/r1/{stage.replace('_', '-')}/"
            while not any(key.endswith("resume/latest.json") for key in workspace.store.list(place)):
                assert process.is_alive()
            process.kill()
            process.join()
            assert not workspace.result.exists()
        code, result = workspace.run(stage, inputs)
        assert (code, result["metrics"]["steps"]) == (0, 60)
        digests.append(checkpoint_digest(checkpoint(workspace)))
        slopes.append(result["metrics"].get("head_mean_slope"))
    assert digests[0] == digests[1]
    assert slopes[0] == slopes[1], "the slope is that of the start, also after a restart"
    assert (slopes[0] is None) == (stage == "train_policy")


def test_sigterm_saves_a_checkpoint_and_exits_with_143(tmp_path: Path, base: Path) -> None:
    workspace, select = new_workspace(tmp_path, base, epochs=200, saveSteps=100_000)
    process = workspace.start("train_policy", {"select": select})
    while not workspace.progress.exists():
        assert process.is_alive()
    process.terminate()
    process.join(60)
    assert process.exitcode == 143
    assert workspace.outcome()["exit_code"] == 143
    assert any(key.endswith("resume/latest.json") for key in workspace.store.list("rounds/r1/train-policy/"))


@pytest.mark.parametrize(
    ("stage", "training", "complaint"),
    [
        ("train_policy", {"maxLength": 8}, "all 20 trajectories are longer than 8 tokens"),
        ("train_policy", {"microBatchSize": 3}, "batchSize 8 is not divisible by microBatchSize 3"),
        ("train_policy", {"learningRat": 1}, "unknown key; did you mean learningRate"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, base: Path, stage: str, training: dict[str, Any], complaint: str
) -> None:
    workspace, select = new_workspace(tmp_path, base)
    workspace.document["spec"]["trainPolicy"] |= training
    code, result = workspace.run(stage, {"select": select})
    assert (code, result["exit_code"]) == (2, 2)
    assert complaint in result["error"]


def test_without_data_or_with_a_changed_input_training_is_refused(tmp_path: Path, base: Path) -> None:
    workspace = StageWorkspace(tmp_path, baseModel=str(base))
    empty = workspace.selected([], [])
    assert "no training problem was solved" in workspace.run("train_policy", {"select": empty})[1]["error"]
    held_out = workspace.selected([], [], sft_problems_held_out=2)
    refusal = workspace.run("train_policy", {"select": held_out})[1]["error"]
    assert "all solved problems (2) are held out to measure the PPM" in refusal
    empty = workspace.selected([], [])
    assert "input select is missing" in workspace.run("train_policy", {})[1]["error"]
    wrong = ManifestRef(empty.key, "0" * 64)
    code, result = workspace.run("train_policy", {"select": wrong})
    assert code == 2
    assert "changed by hand" in result["error"]
    workspace.document["spec"]["baseModel"] = str(tmp_path / "none")
    assert "no such file or folder" in workspace.run("train_policy", {"select": empty})[1]["error"]
    workspace.document["spec"]["baseModel"] = str(base)
    older = StageRun(workspace.store, "r1", Stage.SELECT, 3, stage_settings(workspace.round.spec, Stage.SELECT))
    (workspace.folder / "sft.parquet").write_bytes(b"")
    old = older.finish([older.upload(workspace.folder / "sft.parquet", "sft.parquet")], {})[0]
    error = workspace.run("train_policy", {"select": old})[1]["error"]
    assert "has no table sft/: an earlier version made it" in error
    assert "--redo r1/select" in error
