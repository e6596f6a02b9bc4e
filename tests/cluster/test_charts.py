"""The charts without a cluster: rendered by Helm, checked against Kubernetes' schemas, documented."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import rstar_executor.server.main
import rstar_openai.main
import rstar_operator.main
import rstar_policy.main
import rstar_ppm.main
import rstar_search.main
import typer
import yaml
from rstar_operator.children import certificate
from rstar_operator.configuration import load_configuration
from rstar_testbed.modules import OPENAPI_VERSIONS

from rstar.cluster.names import COMPONENT, EXECUTOR_SERVICE, HEALTH_PORT, METRICS_PORT, PART_OF, service_target
from rstar.rounds.observed import ServiceKind
from rstar.rounds.programs import SERVICE_PROGRAMS
from rstar.rpc.endpoints import LOOK_UP_SECONDS
from rstar.rpc.serving import NOTICE_SECONDS
from rstar.rpc.tls import SERVER_NAME
from tests.support.cluster.rendering import (
    CHARTS,
    COMBINATIONS,
    FOREIGN_KINDS,
    chart_of,
    kind_of,
    namespaced,
    rendered,
    run,
    validator,
)

NAMES = ["rstar", "rstar-tenant"]
Data = dict[str, Any]

every_combination = pytest.mark.parametrize(
    "values", COMBINATIONS, ids=lambda path: f"{chart_of(path).name}-{path.stem}"
)


def one(documents: tuple[Data, ...], kind: str, name: str) -> Data:
    (found,) = (d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name)
    return found


def values_named(name: str) -> Path:
    return CHARTS / "rstar" / "ci" / f"{name}-values.yaml"


@every_combination
def test_lint_finds_nothing(values: Path) -> None:
    run("helm", "lint", "--strict", "--quiet", chart_of(values), "-f", values)


@pytest.mark.parametrize("chart", NAMES)
def test_the_charts_own_suites_pass(chart: str) -> None:
    run("helm-unittest", CHARTS / chart)


@pytest.mark.parametrize("chart", NAMES)
def test_every_template_has_a_suite(chart: str) -> None:
    suites = [yaml.safe_load(path.read_text()) for path in (CHARTS / chart / "tests").glob("*_test.yaml")]
    patterns = [pattern for suite in suites for pattern in suite["templates"]]
    for path in (CHARTS / chart / "templates").rglob("*"):
        if path.is_file() and not path.name.startswith("_"):
            template = str(path.relative_to(CHARTS / chart))
            assert any(fnmatch(template, pattern) for pattern in patterns), f"{template} is in no suite"


@pytest.mark.parametrize("chart", NAMES)
def test_the_readme_is_what_helm_docs_generates_from_the_values(chart: str, tmp_path: Path) -> None:
    shutil.copytree(CHARTS / chart, tmp_path / chart)
    run("helm-docs", "--chart-search-root", tmp_path, "--sort-values-order", "file", "--documentation-strict-mode")
    assert (tmp_path / chart / "README.md").read_text() == (CHARTS / chart / "README.md").read_text(), (
        "stale: helm-docs --chart-search-root charts --sort-values-order file"
    )


@pytest.mark.parametrize("version", OPENAPI_VERSIONS)
@every_combination
def test_the_manifests_match_the_schemas_of_kubernetes(values: Path, version: str) -> None:
    documents = rendered(values, version=version)
    assert documents
    for document in documents:
        if kind_of(document) not in FOREIGN_KINDS:
            errors = list(validator(version, kind_of(document)).iter_errors(document))
            where = f"{kind_of(document)} {document['metadata']['name']}"
            assert not errors, [f"{where}: {'.'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in errors]


@pytest.mark.parametrize("version", OPENAPI_VERSIONS)
def test_the_schemas_refuse_a_field_that_does_not_exist(version: str) -> None:
    document = one(rendered(values_named("fixed"), version=version), "Deployment", "rstar-executor")
    wrong = {**document, "spec": {**document["spec"], "replica": 3}}
    (error,) = validator(version, "apps/v1/Deployment").iter_errors(wrong)
    assert "'replica' was unexpected" in error.message


@pytest.mark.parametrize(
    ("chart", "setting", "complaint"),
    [
        ("rstar", "executor.replcas=3", "at '/executor': additional properties 'replcas' not allowed"),
        ("rstar", "polcy.enabled=true", "at '': additional properties 'polcy' not allowed"),
        ("rstar", "networkPolicies.hub.peer=[]", "at '/networkPolicies/hub': additional properties 'peer' not allowed"),
        (
            "rstar",
            "executor.resources.limit.cpu=2",
            "at '/executor/resources': additional properties 'limit' not allowed",
        ),
        ("rstar", "operator.scope=everything", "value must be one of 'cluster', 'namespaces', 'namespace'"),
        ("rstar", "executor.slots=many", "at '/executor/slots': got string, want integer"),
        ("rstar", "policy.model=gs://models/x", "at '/policy/model': 'gs://models/x' does not match pattern"),
        ("rstar-tenant", "namespace=RoundNamespace", "at '/namespace': 'RoundNamespace' does not match pattern"),
        ("rstar-tenant", "quota.limits.cpu=4", "at '/quota': additional properties 'limits' not allowed"),
    ],
)
def test_a_mistake_in_the_values_is_refused_and_named(chart: str, setting: str, complaint: str) -> None:
    done = run("helm", "template", "r", CHARTS / chart, "--set", setting, check=False)
    assert done.returncode != 0
    assert complaint in done.stderr


@pytest.mark.parametrize("version", OPENAPI_VERSIONS)
@pytest.mark.parametrize("name", ["namespaced", "tenant", "serving"])
def test_an_installation_without_cluster_rights_stays_in_its_namespace(name: str, version: str) -> None:
    for document in rendered(values_named(name), "mine", version):
        assert kind_of(document) in namespaced(version)
        assert document["metadata"]["namespace"] == "mine"


def test_every_pod_has_the_labels_that_network_policies_select() -> None:
    for values in COMBINATIONS:
        for document in rendered(values):
            if document["kind"] in {"Deployment", "Job"}:
                labels = document["spec"]["template"]["metadata"]["labels"]
                assert labels[PART_OF] == "rstar"
                assert labels[COMPONENT] in {
                    "policy",
                    "ppm",
                    "executor",
                    "search",
                    "openai",
                    "stage",
                    "operator",
                    "minio",
                }


def test_services_have_the_names_and_ports_that_the_platform_uses() -> None:
    documents = rendered(values_named("gpu"))
    for kind, program in SERVICE_PROGRAMS.items():
        service = one(documents, "Service", f"rstar-{kind}")
        assert service["spec"]["clusterIP"] == "None"
        assert {item["name"]: item["port"] for item in service["spec"]["ports"]} == {
            "grpc": program.port,
            "metrics": METRICS_PORT,
        }
        pod = one(documents, "Deployment", f"rstar-{kind}")["spec"]["template"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert {item["name"]: item["containerPort"] for item in pod["spec"]["containers"][0]["ports"]} == {
            "grpc": program.port,
            "metrics": METRICS_PORT,
        }
    assert one(documents, "Service", EXECUTOR_SERVICE)
    arguments = one(documents, "Deployment", "rstar-search")["spec"]["template"]["spec"]["containers"][0]["args"]
    for kind in (ServiceKind.POLICY, ServiceKind.PPM, ServiceKind.EXECUTOR):
        assert f"--{kind}={service_target(f'rstar-{kind}', 'lab', kind)}" in arguments


def test_the_charts_pods_have_the_certificate_as_the_operators_have_it() -> None:
    documents = rendered(values_named("tls"))
    executor = one(documents, "Deployment", "rstar-executor")["spec"]["template"]["spec"]
    for pod in (executor, one(documents, "Pod", "rstar-test-executor")["spec"]):
        [container] = pod["containers"]
        assert [item for item in container["env"] if item["name"].startswith("RSTAR_TLS")] == certificate.variables()
        assert certificate.mount() in container["volumeMounts"]
        assert certificate.volume("rstar-tls") in pod["volumes"]
    assert {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"} in executor["containers"][0]["ports"]
    names = one(documents, "Certificate", "rstar-tls")["spec"]["dnsNames"]
    assert {SERVER_NAME, "*.lab.svc"} <= set(names)


def test_no_service_selects_the_pod_of_helm_test() -> None:
    documents = rendered(values_named("gpu"))
    labels = one(documents, "Pod", "rstar-test-executor")["metadata"]["labels"]
    for service in (d for d in documents if d["kind"] == "Service"):
        assert not service["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize(
    ("deployment", "program"),
    [
        ("rstar-executor", rstar_executor.server.main.serve),
        ("rstar-policy", rstar_policy.main.serve),
        ("rstar-ppm", rstar_ppm.main.serve),
        ("rstar-search", rstar_search.main.serve),
        ("rstar-openai", rstar_openai.main.serve),
    ],
)
def test_every_program_accepts_its_containers_arguments(deployment: str, program: Any) -> None:
    app = typer.Typer()
    app.command()(program)
    command = typer.main.get_command(app)
    for name in ("gpu", "openai", "serving", "storage", "tls"):
        for document in rendered(values_named(name)):
            if document["kind"] == "Deployment" and document["metadata"]["name"] == deployment:
                container = document["spec"]["template"]["spec"]["containers"][0]
                assert container["command"] == ["python", "-m", deployment.replace("-", "_")]
                command.make_context(deployment, list(container["args"]))


def mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


@pytest.mark.parametrize("name", ["default", "dev", "fixed", "gpu", "keda"])
def test_an_executor_fits_into_its_memory_limit_and_drains_within_its_grace_period(name: str) -> None:
    pod = one(rendered(values_named(name)), "Deployment", "rstar-executor")["spec"]["template"]["spec"]
    container, (tmp,) = pod["containers"][0], pod["volumes"]
    flags = {flag: value for flag, _, value in (argument.partition("=") for argument in container["args"])}
    slot = int(flags["--max-memory-mib"]) + int(flags["--snapshot-mib"])
    files = mebibytes(tmp["emptyDir"]["sizeLimit"])
    needed = int(flags["--slots"]) * slot + int(flags["--cache-mib"]) + files + 1024
    assert needed <= mebibytes(container["resources"]["limits"]["memory"])
    drain = container["lifecycle"]["preStop"]["sleep"]["seconds"] + 2 * NOTICE_SECONDS + int(flags["--drain-seconds"])
    assert drain < pod["terminationGracePeriodSeconds"]
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] > LOOK_UP_SECONDS
    assert int(flags["--drain-seconds"]) > float(flags["--max-seconds"])


@pytest.mark.parametrize(
    ("name", "namespaces"), [("default", []), ("namespaced", ["lab"]), ("namespaces", ["lab-a", "lab-b"])]
)
def test_the_operator_accepts_its_arguments_and_its_configuration(
    name: str, namespaces: list[str], tmp_path: Path
) -> None:
    documents = rendered(values_named(name))
    container = one(documents, "Deployment", "rstar-operator")["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["rstar-operator"]
    group: Any = typer.main.get_command(rstar_operator.main.app)
    first, *arguments = container["args"]
    context = group.commands[first].make_context(first, arguments)
    assert list(context.params["namespace"] or ()) == namespaces
    path = tmp_path / "config.yaml"
    path.write_text(one(documents, "ConfigMap", "rstar-operator")["data"]["config.yaml"])
    configuration = load_configuration(path)
    assert configuration.images.jobs == "rstar/jobs:0.1.0"
    assert configuration.executor_target("lab") == service_target(EXECUTOR_SERVICE, "lab", ServiceKind.EXECUTOR)
