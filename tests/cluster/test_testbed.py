"""The testbed itself: what the other cluster tests rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError, TestbedError
from rstar_testbed.kubelet import Kubelet, always_real
from rstar_testbed.kubelet.addresses import routes

from tests.support.cluster.pods import NamespaceClient, needs_root, pod, wait_until


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


def _mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def _processes(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and process.pid != os.getpid():
            found.append(line)
    return found


@needs_root
def test_a_stopped_testbed_leaves_no_process_mount_or_route(tmp_path: Path) -> None:
    mounts, networks = _mounts(), [network for network, owner in routes() if owner == os.getpid()]
    folder = tmp_path / "bed"
    mounted = {"volumeMounts": [{"name": "made", "mountPath": "/made/for/this/test"}], "command": ["sleep", "1000"]}
    with (
        Testbed.start(folder, training_operator=False, minio=False) as bed,
        Kubelet(bed.kubeconfig, always_real, folder=tmp_path / "kubelet"),
    ):
        client = NamespaceClient(bed, "default")
        client.apply(pod("endless", volumes=[{"name": "made", "emptyDir": {}}], container=mounted))
        client.pod_in("endless", "Running")
        assert _processes(tmp_path)
    assert _processes(tmp_path) == []
    assert _mounts() == mounts
    assert [network for network, owner in routes() if owner == os.getpid()] == networks
    assert not Path("/made").exists()


KILLED = """
import sys, time
from pathlib import Path
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Kubelet, always_real
folder = Path(sys.argv[1])
with Testbed.start(folder / "bed", training_operator=False, minio=False) as bed, Kubelet(bed.kubeconfig, always_real, folder=folder / "kubelet"):
    bed.kubectl("apply", "-f", "-", input=sys.argv[2])
    bed.kubectl("wait", "--for=condition=Ready", "pod/endless", "--timeout=180s")
    print("ready", flush=True)
    time.sleep(1000)
"""


@needs_root
def test_every_process_ends_when_the_testbeds_own_process_is_killed(tmp_path: Path) -> None:
    endless = yaml.safe_dump(pod("endless", container={"command": ["sleep", "1000"]}))
    command = [sys.executable, "-c", KILLED, str(tmp_path), endless]
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
