"""The commands of a round's pods, as they were checked by eye."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rstar_operator.children.attempt import attempt_pods
from rstar_operator.children.cleanup import cleanup_job
from rstar_operator.children.deployment import deployment, headless_service
from rstar_operator.children.identity import QUEUE_LABEL, Owner
from rstar_operator.configuration import Configuration

from rstar.cluster.api import Json
from rstar.cluster.names import decode_service, encode_service, service_name
from rstar.rounds.observed import (
    EndpointRef,
    ManifestRef,
    ModelRef,
    ModelServing,
    SecretRef,
    ServiceKind,
    ServiceRef,
    Stage,
    StartStage,
)
from rstar.rounds.spec import EvolutionRound
from tests.support.operator.driving import CONFIGURATION

BODY = {
    "apiVersion": "rstar.dev/v1alpha1",
    "kind": "EvolutionRound",
    "metadata": {"name": "r1"},
    "spec": {
        "round": 1,
        "baseModel": "store:models/base",
        "problems": {"uri": "store:data/train.jsonl"},
        "services": {"policy": {"slots": 64}, "search": {"slots": 8}},
    },
}
OWNER = Owner(EvolutionRound.model_validate(BODY), "lab-a", "5b4e3f0a-6f0e-4a53-9d3b-0d8a1b6f2c11")
# The operator plans services without their sizes (see ``decide``): these have no slots.
POLICY = ServiceRef(ServiceKind.POLICY, ModelRef("store:models/base"), "bootstrap")
PPM = ServiceRef(ServiceKind.PPM, ModelRef("store:models/ppm"))
SEARCH = ServiceRef(ServiceKind.SEARCH, upstream=(POLICY, ServiceRef(ServiceKind.EXECUTOR), PPM))


def target(ref: ServiceRef, port: int) -> str:
    return f"dns:///{service_name('r1', ref)}.lab-a.svc:{port}"


@pytest.mark.parametrize(
    ("ref", "options"),
    [
        (
            POLICY,
            "--port 50051 --metrics-port 9090 --model store:models/base --store $(RSTAR_STORE) --cache /cache --prompt bootstrap --max-rows 64",
        ),
        (PPM, "--port 50052 --metrics-port 9090 --model store:models/ppm --store $(RSTAR_STORE) --cache /cache"),
        (
            SEARCH,
            f"--port 50054 --metrics-port 9090 --max-searches 8 --tenant lab-a/r1 --policy {target(POLICY, 50_051)} --executor dns:///rstar-executor.lab-a.svc:50053 --ppm {target(PPM, 50_052)}",
        ),
    ],
    ids=lambda value: value.kind.value if isinstance(value, ServiceRef) else "",
)
def test_a_service_is_started_with_the_slots_of_the_spec(ref: ServiceRef, options: str) -> None:
    [container] = deployment(OWNER, CONFIGURATION, ref)["spec"]["template"]["spec"]["containers"]
    assert " ".join(container["command"]) == f"python -m rstar_{ref.kind} --host $(POD_IP) {options}"


def test_a_client_of_an_endpoint_gets_the_key_from_the_secret_and_no_gpus() -> None:
    resources = {"policy": {"gpus": 8}, "search": {"cpu": "250m"}}
    item = EvolutionRound.model_validate({**BODY, "spec": {**BODY["spec"], "cluster": {"resources": resources}}})  # type: ignore[dict-item]
    endpoint = EndpointRef("https://llm.example.com/v1", "large", None, "LLM_KEY", SecretRef("llm", "api-key"))
    ref = ServiceRef(ServiceKind.POLICY, prompt="bootstrap", endpoint=endpoint)
    assert decode_service(encode_service(ref)) == ref
    owner = Owner(item, OWNER.namespace, OWNER.uid)
    [container] = deployment(owner, CONFIGURATION, ref)["spec"]["template"]["spec"]["containers"]
    command = " ".join(container["command"])
    assert "--endpoint https://llm.example.com/v1 --model-name large --api-key-env RSTAR_ENDPOINT_KEY" in command
    secret = {"secretKeyRef": {"name": "llm", "key": "api-key"}}
    assert {"name": "RSTAR_ENDPOINT_KEY", "valueFrom": secret} in container["env"]
    assert container["resources"]["limits"]["cpu"] == "250m"
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert container["image"] == CONFIGURATION.images.policy
    without = deployment(owner, CONFIGURATION, replace(ref, endpoint=replace(endpoint, key_secret=None)))
    [container] = without["spec"]["template"]["spec"]["containers"]
    assert "--api-key-env" not in container["command"]


@pytest.mark.parametrize("devices", [1, 2])
def test_servers_whose_processes_share_a_model_get_shared_memory(devices: int) -> None:
    ref = replace(POLICY, serving=ModelServing("vllm", tensor_parallel=devices))
    spec = deployment(OWNER, CONFIGURATION, ref)["spec"]["template"]["spec"]
    assert ({"name": "shm", "emptyDir": {"medium": "Memory"}} in spec["volumes"]) == (devices > 1)
    assert ({"name": "shm", "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]) == (devices > 1)


def test_all_pods_have_the_installers_additions_and_keep_their_own_labels() -> None:
    additions = {
        "runAsUser": None,
        "podLabels": {"team": "maths", "app.kubernetes.io/part-of": "other"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "certificates", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "certificates", "mountPath": "/etc/ssl/own"}],
    }
    configuration = Configuration.model_validate({**CONFIGURATION.model_dump(by_alias=True), **additions})
    templates = [
        attempt_pods(OWNER, configuration, StartStage(Stage.SELECT, 1, ())).template,
        deployment(OWNER, configuration, POLICY)["spec"]["template"],
        cleanup_job(OWNER, configuration)["spec"]["template"],
    ]
    plain = deployment(OWNER, CONFIGURATION, POLICY)["spec"]["template"]
    assert plain["spec"]["securityContext"]["fsGroup"] == 10_001
    for template in templates:
        spec = template["spec"]
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert template["metadata"]["labels"]["team"] == "maths"
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "rstar"
        assert additions["extraEnv"][0] in spec["containers"][0]["env"]
        assert additions["extraVolumes"][0] in spec["volumes"]
        assert additions["extraVolumeMounts"][0] in spec["containers"][0]["volumeMounts"]


def test_with_tls_the_pods_that_serve_or_call_have_the_certificate_and_others_no_key() -> None:
    configuration = CONFIGURATION.model_copy(update={"tls_secret": "rstar-tls"})
    secret = {"name": "tls", "secret": {"secretName": "rstar-tls", "defaultMode": 0o440}}
    named = {"RSTAR_TLS_CERT": "tls.crt", "RSTAR_TLS_KEY": "tls.key", "RSTAR_TLS_CA": "ca.crt"}
    variables = [{"name": name, "value": f"/etc/rstar-tls/{file}"} for name, file in named.items()]

    def has_certificate(template: Json) -> bool:
        spec = template["spec"]
        [container] = spec["containers"]
        found = [variable in container["env"] for variable in variables]
        found.append(secret in spec["volumes"])
        found.append({"name": "tls", "mountPath": "/etc/rstar-tls", "readOnly": True} in container["volumeMounts"])
        assert len(set(found)) == 1
        return found[0]

    def templates(configuration: Configuration) -> list[Json]:
        search = attempt_pods(OWNER, configuration, StartStage(Stage.ROLLOUT, 1, (), SEARCH)).template
        train = attempt_pods(OWNER, configuration, StartStage(Stage.TRAIN_POLICY, 1, ())).template
        cleanup = cleanup_job(OWNER, configuration)["spec"]["template"]
        servers = [deployment(OWNER, configuration, ref)["spec"]["template"] for ref in (POLICY, PPM, SEARCH)]
        return [*servers, search, train, cleanup]

    assert [has_certificate(template) for template in templates(configuration)] == [True] * 4 + [False] * 2
    assert not any(has_certificate(template) for template in templates(CONFIGURATION))


def test_with_tls_services_are_probed_on_a_port_of_their_own() -> None:
    configuration = CONFIGURATION.model_copy(update={"tls_secret": "rstar-tls"})
    [container] = deployment(OWNER, configuration, POLICY)["spec"]["template"]["spec"]["containers"]
    assert "--port 50051 --metrics-port 9090 --health-port 9091 --model" in " ".join(container["command"])
    assert {"name": "health", "containerPort": 9_091} in container["ports"]
    assert container["startupProbe"]["grpc"] == container["readinessProbe"]["grpc"] == {"port": 9_091}
    assert container["livenessProbe"]["tcpSocket"] == {"port": "grpc"}
    assert headless_service(OWNER, configuration, POLICY)["spec"]["ports"][0]["appProtocol"] == "https"
    [container] = deployment(OWNER, CONFIGURATION, POLICY)["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["grpc"] == {"port": 50_051}
    assert headless_service(OWNER, CONFIGURATION, POLICY)["spec"]["ports"][0]["appProtocol"] == "grpc"


def test_pods_have_the_rounds_scheduler_and_deployments_its_queue() -> None:
    spec = {**BODY["spec"], "cluster": {"schedulerName": "volcano", "queue": "lab-gpus"}}  # type: ignore[dict-item]
    owner = replace(OWNER, round=EvolutionRound.model_validate({**BODY, "spec": spec}))
    stage = attempt_pods(owner, CONFIGURATION, StartStage(Stage.SELECT, 1, ())).template
    server = deployment(owner, CONFIGURATION, POLICY)
    assert stage["spec"]["schedulerName"] == server["spec"]["template"]["spec"]["schedulerName"] == "volcano"
    assert server["metadata"]["labels"][QUEUE_LABEL] == "lab-gpus"
    plain = deployment(OWNER, CONFIGURATION, POLICY)
    assert QUEUE_LABEL not in plain["metadata"]["labels"]
    assert "schedulerName" not in plain["spec"]["template"]["spec"]


def test_a_searching_stage_is_started_with_its_inputs_and_its_coordinator() -> None:
    inputs = (("policy", ManifestRef("rounds/r0/train-policy/9f2c/manifest.json", "5" * 64)),)
    template = attempt_pods(OWNER, CONFIGURATION, StartStage(Stage.ROLLOUT, 2, inputs, SEARCH)).template
    [container] = template["spec"]["containers"]
    assert " ".join(container["command"]) == (
        "python -m rstar_jobs.rollout --round /etc/rstar/round.yaml --store $(RSTAR_STORE) --cache /cache "
        f"--input policy=rounds/r0/train-policy/9f2c/manifest.json@{'5' * 64} "
        f"--result /dev/termination-log --progress configmap:r1-rollout-2 --search {target(SEARCH, 50_054)}"
    )


def test_pods_that_fetch_share_a_claim_and_others_keep_their_own_disk() -> None:
    cluster = {"cacheClaim": "models", "cacheSize": "500Gi"}
    item = EvolutionRound.model_validate({**BODY, "spec": {**BODY["spec"], "cluster": cluster}})  # type: ignore[dict-item]
    owner = Owner(item, OWNER.namespace, OWNER.uid)
    stage = attempt_pods(owner, CONFIGURATION, StartStage(Stage.TRAIN_POLICY, 1, ())).template["spec"]
    services = [deployment(owner, CONFIGURATION, ref)["spec"]["template"]["spec"] for ref in (POLICY, SEARCH)]
    shared = {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}}
    assert [shared in spec["volumes"] for spec in (stage, *services)] == [True, True, False]
    [container] = stage["containers"]
    assert {"name": "RSTAR_CACHE_SIZE", "value": "500Gi"} in container["env"]
    assert {"name": "HF_HOME", "value": "/cache/huggingface"} in container["env"]


@pytest.mark.parametrize(("use", "torchrun", "gpus"), [("auto", True, 8), ("never", False, 0)])
def test_a_round_that_trains_no_ppm_asks_for_no_nodes_and_gpus_for_it(use: str, torchrun: bool, gpus: int) -> None:
    changes = {
        "preferenceModel": {"use": use},
        "trainPpm": {"nodes": 2, "processesPerNode": 8},
        "cluster": {"resources": {"trainPpm": {"gpus": 8}}},
    }
    item = EvolutionRound.model_validate({**BODY, "spec": {**BODY["spec"], **changes}})  # type: ignore[dict-item]
    pods = attempt_pods(Owner(item, OWNER.namespace, OWNER.uid), CONFIGURATION, StartStage(Stage.TRAIN_PPM, 1, ()))
    [container] = pods.template["spec"]["containers"]
    assert (pods.nodes, pods.processes) == ((2, 8) if torchrun else (1, None))
    assert ("torch.distributed.run" in container["command"]) == torchrun
    assert int(container["resources"]["limits"].get("nvidia.com/gpu", 0)) == gpus
