"""The Go modules of the testbed: the programs that each builds, and the folders of their sources.

Versions are written in one place, the ``go.mod`` files of ``testbed/go``, and read from there. ``binaries.py`` builds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from rstar_testbed.errors import TestbedError

SOURCES: Final = Path(__file__).parents[1] / "go"

KUBERNETES: Final = "k8s.io/kubernetes"
TRAINING_OPERATOR: Final = "github.com/kubeflow/training-operator"
KEDA: Final = ("github.com/kedacore/keda/v2", "v2.21.0")
"""Path and version of KEDA, whose CRD is used and no program."""
TRAINER: Final = "github.com/kubeflow/trainer/v2"
JOBSET: Final = "sigs.k8s.io/jobset"

# The Kubernetes versions that charts are checked against, oldest first; the testbed runs the last one.
OPENAPI_VERSIONS: Final = ("v1.33.13", "v1.34.4", "v1.35.4")


@dataclass(frozen=True)
class Module:
    """A folder of ``testbed/go``: the package that is built into one binary, and the names by which it is called.

    ``on_demand``: built only when it is named or used; few need it.
    """

    name: str
    package: str
    requires: str
    names: tuple[str, ...]
    stamps: tuple[str, ...] = ()
    # Not in the repr, from which the cache's key is made.
    on_demand: bool = field(default=False, repr=False)

    @property
    def folder(self) -> Path:
        """The folder of its ``go.mod``."""
        return SOURCES / self.name

    @property
    def version(self) -> str:
        """The version of the built program, pinned in ``go.mod``."""
        text = (self.folder / "go.mod").read_text()
        found = re.search(rf"^\s*(?:require )?{re.escape(self.requires)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise TestbedError(f"{self.folder / 'go.mod'} requires no {self.requires}: add it.")
        return found.group(1)

    @property
    def stamp(self) -> str:
        """Linker flags that write the version into the binary."""
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        values = {"version": self.version, "major": major, "minor": minor}
        return " ".join(f"-X {stamp.format(**values)}" for stamp in self.stamps)

    def key(self) -> str:
        """Return a digest of everything that the binary depends on: sources, versions, flags, the Go version."""
        digest = hashlib.sha256(repr((self, go_version())).encode())
        for path in sorted(self.folder.iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:16]


# Without these kubectl and the API server report v0.0.0, and Helm refuses charts that require a version.
_KUBE_VERSION: Final = tuple(
    f"k8s.io/component-base/version.{variable}"
    for variable in ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}")
)

_KUBE_PROGRAMS: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)

MODULES: Final = (
    Module("kube", ".", KUBERNETES, _KUBE_PROGRAMS, _KUBE_VERSION),
    Module(
        "training-operator", f"{TRAINING_OPERATOR}/cmd/training-operator.v1", TRAINING_OPERATOR, ("training-operator",)
    ),
    Module("trainer", f"{TRAINER}/cmd/trainer-controller-manager", TRAINER, ("trainer",), on_demand=True),
    Module("jobset", JOBSET, JOBSET, ("jobset",), on_demand=True),
    Module("coredns", "github.com/coredns/coredns", "github.com/coredns/coredns", ("coredns",)),
    Module(
        "metrics-server",
        "sigs.k8s.io/metrics-server/cmd/metrics-server",
        "sigs.k8s.io/metrics-server",
        ("metrics-server",),
    ),
    Module("minio", "github.com/minio/minio", "github.com/minio/minio", ("minio",)),
    Module(
        "registry",
        "github.com/distribution/distribution/v3/cmd/registry",
        "github.com/distribution/distribution/v3",
        ("registry",),
    ),
    Module("helm", "helm.sh/helm/v3/cmd/helm", "helm.sh/helm/v3", ("helm",)),
    Module("helm4", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4", ("helm4",)),
    Module(
        "helm-unittest",
        "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
        "github.com/helm-unittest/helm-unittest",
        ("helm-unittest",),
    ),
    Module("helm-docs", "github.com/norwoodj/helm-docs/cmd/helm-docs", "github.com/norwoodj/helm-docs", ("helm-docs",)),
    Module("oras", "oras.land/oras/cmd/oras", "oras.land/oras", ("oras",), on_demand=True),
    Module(
        "syft",
        "github.com/anchore/syft/cmd/syft",
        "github.com/anchore/syft",
        ("syft",),
        ("main.version={version}",),
        on_demand=True,
    ),
)


def go(*arguments: str, folder: Path) -> str:
    """Run the Go command in ``folder`` and return its standard output.

    The user's GOFLAGS and workspace are ignored: a vendoring flag or a ``go.work`` above would change what is built.
    """
    binary = shutil.which("go")
    if binary is None:
        raise TestbedError(
            "The testbed is built from Go modules and there is no go on the PATH: install Go 1.26 or later."
        )
    environment = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off", "CGO_ENABLED": "0"}
    done = subprocess.run(
        [binary, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise TestbedError(f"go {' '.join(arguments[:2])} in {folder} failed: " + " | ".join(lines[-12:]))
    return done.stdout


@cache
def go_version() -> str:
    """Return Go's version, such as ``go1.26.8``."""
    return go("env", "GOVERSION", folder=SOURCES).strip()


def module_folder(path: str, version: str) -> Path:
    """Return the folder of a module's sources; download them first if necessary."""
    found = json.loads(go("mod", "download", "-json", f"{path}@{version}", folder=SOURCES / "kube"))
    return Path(found["Dir"])


def required_folder(path: str) -> Path:
    """Return the folder of a program's sources, in the version that the testbed builds."""
    return module_folder(path, next(module.version for module in MODULES if module.requires == path))


def pytorchjob_crd() -> Path:
    """Return the CustomResourceDefinition of PyTorchJob in the version of the testbed's training-operator."""
    return required_folder(TRAINING_OPERATOR) / "manifests/base/crds/kubeflow.org_pytorchjobs.yaml"


def trainjob_crds() -> tuple[Path, ...]:
    """Return the CustomResourceDefinitions of TrainJob and its runtimes, in the version of the testbed's trainer."""
    folder = required_folder(TRAINER) / "manifests/base/crds"
    return tuple(sorted(folder.glob("trainer.kubeflow.org_*.yaml")))


def jobset_crds() -> tuple[Path, ...]:
    """Return the CustomResourceDefinition of JobSet, by which the trainer runs a TrainJob."""
    return tuple(sorted((required_folder(JOBSET) / "config/components/crd/bases").glob("jobset.x-k8s.io_*.yaml")))


def keda_crd() -> Path:
    """Return the CustomResourceDefinition of KEDA's ScaledObject."""
    return module_folder(*KEDA) / "config/crd/bases/keda.sh_scaledobjects.yaml"


def openapi(version: str) -> Path:
    """Return ``swagger.json`` of a version in :data:`OPENAPI_VERSIONS`: all built-in kinds with their fields."""
    return module_folder(KUBERNETES, version) / "api/openapi-spec/swagger.json"
