"""The API server accepts and refuses the same rounds as ``rstar run``, with the same messages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from rstar_testbed.cluster import Testbed

from rstar.rounds.load import SpecError, load_rounds, parse_rounds
from rstar.rounds.spec import MUTABLE, EvolutionRoundSpec
from rstar.rounds.status import AttemptStatus, Condition, OutputStatus, RoundStatus, StageStatus
from tests.support.cluster.rounds import install_crds
from tests.support.paths import ROOT

EXAMPLES = sorted((ROOT / "examples" / "game24").glob("*.yaml"))
NAME = "evolutionrounds.rstar.dev"

Data = dict[str, Any]
MINIMAL: Data = {"round": 1, "baseModel": "store:models/base", "problems": {"uri": "store:data/train.jsonl"}}
HELD_OUT: Data = {"uri": "store:data/held-out.jsonl"}
METHODS = [{"name": "greedy", "method": "greedy"}, {"name": "mcts"}]


@pytest.fixture(scope="module")
def bed(testbed: Testbed) -> Testbed:
    """The testbed with the CRDs in it."""
    install_crds(testbed)
    return testbed


@pytest.fixture(scope="module")
def namespace(bed: Testbed) -> Iterator[str]:
    name = f"crd-{uuid.uuid4().hex[:8]}"
    bed.kubectl("create", "namespace", name)
    yield name
    bed.kubectl("delete", "namespace", name, "--wait=false")


def resource(spec: Data, name: str = "r1") -> Data:
    return {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound", "metadata": {"name": name}, "spec": spec}


Create = Callable[..., str]


@pytest.fixture(scope="module")
def attempt(bed: Testbed, namespace: str) -> Create:
    """Return a function that creates an object as a dry run, and returns the API server's answer."""

    def create(spec: Data, name: str = "new") -> str:
        text = json.dumps(resource(spec, name))
        return bed.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", input=text, check=False)

    return create


def test_the_server_accepts_the_crd_without_complaint(bed: Testbed) -> None:
    found = json.loads(bed.kubectl("get", "crd", NAME, "-o", "json"))["status"]["conditions"]
    conditions = {condition["type"]: condition["status"] for condition in found}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


GOOD: dict[str, tuple[str, Data]] = {
    "the smallest round": ("new", MINIMAL),
    "a later round": ("new", MINIMAL | {"round": 2, "previousRound": "r1", "preferenceModel": {"use": "always"}}),
    "the longest name": ("n" * 34, MINIMAL),
    "the largest seed": ("new", MINIMAL | {"seed": 2**63 - 1}),
    "models and problems from a hub": ("new", MINIMAL | {"baseModel": "hf:a/b", "problems": {"uri": "hf:a/b"}}),
    "methods that choose by the PPM": (
        "new",
        MINIMAL | {"evaluate": {"problems": HELD_OUT, "methods": [{"name": "b", "method": "beam", "guidance": "ppm"}]}},
    ),
    "several data sets": (
        "new",
        MINIMAL | {"problems": {"sets": [{"uri": "store:a", "limit": 3}, {"uri": "hf:b/c"}], "onBadRow": "skip"}},
    ),
    "an endpoint for the rollout": (
        "new",
        MINIMAL
        | {
            "rollout": {
                "prompt": "chat",
                "promptFile": "store:few.txt",
                "policy": {
                    "endpoint": "https://llm.example.com/v1",
                    "name": "org/large",
                    "tokenizer": "hf:org/large",
                    "apiKeyEnv": "LLM_KEY",
                    "apiKeySecret": {"name": "llm", "key": "api-key"},
                },
            }
        },
    ),
    "a given reward model": (
        "new",
        MINIMAL
        | {
            "preferenceModel": {"model": {"uri": "hf:org/prm", "convention": "qwen-prm"}},
            "evaluate": {"problems": HELD_OUT, "methods": [{"name": "b", "method": "beam", "guidance": "ppm"}]},
        },
    ),
    "suspended and cancelled": ("new", MINIMAL | {"suspend": True, "cancel": True}),
    "autoscaling": ("new", MINIMAL | {"services": {"ppm": {"autoscaling": {"minReplicas": 2, "maxReplicas": 2}}}}),
    "nulls for what is left out": ("new", MINIMAL | {"previousRound": None, "rollout": {"search": None}}),
    "the longest lists": (
        "n" * 34,
        MINIMAL
        | {
            "round": 1000,
            "previousRound": "p" * 34,
            "baseModel": "store:" + "m" * 1018,
            "evaluate": {
                "problems": {
                    "sets": [
                        {"uri": f"hf:{number:01021}", "name": f"{number:0200}", "split": "s" * 100}
                        for number in range(32)
                    ]
                },
                "methods": [{"name": f"{number:040}", "method": "beam", "guidance": "ppm"} for number in range(32)],
            },
            "cluster": {
                "nodeSelector": {f"{'d' * 253}/{number:063}": "v" * 63 for number in range(32)},
                "tolerations": [{"key": f"{'d' * 253}/{number:063}", "value": "v" * 63} for number in range(32)],
            },
        },
    ),
    "all of the cluster": (
        "new",
        MINIMAL
        | {
            "cluster": {
                "queue": "team-a",
                "nodeSelector": {"example.com/pool": "gpu", "zone": ""},
                "tolerations": [
                    {"operator": "Exists"},
                    {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 60},
                ],
                "resources": {
                    "trainPolicy": {"cpu": 16, "memory": "64Gi", "gpus": 8},
                    "search": {"cpu": "250m", "cpuLimit": 1},
                    "select": {"cpuLimit": "none"},
                },
            }
        },
    ),
    "model servers that scale by queued tokens": (
        "new",
        MINIMAL
        | {
            "services": {
                "policy": {"autoscaling": {"maxReplicas": 8, "queuedTokensPerReplica": 20_000}},
                "ppm": {"autoscaling": {"minReplicas": 2, "maxReplicas": 2, "queuedTokensPerReplica": 1}},
            }
        },
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_round_is_accepted(attempt: Create, case: str) -> None:
    name, spec = GOOD[case]
    assert attempt(spec, name) == f"evolutionround.rstar.dev/{name} created (server dry run)\n"


def methods(*entries: Data) -> Data:
    return {"evaluate": {"problems": HELD_OUT, "methods": list(entries)}}


BAD: dict[str, tuple[str, Data, str]] = {
    "a name too long": ("n" * 35, {}, "metadata.name must have at most 34 characters, for pods append a suffix"),
    "a name with a dot": ("a.b", {}, "metadata.name must begin with a small letter and have small letters, digits"),
    "a name with a digit first": ("1a", {}, "metadata.name must begin with a small letter and have small letters"),
    "itself as the round before": (
        "new",
        {"round": 2, "previousRound": "new"},
        "spec.previousRound must not be the round's own name: name the round before it",
    ),
    "round 1 after another": (
        "new",
        {"previousRound": "r0"},
        "round 1 starts from the base model: remove previousRound or raise round",
    ),
    "round 2 after none": (
        "new",
        {"round": 2},
        "every round after the first needs previousRound: the name of the round before it",
    ),
    "round 0": ("new", {"round": 0}, "spec.round in body should be greater than or equal to 1"),
    "a method with a PPM in a round that trains none": (
        "new",
        {"preferenceModel": {"use": "never"}} | methods({"name": "a", "guidance": "ppm"}),
        "a method is guided by a PPM, but preferenceModel.use is never, so the round trains none",
    ),
    "a PPM in round 1": (
        "new",
        {"preferenceModel": {"use": "always"}},
        "always needs the PPM of a previous round, and round 1 has none: use auto or never",
    ),
    "methods without problems": (
        "new",
        {"evaluate": {"methods": [{"name": "mcts"}]}},
        "the methods need held-out problems: add evaluate.problems or remove the methods",
    ),
    "beam search without a PPM": (
        "new",
        methods({"name": "b", "method": "beam"}),
        "guidance must be ppm, for beam chooses by the PPM",
    ),
    "best of n without a PPM": (
        "new",
        methods({"name": "b", "method": "best_of_n"}),
        "guidance must be ppm, for best_of_n chooses by the PPM",
    ),
    "two methods of one name": (
        "new",
        methods({"name": "a"}, {"name": "a"}),
        "spec.evaluate.methods[1]: Duplicate value",
    ),
    "replicas and autoscaling": (
        "new",
        {"services": {"policy": {"replicas": 2, "autoscaling": {"maxReplicas": 3}}}},
        "replicas and autoscaling exclude each other: remove one of them",
    ),
    "autoscaling downwards": (
        "new",
        {"services": {"policy": {"autoscaling": {"minReplicas": 4, "maxReplicas": 3}}}},
        "minReplicas must be at most maxReplicas: lower it or raise maxReplicas",
    ),
    "a toleration of nothing": (
        "new",
        {"cluster": {"tolerations": [{"value": "a"}]}},
        "a toleration without key needs operator: Exists",
    ),
    "a toleration of any value and one": (
        "new",
        {"cluster": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}},
        "a toleration with operator Exists has no value: remove value",
    ),
    "a toleration that ends without effect": (
        "new",
        {"cluster": {"tolerations": [{"key": "a", "tolerationSeconds": 1}]}},
        "tolerationSeconds needs effect: NoExecute",
    ),
    "a label's key with a blank": ("new", {"cluster": {"nodeSelector": {"a b": "c"}}}, "every key must have the form"),
    "a label's value with a blank": ("new", {"cluster": {"nodeSelector": {"a": "b c"}}}, "spec.cluster.nodeSelector.a"),
    "bytes in thousandths": ("new", {"cluster": {"cacheSize": "512m"}}, "spec.cluster.cacheSize"),
    "no cores": ("new", {"cluster": {"resources": {"ppm": {"cpu": 0}}}}, "spec.cluster.resources.ppm.cpu"),
    "a limit of the CPU below the request": (
        "new",
        {"cluster": {"resources": {"ppm": {"cpu": 2, "cpuLimit": "1500m"}}}},
        "cpuLimit must be at least cpu, or none",
    ),
    "a model server with more replicas at least than at most": (
        "new",
        {"services": {"ppm": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2, "queuedTokensPerReplica": 9}}}},
        "minReplicas must be at most maxReplicas: lower it or raise maxReplicas",
    ),
    "an endpoint that scales by queued tokens": (
        "new",
        {
            "rollout": {"policy": {"endpoint": "http://h/v1", "name": "m"}},
            "services": {"policy": {"autoscaling": {"maxReplicas": 2, "queuedTokensPerReplica": 9}}},
        },
        "rollout.policy.endpoint runs already: remove one of them",
    ),
    "a seed too large": ("new", {"seed": 2**63}, "spec.seed"),
    "a share of nothing": ("new", {"rollout": {"search": {"topP": 0}}}, "spec.rollout.search.topP"),
    "a format that nobody reads": (
        "new",
        {"problems": {"uri": "store:a", "format": "csv"}},
        'supported values: "jsonl"',
    ),
    "one data set and a list": (
        "new",
        {"problems": {"uri": "store:a", "sets": [{"uri": "store:b"}]}},
        "give either uri or sets: one data set, or a list of several",
    ),
    "no data set": ("new", {"problems": {"limit": 3}}, "give either uri or sets: one data set, or a list of several"),
    "a checkpoint and an endpoint for the rollout": (
        "new",
        {"rollout": {"policy": {"model": "hf:a/b", "endpoint": "http://h/v1", "name": "m"}}},
        "give either model or endpoint: a checkpoint to serve, or a server that runs already",
    ),
    "an endpoint without a name": (
        "new",
        {"rollout": {"policy": {"endpoint": "http://h/v1"}}},
        "an endpoint needs name: the name of the model that it serves",
    ),
    "a key for a checkpoint": (
        "new",
        {"rollout": {"policy": {"model": "hf:a/b", "apiKeyEnv": "KEY"}}},
        "name, tokenizer, apiKeyEnv and apiKeySecret belong to an endpoint: remove them, or give endpoint",
    ),
    "the chat prompt of an endpoint without a template": (
        "new",
        {"rollout": {"prompt": "chat", "policy": {"endpoint": "http://h/v1", "name": "m"}}},
        "prompt chat of an endpoint needs policy.tokenizer, which has the chat template; or use prompt bootstrap",
    ),
    "a few-shot prompt for a trained policy": (
        "new",
        {"rollout": {"prompt": "trained", "promptFile": "store:few.txt"}},
        "rollout.promptFile is a few-shot prompt: set rollout.prompt to bootstrap or chat",
    ),
    "a given reward model that never guides": (
        "new",
        {"preferenceModel": {"use": "never", "model": {"uri": "hf:a/b"}}},
        "model and use exclude each other, for a given model always guides: remove use",
    ),
    "a reward model of a convention that vLLM cannot serve": (
        "new",
        {
            "preferenceModel": {"model": {"uri": "hf:a/b", "convention": "qwen-prm"}},
            "services": {"ppm": {"engine": "vllm"}},
        },
        "another convention than rstar needs services.ppm.engine: transformers",
    ),
    "a key in the URL of an endpoint": (
        "new",
        {"rollout": {"policy": {"endpoint": "http://user:key@h/v1", "name": "m"}}},
        "spec.rollout.policy.endpoint",
    ),
    "no base model": ("new", {"baseModel": None}, "spec.baseModel: Required value"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_round_is_refused_with_the_reason(attempt: Create, case: str) -> None:
    name, changes, reason = BAD[case]
    answer = attempt(MINIMAL | changes, name)
    assert "is invalid" in answer
    assert reason in answer


@pytest.mark.parametrize("case", BAD)
def test_rstar_run_refuses_what_the_server_refuses(tmp_path: Path, case: str) -> None:
    name, changes, _ = BAD[case]
    file = tmp_path / "rounds.yaml"
    file.write_text(yaml.safe_dump(resource(MINIMAL | changes, name)))
    with pytest.raises(SpecError):
        load_rounds(file, number_of=lambda _: 1)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"baseModel": "out/models/base"}, "spec.baseModel"),
        ({"rollout": {"policy": {"model": "models/large"}}}, "spec.rollout.policy.model"),
        ({"preferenceModel": {"model": {"uri": "models/prm"}}}, "spec.preferenceModel.model.uri"),
        ({"problems": {"uri": "data/train.jsonl"}}, "spec.problems.uri"),
        ({"problems": {"sets": [{"uri": "store:a"}, {"uri": "data/train.jsonl"}]}}, "spec.problems.sets[1].uri"),
        ({"evaluate": {"problems": {"uri": "./held-out.jsonl"}}}, "spec.evaluate.problems.uri"),
    ],
)
def test_a_local_path_is_refused_because_pods_cannot_read_it(attempt: Create, changes: Data, path: str) -> None:
    answer = attempt(MINIMAL | changes)
    assert f"{path}: Invalid value" in answer
    assert "which pods cannot read: use store:PATH or hf:ORG/NAME; `rstar submit` uploads local files" in answer


def test_a_local_prompt_file_is_refused_because_pods_read_the_store(attempt: Create) -> None:
    answer = attempt(MINIMAL | {"rollout": {"promptFile": "few.txt"}})
    assert "spec.rollout.promptFile: Invalid value: promptFile must be store:PATH" in answer


@pytest.mark.parametrize(
    ("changes", "typo"),
    [
        ({"rolout": {}}, "spec.rolout"),
        ({"rollout": {"search": {"rollout": 8}}}, "spec.rollout.search.rollout"),
        (methods({"name": "a", "canditates": 3}), "spec.evaluate.methods[0].canditates"),
        ({"cluster": {"resources": {"train": {}}}}, "spec.cluster.resources.train"),
    ],
)
def test_a_typo_is_refused(attempt: Create, changes: Data, typo: str) -> None:
    assert f'strict decoding error: unknown field "{typo}"' in attempt(MINIMAL | changes)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_examples_are_accepted_unchanged(bed: Testbed, namespace: str, file: Path) -> None:
    answer = bed.kubectl("apply", "--dry-run=server", "-n", namespace, "-f", str(file))
    assert answer.count("created (server dry run)") == len(list(yaml.safe_load_all(file.read_text())))
    rounds = [item.model_dump(mode="json", by_alias=True, exclude_unset=True) for item in parse_rounds(file)]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": rounds})
    answer = bed.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", input=text)
    assert answer.count("created (server dry run)") == len(rounds)


@pytest.fixture(scope="module")
def stored(bed: Testbed, namespace: str) -> dict[str, Data]:
    """Create rounds on the server; their specs as they were sent."""
    rounds = {
        "first": MINIMAL | {"evaluate": {"problems": HELD_OUT, "methods": METHODS}},
        "second": MINIMAL | {"round": 2, "previousRound": "first", "rollout": {"search": {"rollouts": 4}}},
        "minimal": MINIMAL,
        "largest": GOOD["the longest lists"][1],
        "cancelled": MINIMAL | {"cancel": True},
    }
    items = [resource(spec, name) for name, spec in rounds.items()]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    bed.kubectl("create", "-n", namespace, "-f", "-", input=text)
    return rounds


@pytest.mark.parametrize("name", ["first", "second", "minimal", "largest"])
def test_the_server_fills_in_the_defaults_of_the_models(
    bed: Testbed, namespace: str, stored: dict[str, Data], name: str
) -> None:
    found = json.loads(bed.kubectl("get", "er", name, "-n", namespace, "-o", "json"))["spec"]
    assert EvolutionRoundSpec.model_validate(found) == EvolutionRoundSpec.model_validate(stored[name])
    assert found["trainPolicy"]["learningRate"] == 7e-6
    assert found["cluster"]["resources"]["evaluate"]["memory"] == "2Gi"
    assert ("search" in found["rollout"]) == (name == "second")


Patch = Callable[[str, Data], str]


@pytest.fixture
def patch(bed: Testbed, namespace: str, stored: dict[str, Data]) -> Patch:
    """Return a function that patches an object as a dry run, and returns the API server's answer."""

    def change(name: str, spec: Data) -> str:
        text = json.dumps({"spec": spec})
        options = ("-n", namespace, "--dry-run=server", "--type=merge")
        return bed.kubectl("patch", "er", name, *options, "-p", text, check=False)

    return change


FIXED: list[tuple[str, str, Data]] = [
    ("round", "second", {"round": 3}),
    ("previousRound", "second", {"previousRound": "other"}),
    ("previousRound", "second", {"previousRound": None}),
    ("previousRound", "minimal", {"previousRound": "other"}),
    ("seed", "first", {"seed": 1}),
    ("baseModel", "first", {"baseModel": "store:models/other"}),
    ("problems", "first", {"problems": {"uri": "store:data/other.jsonl"}}),
    ("problems", "first", {"problems": {"limit": 5}}),
    ("verifier", "first", {"verifier": "exact"}),
    ("rollout", "first", {"rollout": {"shardSize": 8}}),
    ("rollout", "first", {"rollout": {"search": {"rollouts": 8}}}),
    ("rollout", "second", {"rollout": {"search": None}}),
    ("rollout", "second", {"rollout": {"search": {"rollouts": None}}}),
    ("rollout", "second", {"rollout": None}),
    ("preferenceModel", "first", {"preferenceModel": {"use": "never"}}),
    ("select", "first", {"select": {"positives": 3}}),
    ("trainPolicy", "first", {"trainPolicy": {"epochs": 3}}),
    ("trainPolicy", "first", {"trainPolicy": {"maxTrainTokens": 1000}}),
    ("trainPolicy", "first", {"trainPolicy": {"markers": "text"}}),
    ("trainPpm", "first", {"trainPpm": {"scoreScale": 2.5}}),
    ("evaluate", "first", {"evaluate": {"problems": {"limit": 3}}}),
    ("evaluate", "first", {"evaluate": {"methods": METHODS[:1]}}),
    ("evaluate", "first", {"evaluate": {"methods": METHODS[::-1]}}),
    ("evaluate", "first", {"evaluate": None}),
    ("evaluate", "minimal", {"evaluate": {"problems": HELD_OUT}}),
    ("evaluate", "largest", {"evaluate": {"concurrency": 1}}),
]


@pytest.mark.parametrize(("field", "name", "change"), FIXED, ids=lambda value: json.dumps(value)[:60])
def test_fields_that_determine_results_cannot_change(patch: Patch, field: str, name: str, change: Data) -> None:
    answer = patch(name, change)
    assert f"spec.{field}: Forbidden: spec.{field} cannot change after creation: create a new round" in answer


CHANGES: list[Data] = [
    {"suspend": True},
    {"cancel": True},
    {"suspend": True, "cancel": True},
    {"lifecycle": {"maxAttempts": 5, "pendingSeconds": 60, "ttlSeconds": 0}},
    {"services": {"policy": {"replicas": 3}, "ppm": {"autoscaling": {"maxReplicas": 4}}}},
    {"cluster": {"queue": "team-a", "resources": {"policy": {"gpus": 1}}, "deletionPolicy": "DeleteArtifacts"}},
    {"trackers": ["tensorboard", "mlflow"]},
]


def test_every_field_of_the_spec_is_tried() -> None:
    fields = {field.alias for field in EvolutionRoundSpec.model_fields.values()}
    assert {field for field, _, _ in FIXED} == fields - MUTABLE
    assert {field for change in CHANGES for field in change} == MUTABLE


@pytest.mark.parametrize("change", CHANGES, ids=",".join)
def test_fields_that_control_the_execution_may_change(patch: Patch, change: Data) -> None:
    assert patch("first", change) == "evolutionround.rstar.dev/first patched\n"


@pytest.mark.parametrize("undone", [False, None])
def test_a_cancelled_round_stays_cancelled(patch: Patch, undone: bool | None) -> None:
    assert "spec.cancel cannot be undone: create a new round" in patch("cancelled", {"cancel": undone})
    assert "patched" in patch("cancelled", {"suspend": True})


NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MANIFEST = OutputStatus(manifest="rounds/first/rollout/abc/manifest.json", digest="0" * 64)
FULL = RoundStatus(
    observed_generation=1,
    phase="Running",
    stage="rollout",
    message="stage rollout runs",
    conditions=(
        Condition(
            type="Ready",
            status="True",
            reason="StageRunning",
            message="stage rollout runs",
            last_transition_time=NOW,
            observed_generation=1,
        ),
        Condition(type="Failed", status="False", reason="StageRunning", last_transition_time=NOW),
    ),
    stages=(StageStatus(name="rollout", state="running", attempts=1, output=MANIFEST, metrics={"solved": 3, "a": {"b": [1.5]}}),),
    attempts=(
        AttemptStatus(stage="rollout", number=1, state="failed", started_at=NOW, finished_at=NOW, exit_code=137, reason="x", ending="lost"),
        AttemptStatus(stage="rollout", number=2, state="running", started_at=NOW),
    ),
    inputs={"policy": MANIFEST},
    progress={"done": 42, "total": 100, "tokens": {"generated": 12}},
    progress_text="42/100",
    solved_percent="63.4",
)  # fmt: skip


@pytest.fixture(scope="module")
def reported(bed: Testbed, namespace: str, stored: dict[str, Data]) -> Data:
    """The first round, after a status was written."""
    status = json.dumps({"status": FULL.model_dump(mode="json", by_alias=True)})
    bed.kubectl("patch", "er", "first", "-n", namespace, "--subresource=status", "--type=merge", "-p", status)
    found: Data = json.loads(bed.kubectl("get", "er", "first", "-n", namespace, "-o", "json"))
    return found


def test_the_whole_status_is_read_back_as_written(reported: Data) -> None:
    assert RoundStatus.model_validate(reported["status"]) == FULL
    assert reported["metadata"]["generation"] == 1


def test_two_conditions_of_one_type_are_refused(bed: Testbed, namespace: str, reported: Data) -> None:
    twice = json.dumps({"status": {"conditions": reported["status"]["conditions"][:1] * 2}})
    options = ("-n", namespace, "--dry-run=server", "--subresource=status", "--type=merge", "-p", twice)
    assert "Duplicate value" in bed.kubectl("patch", "er", "first", *options, check=False)


@pytest.mark.usefixtures("reported")
def test_the_columns_show_round_stage_progress_and_reason(bed: Testbed, namespace: str) -> None:
    header, row = bed.kubectl("get", "er", "first", "-n", namespace).splitlines()
    assert header.split() == ["NAME", "ROUND", "STAGE", "PROGRESS", "SOLVED", "%", "READY", "REASON", "AGE"]
    assert row.split()[:-1] == ["first", "1", "rollout", "42/100", "63.4", "True", "StageRunning"]
    header, row = bed.kubectl("get", "er", "first", "-n", namespace, "-o", "wide").splitlines()
    assert header.split()[-2:] == ["PHASE", "MESSAGE"]
    assert row.endswith("Running   stage rollout runs")


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("word", ["er", "evolutionround", "evolutionrounds", "rstar", "all"])
def test_kubectl_finds_rounds_by_every_name_of_the_kind(bed: Testbed, namespace: str, word: str) -> None:
    assert "evolutionround.rstar.dev/first" in bed.kubectl("get", word, "-n", namespace, "-o", "name").split()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("er", "One round of self-evolution: search over the training problems"),
        ("er", "kubectl get er -w"),
        ("er.spec", "Once created, only cancel, cluster, lifecycle, services, suspend, trackers may change."),
        ("er.spec.rollout", "The rollout stage: search over the training problems."),
        ("er.spec.rollout.search", "round 4 on: rollouts 16, candidates 16, trajectories 2, extraRollouts [64, 128]"),
        ("er.spec.rollout.search.exploration", "Exploration constant c of UCT (equation 1). At least 0. Default 2."),
        ("er.spec.trainPpm", "Training of the PPM (equation 4). The defaults are the paper's."),
        ("er.spec.evaluate.methods", "One column of the evaluation table."),
        ("er.spec.services.policy.autoscaling", "Replicas by CPU load or by queued tokens (cluster only)."),
        ("er.spec.cluster.resources.trainPolicy.memory", "Memory, such as 16Gi. Default 2Gi."),
        ("er.status.conditions", "PPMGuides"),
        ("er.status.progressText", "How far the running stage is"),
    ],
)
def test_explain_reads_like_documentation(bed: Testbed, path: str, words: str) -> None:
    text = " ".join(bed.kubectl("explain", path).split())
    assert " ".join(words.split()) in text
