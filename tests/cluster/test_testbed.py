"""The testbed itself: what the other cluster tests rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError, TestbedError

from tests.support.cluster.pods import NamespaceClient, wait_until


def test_the_control_plane_answers_and_its_controllers_work(client: NamespaceClient) -> None:
    assert "v1.35" in client.bed.kubectl("version")
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "none"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    client.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
    count = lambda: client.bed.kubectl("get", "pods", "-n", client.namespace, "-o", "name").count("pod/web") == 2  # noqa: E731
    wait_until(count, "two pods of the Deployment")


def test_users_and_service_accounts_may_do_what_rbac_says_and_no_more(client: NamespaceClient) -> None:
    bed, namespace = client.bed, client.namespace
    alice = bed.user_kubeconfig("alice", ("lab",))
    account = bed.service_account_kubeconfig(namespace, "default")
    read = ("get", "configmaps", "-n", namespace)
    for kubeconfig in (alice, account):
        with pytest.raises(CommandError, match="forbidden"):
            bed.kubectl(*read, kubeconfig=kubeconfig)
    bed.kubectl("create", "rolebinding", "lab", "--clusterrole=view", "--group=lab", "-n", namespace)
    bed.kubectl(
        "create", "rolebinding", "sa", "--clusterrole=view", f"--serviceaccount={namespace}:default", "-n", namespace
    )
    for kubeconfig in (alice, account):
        assert "kube-root-ca.crt" in bed.kubectl(*read, kubeconfig=kubeconfig)
    assert bed.requests(verbs=("list",))["alice", "kubectl"] >= 2


def test_the_store_takes_objects(testbed: Testbed) -> None:
    assert testbed.minio
    client = testbed.minio.client()
    if not client.bucket_exists("testbed"):
        client.make_bucket("testbed")
    client.fput_object("testbed", "folder/this", __file__)
    assert [each.object_name for each in client.list_objects("testbed", recursive=True)] == ["folder/this"]


def _processes(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and process.pid != os.getpid():
            found.append(line)
    return found


def test_a_stopped_testbed_leaves_no_process(tmp_path: Path) -> None:
    with Testbed.start(tmp_path / "bed", training_operator=False, minio=False):
        assert _processes(tmp_path)
    assert _processes(tmp_path) == []


KILLED = """
import sys, time
from pathlib import Path
from rstar_testbed.cluster import Testbed
with Testbed.start(Path(sys.argv[1]), training_operator=False, minio=False):
    print("ready", flush=True)
    time.sleep(1000)
"""


def test_every_process_ends_when_the_testbeds_own_process_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "bed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        finally:
            process.kill()
    wait_until(lambda: not _processes(tmp_path), "no process of the testbed")


def test_a_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TestbedError, match="not empty"):
        Testbed.start(tmp_path)
