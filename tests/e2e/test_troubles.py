"""Faults of a real cluster, each of which must show as a condition that names the cause, without a look at the pods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from rstar_testbed.cluster import Testbed

from tests.e2e.conftest import UseImages, installed_chart
from tests.support.cluster.rounds import message_with, round_body
from tests.support.paths import ROOT

SECRET = (
    "--from-literal=RSTAR_STORE=s3://rstar/lab",
    "--from-literal=AWS_ACCESS_KEY_ID=x",
    "--from-literal=AWS_SECRET_ACCESS_KEY=y",
)
FITS = {name: {"cpu": "50m", "memory": "128Mi"} for name in ("policy", "ppm", "search", "rollout")}


@pytest.fixture(scope="module")
def namespace(testbed: Testbed, use_images: UseImages) -> Iterator[str]:
    """A namespace with operator and executors; the images of model servers are not in the registry, as after a typing error."""
    small = "executor.slots=1,executor.resources.requests.cpu=100m,executor.resources.requests.memory=512Mi"
    fewer = "executor.resources.limits.cpu=null,executor.maxMemoryMib=256,executor.autoscaling.maxReplicas=1"
    with installed_chart(testbed, use_images, f"--set={small}", f"--set={fewer}") as name:
        yield name


def apply(bed: Testbed, namespace: str, name: str, **spec: object) -> None:
    bed.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump(round_body(name, **spec)))


def test_an_image_that_does_not_exist(testbed: Testbed, namespace: str) -> None:
    testbed.kubectl("create", "secret", "generic", "rstar-storage", "-n", namespace, *SECRET)
    apply(testbed, namespace, "no-image", cluster={"resources": FITS})
    message = message_with(testbed, namespace, "no-image", "rstar/policy", "not found")
    assert "policy" in message
    assert message in testbed.kubectl("describe", "er", "no-image", "-n", namespace)
    testbed.kubectl("delete", "er", "no-image", "-n", namespace)


def test_pods_that_no_node_can_take(testbed: Testbed, namespace: str) -> None:
    apply(testbed, namespace, "too-large", cluster={"resources": FITS | {"policy": {"cpu": "64", "memory": "1Gi"}}})
    assert "policy" in message_with(testbed, namespace, "too-large", "Insufficient cpu")
    testbed.kubectl("delete", "er", "too-large", "-n", namespace)


def test_a_quota_that_is_used_up_and_the_round_that_goes_on_when_it_is_raised(testbed: Testbed, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight"},
        "spec": {"hard": {"pods": "2"}},
    }
    testbed.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump(quota))
    apply(testbed, namespace, "no-quota", cluster={"resources": FITS})
    message_with(testbed, namespace, "no-quota", "exceeded quota", "tight")
    quota["spec"] = {"hard": {"pods": "20"}}
    testbed.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump(quota))
    message_with(testbed, namespace, "no-quota", "rstar/policy", "not found")
    testbed.kubectl("delete", "er", "no-quota", "-n", namespace)


def test_a_secret_of_the_store_that_does_not_exist(testbed: Testbed, namespace: str, use_images: UseImages) -> None:
    # The Secret is read after the image is pulled: any image that exists will do.
    _, _, tag = use_images("operator")["operator"].partition("operator:")
    image = f"--set=images.policy.repository=rstar/operator,images.policy.tag={tag}"
    testbed.helm("upgrade", "rstar", str(ROOT / "charts/rstar"), "-n", namespace, "--reuse-values", image)
    limits = "jsonpath={.spec.template.spec.containers[0].resources.limits}"
    # Installed without a limit of CPU: the upgrade reuses the values and leaves it so.
    assert "cpu" not in testbed.kubectl("get", "deployment", "rstar-executor", "-n", namespace, "-o", limits)
    testbed.kubectl("rollout", "status", "deployment/rstar-operator", "-n", namespace, "--timeout=600s")
    apply(testbed, namespace, "no-secret", cluster={"resources": FITS, "storageSecret": "missing"})
    message_with(testbed, namespace, "no-secret", "policy", 'secret "missing" not found')
    testbed.kubectl("delete", "er", "no-secret", "-n", namespace)
