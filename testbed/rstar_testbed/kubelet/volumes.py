"""A pod's volumes as folders of this machine, and the mounts of its containers.

emptyDir, hostPath, configMap, secret, downwardAPI and projected (with tokens). They are written once, when the pod starts;
later changes of a ConfigMap or an annotation do not reach the files.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_testbed.kubelet.behaviour import Pod
from rstar_testbed.kubelet.container import Objects, data_of, expand, field, resource
from rstar_testbed.kubelet.workload import CannotStartError

IssueToken = Callable[[str, int], Awaitable[str]]
"""Audience ("" for the API server) and seconds -> a token of the pod's ServiceAccount."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine that the container sees at ``target``."""

    source: str
    target: str
    read_only: bool = False


def mounts_of(container: dict[str, Any], volumes: dict[str, Path], environment: dict[str, str]) -> list[Mount]:
    """Return the mounts of a container, outer ones before those inside them."""
    found = []
    for mount in container.get("volumeMounts", []):
        inside = expand(mount["subPathExpr"], environment) if "subPathExpr" in mount else mount.get("subPath", "")
        source = volumes[mount["name"]] / inside
        if not source.exists():
            source.mkdir(parents=True)
        found.append(Mount(str(source), mount["mountPath"].rstrip("/"), bool(mount.get("readOnly"))))
    return sorted(found, key=lambda mount: mount.target.count("/"))


class VolumeWriter:
    """Writes the volumes of one pod under ``folder``."""

    def __init__(self, pod: Pod, folder: Path, objects: Objects, address: str, issue_token: IssueToken) -> None:
        self._pod = pod
        self._folder = folder
        self._objects = objects
        self._address = address
        self._issue_token = issue_token

    async def write(self) -> dict[str, Path]:
        """Write all volumes. Return volume name -> its folder (or file, for a hostPath)."""
        return {volume["name"]: await self._write(volume) for volume in self._pod["spec"].get("volumes", [])}

    async def _write(self, volume: dict[str, Any]) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        folder = _make_folder(self._folder / str(volume["name"]))
        if "emptyDir" in volume:
            return folder
        sources = volume["projected"].get("sources", []) if "projected" in volume else [volume]
        for source in sources:
            for name, content in (await self._files(source)).items():
                _write_file(folder / name, content)
        return folder

    async def _files(self, source: dict[str, Any]) -> dict[str, bytes]:
        """Return relative path -> content."""
        if token := source.get("serviceAccountToken"):
            issued = await self._issue_token(token.get("audience", ""), token.get("expirationSeconds", 3600))
            return {token["path"]: issued.encode()}
        if downward := source.get("downwardAPI"):
            return {item["path"]: self._downward(item).encode() for item in downward.get("items", [])}
        for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
            if wanted := source.get(key):
                name = wanted.get("secretName") or wanted["name"]
                optional = bool(wanted.get("optional"))
                data = data_of(self._objects, kind, name, optional)
                if "items" not in wanted:
                    return data
                missing = [item["key"] for item in wanted["items"] if item["key"] not in data]
                if missing and not optional:
                    raise CannotStartError("ContainerCreating", f"{kind} {name} has no key {missing[0]}")
                return {item["path"]: data[item["key"]] for item in wanted["items"] if item["key"] in data}
        raise CannotStartError("ContainerCreating", f"the test kubelet has no volumes like {sorted(source)}")

    def _downward(self, item: dict[str, Any]) -> str:
        if reference := item.get("fieldRef"):
            return field(self._pod, reference["fieldPath"], self._address)
        reference = item["resourceFieldRef"]
        container = next(
            each for each in self._pod["spec"]["containers"] if each["name"] == reference.get("containerName")
        )
        return resource(container, reference["resource"])


def _make_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    return path


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
