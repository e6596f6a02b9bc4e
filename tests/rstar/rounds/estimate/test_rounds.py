"""The estimates of whole rounds: the examples, an earlier round as the source, and a run that was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.rounds.estimate.assumptions import BOOTSTRAP_TOKENS, MACHINES, Assumptions, assumed_for, scaled, with_machine
from rstar.rounds.estimate.measured import measured_round, measured_values
from rstar.rounds.estimate.model_size import KNOWN, ModelSize
from rstar.rounds.estimate.planned import PlannedRound
from rstar.rounds.estimate.round_estimate import RoundEstimate, estimate_round
from rstar.rounds.load import parse_rounds
from rstar.rounds.observed import Stage
from rstar.rounds.spec import EvaluationMethod, EvolutionRoundSpec
from rstar.store.folder_store import FolderStore
from tests.support.paths import ROOT
from tests.support.rounds.earlier_round import finished_round

GAME24 = parse_rounds(ROOT / "examples/game24/rounds.yaml")
GSM8K = parse_rounds(ROOT / "examples/gsm8k/rounds.yaml")
TINY = ModelSize(683_520, 3, 128, 4, 32, 384, 341, "float32")
RATES = {"policy_rate": 100.0, "score_rate": 10.0, "sft_rate": 50.0, "ppm_rate": 25.0}
MEASURED_RUN = {  # examples/game24 on two cores, 2026-11: tokens and programs of the rollout, tokens of the evaluation
    "game24-r1": (730_782, 57_339, 223_260, 522),
    "game24-r2": (608_636, 40_517, 223_480, 389),
    "game24-r3": (559_934, 34_497, 222_560, 368),
    "game24-r4": (534_913, 30_303, 221_940, 333),
}


def planned(spec: EvolutionRoundSpec, problems: int = 1_000, evaluated: int = 100, **values: Any) -> PlannedRound:
    assumptions = Assumptions(start_seconds=0, distinct=1, valid=1).with_values("test", values)
    return PlannedRound("r", spec, KNOWN["Qwen2.5-1.5B"], assumptions, problems, evaluated)


def seconds(estimate: RoundEstimate) -> dict[str, float | None]:
    return {stage.stage.value: stage.seconds for stage in estimate.stages}


def test_the_rollout_of_a_round_is_its_searches_of_all_problems_and_further_ones_of_the_unsolved() -> None:
    [first, _, third, _] = (item.spec for item in GSM8K)
    one = planned(first, steps=5, step_tokens=40)
    assert one.rollout().tokens == 1_000 * (5 + 4 * 4 + 3 * 3) * 5 * 40  # R1: 8 rollouts, 5 candidates
    again = planned(third, steps=5, step_tokens=40, coverage=0.75)
    assert again.rollout().tokens == pytest.approx(1_000 * 57 * 8 * 40 * (1 + 0.25**0.5))  # R3: +16 for the unsolved


def test_samples_that_two_methods_of_the_evaluation_choose_from_are_counted_once() -> None:
    [greedy, majority, best, _] = GSM8K[0].spec.evaluate.methods
    evaluate = GSM8K[0].spec.evaluate

    def tokens(*methods: EvaluationMethod) -> float:
        spec = GSM8K[0].spec.model_copy(update={"evaluate": evaluate.model_copy(update={"methods": methods})})
        return planned(spec).evaluation().tokens

    assert tokens(greedy, majority, best) == tokens(greedy, majority) == tokens(greedy) + tokens(best)


def test_training_tokens_follow_from_the_solved_problems() -> None:
    one = planned(GSM8K[1].spec, coverage=0.5, prompt_tokens=100, steps=5, step_tokens=40)
    assert one.train_tokens(Stage.TRAIN_POLICY) == pytest.approx(2 * (1_000 * 0.5 * 0.9 * 2) * 300)
    assert one.pairs() == pytest.approx(1_000 * 0.5 * 0.9 * (4 * 4 + 4))
    assert one.train_tokens(Stage.TRAIN_PPM) == pytest.approx(2 * one.pairs() * (100 + 3 * 40))
    assert planned(GAME24[0].spec).train_tokens(Stage.TRAIN_POLICY) == 200_000  # maxTrainTokens


def test_times_and_gpu_hours_follow_from_the_rates() -> None:
    one = planned(GSM8K[2].spec, **{**RATES, "score_rate": 0.5})
    estimate = estimate_round(one)
    by_stage = {stage.stage: stage for stage in estimate.stages}
    rollout = by_stage[Stage.ROLLOUT]
    assert rollout.bound_by == "PPM"
    assert rollout.seconds == pytest.approx(one.rollout().scored / (0.5 * 4))
    assert rollout.gpu_hours == pytest.approx((12 + 4) * rollout.seconds / 3_600)
    sft = by_stage[Stage.TRAIN_POLICY]
    assert sft.seconds == pytest.approx(sft.train_tokens / (50 * 16))
    assert sft.gpu_hours == pytest.approx(16 * sft.seconds / 3_600)
    assert estimate.seconds == pytest.approx(sum(stage.seconds or 0 for stage in estimate.stages))


def test_without_rates_all_but_time_and_executors_is_known() -> None:
    estimate = estimate_round(planned(GSM8K[2].spec))
    assert (estimate.seconds, estimate.gpu_hours, estimate.executors) == (None, None, None)
    assert all(stage.work.tokens or stage.train_tokens or stage.stage is Stage.SELECT for stage in estimate.stages)
    assert {process.name: process.count for process in estimate.processes} == {
        "policy server": 12,
        "PPM server": 4,
        "train-policy process": 16,
        "train-ppm process": 16,
    }


def test_rates_of_another_model_are_scaled_by_the_parameters() -> None:
    assert scaled({"policy_rate": 100, "sft_rate": None, "steps": 3}, 2_000, 1_000) == {
        "policy_rate": 200,
        "sft_rate": None,
        "steps": 3,
    }
    assert scaled({"policy_rate": 100}, None, 1_000) == {"policy_rate": 100}
    assert with_machine(Assumptions(), "cpu-2-vllm", 494_032_768 * 2).policy_rate == 106
    assert planned(GSM8K[0].spec, **RATES).policy_rate == 100 * 12


def test_executors_keep_the_policy_busy() -> None:
    found = estimate_round(planned(GSM8K[0].spec, steps=5, step_tokens=40, program_seconds=0.11, **RATES)).executors
    assert found is not None
    assert found.programs_per_second == pytest.approx(100 * 12 * (4 / 5) / 40)
    assert (found.slots, found.replicas) == (4, 2)  # 24 programs/s of 0.11 s in slots that are busy 80 % of the time


def test_storage_is_the_trees_and_the_checkpoints_in_their_stored_format() -> None:
    one = planned(GSM8K[0].spec, step_tokens=100)
    parameters = one.model.parameters
    assert estimate_round(one).storage == {
        "trees": one.rollout().nodes * 150,
        "evaluation trees": one.evaluation().nodes * 150,
        "checkpoints": 4 * parameters,  # both in bfloat16, as they are trained
        "resume checkpoints, while training": 24 * parameters,
    }


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from([*GAME24, *GSM8K]))
def test_more_problems_never_need_less(problems: int, more: int, item: Any) -> None:
    few, many = (estimate_round(planned(item.spec, problems=n, **RATES)) for n in (problems, problems + more))
    assert (few.seconds or 0) <= (many.seconds or 0)
    for before, after in zip(few.stages, many.stages, strict=True):
        assert (before.work.tokens, before.train_tokens) <= (after.work.tokens, after.train_tokens)
    assert all(few.storage[kind] <= many.storage[kind] for kind in few.storage)


@pytest.mark.parametrize("item", GAME24, ids=lambda item: item.name)
def test_the_estimate_of_the_demo_is_within_the_factor_that_the_page_states(item: Any) -> None:
    assumptions = with_machine(assumed_for("countdown"), "cpu-2-game24", TINY.parameters)
    one = PlannedRound(item.name, item.spec, TINY, assumptions, 500, 200)
    found = (one.rollout().tokens, one.rollout().executions, one.evaluation().tokens, estimate_round(one).seconds)
    for estimated, measured in zip(found, MEASURED_RUN[item.name], strict=True):
        assert estimated is not None
        assert 0.5 < estimated / measured < 2


def test_the_page_has_the_table_of_machines_and_the_comparison_with_the_demo() -> None:
    page = (ROOT / "docs/planning.md").read_text()
    for name, machine in MACHINES.items():
        rates = (machine.rates[key] for key in ("policy_rate", "sft_rate", "ppm_rate"))
        assert f"| `{name}` | {' | '.join(f'{rate:,}' for rate in rates)} | {machine.parameters:,} |" in page
    assumptions = with_machine(assumed_for("countdown"), "cpu-2-game24", TINY.parameters)
    rounds = [PlannedRound(item.name, item.spec, TINY, assumptions, 500, 200) for item in GAME24]
    for figures in (
        [one.rollout().tokens for one in rounds],
        [one.rollout().executions for one in rounds],
        [estimate_round(one).seconds for one in rounds],
        *zip(*MEASURED_RUN.values(), strict=True),
    ):
        assert f"| {' | '.join(f'{figure:,.0f}' for figure in figures)} |" in page


def test_an_earlier_round_gives_texts_coverage_and_rates_per_process(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    finished_round(store, "old", "2026-01-01", tmp_path)
    finished_round(store, "new", "2026-02-01", tmp_path)
    name, stages = measured_round(store)
    assert name == "new"
    assert measured_round(store, "old")[0] == "old"
    values = measured_values(store, stages, GSM8K[0].spec)
    size = (tmp_path / "shard.parquet").stat().st_size
    assert values == {
        "coverage": 0.5,
        "steps": 2,
        "step_tokens": 15,
        "distinct": 60 / 80,
        "valid": 3 / 4,
        "node_bytes": size / 16,
        "policy_rate": 60 / 12,
        "pairs_per_solved": 3,
        "sft_rate": 32 / 16,
        "prompt_tokens": 50 - 30,
    }


def test_a_store_without_a_finished_rollout_cannot_be_measured(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(ValueError, match="has no finished rollout to measure"):
        measured_round(store)
    with pytest.raises(ValueError, match="round r9 in the store"):
        measured_round(store, "r9")


def test_later_sources_replace_earlier_ones_and_are_named() -> None:
    found = with_machine(assumed_for("gsm8k"), "cpu-2-vllm", 494_032_768).with_values(
        "option", {"steps": 9, "step_tokens": None}
    )
    described = {name: (value, source) for name, value, source in found.described()}
    assert described["steps"] == (9, "option")
    assert described["step_tokens"][0] == 27
    assert described["policy_rate"] == (212, MACHINES["cpu-2-vllm"].about)
    assert described["distinct"] == (0.9, "assumed")
    with pytest.raises(ValueError, match="no machine 'h100'"):
        with_machine(found, "h100", 1)
    json.dumps(found.described())


def rollout_of(item: EvolutionRoundSpec, **changes: Any) -> EvolutionRoundSpec:
    content = item.model_dump(by_alias=True, exclude_unset=True)
    return EvolutionRoundSpec.model_validate({**content, **changes})


def test_another_searching_model_has_a_server_and_a_rate_of_its_own() -> None:
    spec = rollout_of(GSM8K[1].spec, rollout={"policy": {"model": "hf:org/large"}})
    one = replace(planned(spec, **RATES), searching=KNOWN["Qwen2.5-7B"])
    estimate = estimate_round(one)
    memory = {process.name: process.memory for process in estimate.processes}
    large, small = memory["policy server (rollout)"], memory["policy server (evaluate)"]
    ratio = KNOWN["Qwen2.5-7B"].parameters / KNOWN["Qwen2.5-1.5B"].parameters
    assert large.weights == pytest.approx(ratio * small.weights)
    assert one.policy_rate is not None
    assert one.rollout_rate == pytest.approx(one.policy_rate / ratio)
    assert one.rollout_texts.prompt_tokens == one.assumptions.prompt_tokens + BOOTSTRAP_TOKENS


def test_an_endpoint_takes_no_gpu_and_no_memory_of_the_round() -> None:
    spec = rollout_of(GSM8K[1].spec, rollout={"policy": {"endpoint": "http://h/v1", "name": "m"}})
    estimate = estimate_round(planned(spec, **RATES))
    assert "policy server (rollout)" not in {process.name for process in estimate.processes}
    assert estimate.stages[0].stage is Stage.ROLLOUT
    assert estimate.stages[0].gpu_hours == 0


def test_a_given_reward_model_is_served_and_not_trained() -> None:
    spec = rollout_of(GSM8K[0].spec, preferenceModel={"model": {"uri": "hf:org/prm", "convention": "qwen-prm"}})
    one = replace(planned(spec, **RATES), scoring=KNOWN["Qwen2.5-7B"])
    estimate = estimate_round(one)
    memory = {process.name: process.memory.weights for process in estimate.processes}
    assert memory["PPM server"] > memory["policy server"]
    assert "train-ppm process" not in memory
    assert estimate.stages[0].work.scored > 0
    assert one.train_tokens(Stage.TRAIN_PPM) == 0
