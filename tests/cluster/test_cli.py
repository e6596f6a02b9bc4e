"""The command line on a real API server and a real object store: its effects, and its messages on errors."""

from __future__ import annotations

import json
import signal
import subprocess
import uuid
from pathlib import Path

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Waiting
from typer.testing import CliRunner

from rstar.cli.main import app
from rstar.cluster.api import Cluster, Kind, NotFoundError
from rstar.cluster.api_errors import explain_error
from rstar.rounds.observed import AttemptState, Stage
from rstar.store.open import open_store
from tests.cluster.conftest import StartKubelet
from tests.support.cluster.pods import NamespaceClient
from tests.support.cluster.rounds import install_crds
from tests.support.cluster.user_shell import IN_STORE, STORED, Data, UserShell, attempt, stage_pod
from tests.support.commands import RSTAR, Finished, assert_refused
from tests.support.rounds.simulated_round import done


@pytest.fixture(scope="module", autouse=True)
def crd(testbed: Testbed) -> None:
    install_crds(testbed)
    testbed.kubectl("get", "er", "-A")  # Within the first second the server answers "try again", and kubectl does.


def resource_of(name: str, spec: Data) -> Data:
    """Return an EvolutionRound."""
    kind = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound"}
    return {**kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def shell(client: NamespaceClient, tmp_path: Path, bytecode: Path) -> UserShell:
    return UserShell(client, tmp_path, bytecode)


@pytest.fixture
def bucket(testbed: Testbed) -> str:
    assert testbed.minio is not None
    name = f"cli-{uuid.uuid4().hex[:8]}"
    testbed.minio.client().make_bucket(name)
    return name


@pytest.fixture
def submitted(shell: UserShell) -> UserShell:
    """Two rounds that need no upload, in the cluster."""
    shell.submit()
    return shell


def storage_environment(testbed: Testbed, store: str) -> dict[str, str]:
    assert testbed.minio is not None
    return dict(testbed.minio.environment(store))


def test_local_files_are_uploaded_once_and_the_rounds_refer_to_the_store(
    shell: UserShell, testbed: Testbed, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"s3://{bucket}/{shell.namespace}"
    settings = storage_environment(testbed, store)
    shell.write({}, {"evaluate": {"problems": {"uri": "problems.jsonl"}}})
    first = shell.rstar("submit", "rounds.yaml", "--upload-to", store, **settings)
    assert first.code == 0, first.err
    assert first.out == "r1: created\nr2: created\n"
    assert first.err.count("uploading") == 2
    assert f"rstar status -n {shell.namespace} --watch" in first.err
    spec = shell.spec("r2")
    assert spec["evaluate"]["problems"]["uri"] == spec["problems"]["uri"] == shell.spec("r1")["problems"]["uri"]
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    stored = open_store(store)
    assert stored.read(spec["problems"]["uri"].removeprefix("store:")).startswith(b'{"question"')
    assert stored.exists(f"{spec['baseModel'].removeprefix('store:')}/config.json")
    again = shell.rstar("submit", "rounds.yaml", "--upload-to", store, **settings)
    assert again.out == "r1: unchanged\nr2: unchanged\n"
    assert "uploading" not in again.err


def test_files_go_to_the_store_of_the_namespaces_secret_by_the_endpoint_of_the_environment(
    shell: UserShell, testbed: Testbed, bucket: str
) -> None:
    store = f"s3://{bucket}/{shell.namespace}"
    settings = storage_environment(testbed, store)
    shell.write({})
    assert_refused(
        shell.rstar("submit", "rounds.yaml"), "base is on this machine", "rstar-storage", "--upload-to s3://"
    )
    # The Secret's endpoint cannot be resolved outside the cluster.
    secret = settings | {"RSTAR_S3_ENDPOINT": "http://rstar-minio.rstar.svc:9000"}
    pairs = [f"--from-literal={key}={value}" for key, value in secret.items()]
    testbed.kubectl("create", "secret", "generic", "rstar-storage", "-n", shell.namespace, *pairs)
    done = shell.rstar("submit", "rounds.yaml", RSTAR_S3_ENDPOINT=settings["RSTAR_S3_ENDPOINT"])
    assert done.code == 0, done.err
    assert shell.spec("r1")["baseModel"].startswith("store:inputs/")


def test_a_second_submission_changes_only_what_differs(submitted: UserShell) -> None:
    before = submitted.client.get("er", "r1")
    assert json.loads(submitted.rstar("submit", "rounds.yaml", "--json").out) == {
        "rounds": {"r1": "unchanged", "r2": "unchanged"}
    }
    assert submitted.client.get("er", "r1") == before
    submitted.write(IN_STORE | {"lifecycle": {"maxAttempts": 7}, "services": {"policy": {"replicas": 2}}}, IN_STORE)
    assert submitted.rstar("submit", "rounds.yaml").out == "r1: configured\nr2: unchanged\n"
    assert submitted.spec()["lifecycle"]["maxAttempts"] == 7
    submitted.write(*STORED)
    assert submitted.rstar("submit", "rounds.yaml").out == "r1: configured\nr2: unchanged\n"
    assert submitted.spec()["lifecycle"]["maxAttempts"] == 3
    assert "replicas" not in submitted.spec()["services"]["policy"]


def test_one_refused_round_leaves_all_others_unchanged(submitted: UserShell) -> None:
    submitted.write(IN_STORE | {"lifecycle": {"maxAttempts": 7}}, IN_STORE | {"seed": 1}, IN_STORE)
    assert_refused(
        submitted.rstar("submit", "rounds.yaml"), 'EvolutionRound.rstar.dev "r2" is invalid', "spec.seed cannot change"
    )
    assert submitted.spec()["lifecycle"]["maxAttempts"] == 3
    assert submitted.client.get("er", "r3") is None


def test_an_invalid_file_is_refused_before_anything_is_sent_to_the_cluster(submitted: UserShell) -> None:
    submitted.write(IN_STORE | {"rolout": {}})
    assert_refused(submitted.rstar("submit", "rounds.yaml"), "spec.rolout: unknown key; did you mean rollout?")
    submitted.write(IN_STORE, IN_STORE, IN_STORE | {"previousRound": "r9"})
    assert_refused(submitted.rstar("submit", "rounds.yaml"), "there is no round 'r9'")
    text = (submitted.folder / "rounds.yaml").read_text().replace("name: r1", "name: r1\n  namespace: other", 1)
    (submitted.folder / "rounds.yaml").write_text(text)
    assert_refused(submitted.rstar("submit", "rounds.yaml"), "round r1: metadata.namespace is other")


def test_a_round_may_follow_one_that_was_submitted_before(submitted: UserShell) -> None:
    submitted.write(*STORED, IN_STORE)
    third = (submitted.folder / "rounds.yaml").read_text().split("---\n")[2]
    (submitted.folder / "third.yaml").write_text(third)
    assert submitted.rstar("submit", "third.yaml").out == "r3: created\n"


def test_the_status_is_shown_as_for_a_folder(submitted: UserShell) -> None:
    fresh = submitted.rstar("status")
    assert "Waiting" in fresh.out
    assert "no operator has seen r1, r2 yet" in fresh.out
    submitted.report("r1", [*done(Stage.ROLLOUT), attempt(Stage.SELECT, 1, AttemptState.RUNNING)])
    table = submitted.rstar("status", "r1")
    assert "✓ rollout" in table.out
    assert "▶ select" in table.out
    assert "EarlyRound" in table.out
    found = json.loads(submitted.rstar("status", "rounds.yaml", "--json").out)
    assert list(found["statuses"]) == ["r1", "r2"]
    assert found["statuses"]["r1"]["phase"] == "Running"
    assert found["statuses"]["r1"]["attempts"][-1]["stage"] == "select"
    assert found["statuses"]["r2"]["phase"] == "Waiting"


def test_a_watch_shows_changes_and_ends_when_all_rounds_have_ended(submitted: UserShell) -> None:
    submitted.report("r1", done(Stage.ROLLOUT))
    watch = submitted.begin("status", "r1", "--watch", "--json")
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["statuses"]["r1"]["stage"] == "select"
    submitted.report("r1", done(*Stage))
    out, err = watch.communicate(timeout=300)
    assert watch.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["statuses"]["r1"]["phase"] == "Succeeded"


def test_ctrl_c_ends_a_watch(submitted: UserShell) -> None:
    watch = submitted.begin("status", "--watch", "--json")
    assert watch.stdout is not None
    assert watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=300)
    assert (watch.returncode, err) == (130, "")


def test_a_round_is_suspended_and_resumed_and_a_new_submission_changes_neither(submitted: UserShell) -> None:
    suspended = submitted.rstar("suspend", "r1")
    assert f"'rstar resume r1 -n {submitted.namespace}' resumes it" in suspended.out
    assert submitted.spec()["suspend"] is True
    assert json.loads(submitted.rstar("suspend", "r1", "--json").out)["changed"] is False
    assert submitted.rstar("submit", "rounds.yaml").out == "r1: unchanged\nr2: unchanged\n"
    assert submitted.spec()["suspend"] is True
    assert "round r1 is resumed" in submitted.rstar("resume", "r1").out
    assert submitted.spec()["suspend"] is False
    assert "is not suspended" in submitted.rstar("resume", "r1").out


def test_a_round_is_cancelled_for_good(submitted: UserShell) -> None:
    assert_refused(submitted.rstar("cancel", "r1"), "--yes")
    assert json.loads(submitted.rstar("cancel", "r1", "--yes", "--json").out)["changed"] is True
    assert submitted.spec()["cancel"] is True
    assert "is cancelled already" in submitted.rstar("cancel", "r1", "--yes").out
    over = submitted.rstar("resume", "r1")
    assert over.code == 1
    assert "cancelled permanently; submit it under another name" in over.err


def test_resume_of_a_failed_round_names_the_remedy_and_an_ended_round_is_left_alone(submitted: UserShell) -> None:
    killed = [attempt(Stage.ROLLOUT, number, AttemptState.FAILED, 137) for number in (1, 2, 3)]
    submitted.report("r1", killed)
    failed = submitted.rstar("resume", "r1")
    assert failed.code == 1
    assert "stage rollout failed 3 times: out of memory" in failed.err
    assert "raise spec.lifecycle.maxAttempts in its file and submit it again" in failed.err
    assert_refused(submitted.rstar("suspend", "r1"), "round r1 has ended")
    submitted.report("r1", done(*Stage))
    assert_refused(submitted.rstar("cancel", "r1", "--yes"), "round r1 is complete")


def test_an_unknown_round_is_refused_with_the_names_of_the_others(submitted: UserShell) -> None:
    for command in ("status", "logs", "suspend", "resume"):
        assert_refused(
            submitted.rstar(command, "r9"), f"there is no round 'r9' in namespace {submitted.namespace}", "r1, r2"
        )


def test_a_missing_namespace_is_named(shell: UserShell) -> None:
    shell.write(IN_STORE)
    shell.namespace = "nowhere"
    for command in (["status"], ["submit", "rounds.yaml"], ["suspend", "r1"]):
        assert_refused(shell.rstar(*command), "there is no namespace nowhere")


def test_a_server_that_does_not_answer_is_named(shell: UserShell) -> None:
    text = shell.kubeconfig.read_text()
    server = yaml.safe_load(text)["clusters"][0]["cluster"]["server"]
    shell.kubeconfig = shell.folder / "kubeconfig"
    shell.kubeconfig.write_text(text.replace(server, "https://127.0.0.1:1"))
    ended = shell.rstar("status")
    assert ended.code == 1
    assert "the cluster does not answer" in ended.err
    assert "refused" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_user_without_rights_is_shown_the_servers_message_and_the_role_to_ask_for(
    submitted: UserShell, testbed: Testbed
) -> None:
    submitted.kubeconfig = testbed.user_kubeconfig("cli-stranger")
    for command in (["status"], ["suspend", "r1"], ["submit", "rounds.yaml"], ["logs", "r1"]):
        assert_refused(submitted.rstar(*command), 'User "cli-stranger" cannot', "ask your admin for the role view")
    role = f"cli-{uuid.uuid4().hex[:8]}"
    resource = "--resource=evolutionrounds.rstar.dev"
    testbed.kubectl("create", "role", role, "-n", submitted.namespace, "--verb=get,list", resource)
    testbed.kubectl("create", "rolebinding", role, "-n", submitted.namespace, f"--role={role}", "--user=cli-stranger")
    assert submitted.rstar("status").code == 0
    assert_refused(submitted.rstar("suspend", "r1"), "cannot patch", "ask your admin for the role edit")
    submitted.write(IN_STORE | {"baseModel": "base"})
    assert_refused(submitted.rstar("submit", "rounds.yaml"), "base is on this machine", 'cannot get resource "secrets"')


def test_an_evolution_is_submitted_as_one_object_and_suspended_by_its_name(shell: UserShell) -> None:
    template = {"baseModel": "store:models/base", "problems": {"uri": "store:data/train.jsonl"}}
    document = {"apiVersion": "rstar.dev/v1alpha1", "kind": "Evolution", "metadata": {"name": "sums"}}
    (shell.folder / "evolution.yaml").write_text(yaml.safe_dump({**document, "spec": {"template": template}}))
    outcomes = [shell.rstar("submit", "evolution.yaml").out for _ in range(2)]
    assert outcomes == ["sums: created\n", "sums: unchanged\n"]
    found = shell.client.get("evolution", "sums")
    assert found is not None
    assert found["spec"] == {"rounds": 4, "perRound": [], "stopWhen": {}, "template": template}
    assert shell.client.get("evolutionround", "sums-r1") is None  # it is the operator's to make
    (shell.folder / "r1.yaml").write_text(yaml.safe_dump(resource_of("r1", {"round": 1, **template})))
    assert shell.rstar("submit", "r1.yaml").code == 0
    assert "evolution sums: waits for an operator" in shell.rstar("status").out
    done = shell.rstar("suspend", "sums")
    assert (done.code, done.out) == (
        0,
        "evolution sums: suspend is true; the operator hands it down to the round at work\n",
    )
    assert shell.rstar("suspend", "sums").out == "evolution sums: suspend is true already\n"
    assert shell.rstar("cancel", "sums", "--yes").code == 0
    found = shell.client.get("evolution", "sums")
    assert found is not None
    assert (found["spec"]["suspend"], found["spec"]["cancel"]) == (True, True)


def test_a_cluster_without_the_crd_is_reported_with_what_to_install(testbed: Testbed) -> None:
    with pytest.raises(NotFoundError) as caught:
        Cluster.connect(testbed.kubeconfig).list(Kind("/apis/rstar.dev/v9", "evolutionrounds"), "default")
    assert explain_error(caught.value, "default", role="view") == (
        "the cluster does not know EvolutionRounds: install charts/rstar first"
    )


def test_the_context_selects_cluster_and_namespace(submitted: UserShell, testbed: Testbed) -> None:
    config = yaml.safe_load(submitted.kubeconfig.read_text())
    here = config["contexts"][0]["context"]
    config["contexts"].append({"name": "lab", "context": {**here, "namespace": submitted.namespace}})
    file = submitted.folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))

    def status(*options: str) -> Finished:
        done = subprocess.run(
            [*RSTAR, "status", *options],
            capture_output=True,
            text=True,
            timeout=300,
            env=submitted.environment({"RSTAR_STORE": "s3://another/store"}),
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    assert "r2" in status("--kubeconfig", str(file), "--context", "lab").out
    assert_refused(status("--kubeconfig", str(file), "--context", "lap"), "lap")
    assert_refused(status("--kubeconfig", str(file)), "namespace default")


def test_the_shell_completes_the_names_of_rounds(submitted: UserShell, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"rstar logs -n {submitted.namespace} --kubeconfig {submitted.kubeconfig} r"
    monkeypatch.setenv("_RSTAR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    assert CliRunner().invoke(app, prog_name="rstar").output.split() == ["r1", "r2"]


def test_a_pod_that_has_not_started_is_named(submitted: UserShell, kubelet: StartKubelet) -> None:
    kubelet(lambda pod: Waiting("ImagePullBackOff", "no such image"))
    submitted.client.apply(stage_pod("r1-rollout-1", "true"))
    submitted.report("r1", [attempt(Stage.ROLLOUT, 1, AttemptState.PENDING)])
    submitted.client.pod_in("r1-rollout-1", "Pending")
    logs = submitted.rstar("logs", "r1")
    assert (logs.code, logs.out) == (0, "")
    assert "r1-rollout-1 has not started" in logs.err
