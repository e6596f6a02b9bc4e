"""Programs as process 1 of a restricted container, apart from a round: signals, and what they write outside of the store."""

from __future__ import annotations

import json

import pytest
from rstar_testbed.cluster import Testbed

from tests.e2e.conftest import UseImages
from tests.support.cluster.containers import restricted_pod
from tests.support.cluster.pods import NamespaceClient, terminated_state, wait_until

pytestmark = pytest.mark.slow

SECONDS = 900.0
"""For the first pod of an image, which is pulled, and for the import of torch where much else runs."""


@pytest.fixture
def client(testbed: Testbed, namespace: str) -> NamespaceClient:
    return NamespaceClient(testbed, namespace)


STAGE = [
    "--store=/cache/store", "--cache=/cache", "--result=/dev/termination-log", "--progress=/tmp/progress.json",
    "--round=/tmp/round",
]  # fmt: skip
# Nobody writes to the FIFO, so that the program waits where it reads the round.
WAIT_FOR_ROUND = 'mkfifo /tmp/round && exec "$@"'
# Sends SIGTERM once process 1 waits. Holds the FIFO open, for its end would be an end of the round's file.
TERMINATE = """
import os, signal, time
while True:
    try:
        os.open("/tmp/round", os.O_WRONLY | os.O_NONBLOCK)
        break
    except OSError:
        time.sleep(0.1)
os.kill(1, signal.SIGTERM)
time.sleep(600)
"""


@pytest.mark.parametrize("program", ["rollout", "select", "train_policy"])
def test_a_stage_heeds_sigterm_whatever_it_is_doing(
    client: NamespaceClient, use_images: UseImages, program: str
) -> None:
    command = ("bash", "-c", WAIT_FOR_ROUND, "bash", "python", "-m", f"rstar_jobs.{program}", *STAGE)
    name = program.replace("_", "-")
    client.apply(restricted_pod(name, use_images("jobs")["jobs"], *command))
    client.pod_in(name, "Running", seconds=SECONDS)
    # Fails, because it is killed with the container.
    client.bed.kubectl("exec", name, "-n", client.namespace, "--", "python", "-c", TERMINATE, check=False)
    ended = terminated_state(client.pod_in(name, "Succeeded", "Failed", seconds=SECONDS))
    assert (ended["exitCode"], json.loads(ended["message"])["exit_code"]) == (143, 143)


def test_a_search_coordinator_that_waits_for_the_others_ends_at_sigterm(
    client: NamespaceClient, use_images: UseImages
) -> None:
    nobody = ("--host=127.0.0.1", "--port=50054", "--policy=127.0.0.1:1", "--executor=127.0.0.1:1")
    client.apply(restricted_pod("search", use_images("search")["search"], "python", "-m", "rstar_search", *nobody))
    client.pod_in("search", "Running", seconds=SECONDS)
    where = ("search", "-n", client.namespace)
    wait_until(lambda: '"listening"' in client.bed.kubectl("logs", *where), "the coordinator listens", SECONDS)
    terminate = "import os, signal; os.kill(1, signal.SIGTERM)"
    client.bed.kubectl("exec", *where, "--", "python", "-c", terminate, check=False)
    ended = terminated_state(client.pod_in("search", "Succeeded", "Failed", seconds=SECONDS))
    assert ended["exitCode"] == 0, client.bed.kubectl("logs", *where)


LOAD = """
from datasets import load_dataset
with open("/tmp/rows.jsonl", "w") as rows:
    rows.write('{"a": 1}\\n')
print(load_dataset("json", data_files="/tmp/rows.jsonl")["train"].num_rows)
"""


def test_datasets_of_the_hub_can_be_cached(client: NamespaceClient, use_images: UseImages) -> None:
    client.apply(restricted_pod("load", use_images("jobs")["jobs"], "python", "-c", LOAD))
    client.pod_in("load", "Succeeded", "Failed", seconds=SECONDS)
    log = client.bed.kubectl("logs", "load", "-n", client.namespace)
    assert log.splitlines()[-1] == "1", log
