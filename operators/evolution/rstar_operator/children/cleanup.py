"""The Job that deletes a deleted round's artefacts: in the tenant's namespace, with the tenant's keys.

Created only when the round asks for it (``deletionPolicy: DeleteArtifacts``). The operator itself has no keys of any
object store.
"""

from __future__ import annotations

from typing import Final

from rstar.cluster.api import Json
from rstar.cluster.names import cleanup_name, labels
from rstar.rounds.cluster_spec import PodResources
from rstar_operator.children.identity import Owner, metadata
from rstar_operator.children.pod import ContainerSpec, pod_metadata, pod_spec
from rstar_operator.configuration import Configuration

_GRACE_SECONDS: Final = 10
_TRIES: Final = 6


def cleanup_job(owner: Owner, configuration: Configuration) -> Json:
    """Return the Job. The cluster repeats it with backoff: deleting twice does no harm."""
    own = labels(owner.name, "stage")
    container = ContainerSpec(
        name="cleanup",
        image=configuration.images.jobs,
        command=["python", "-m", "rstar_jobs.delete_artifacts", "--store", "$(RSTAR_STORE)", "--round", owner.name],
        resources=PodResources(cpu="100m", memory="256Mi"),
        grace=_GRACE_SECONDS,
        storage=True,
        extra={},
    )
    spec = pod_spec(owner, configuration, container) | {"restartPolicy": "Never"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(owner, cleanup_name(owner.name), own),
        "spec": {"backoffLimit": _TRIES, "template": {"metadata": pod_metadata(configuration, own), "spec": spec}},
    }
