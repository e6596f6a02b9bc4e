"""A container's command and environment as Kubernetes makes them. Pure: the caller fetches Secrets and ConfigMaps.

``$(NAME)`` in a command, an argument or a value is replaced if NAME is known, and left as it is otherwise; ``$$`` is a
dollar sign.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from rstar_testbed.kubelet.behaviour import Pod
from rstar_testbed.kubelet.workload import CannotStartError

Objects = Mapping[tuple[str, str], dict[str, Any]]
"""Kind ("Secret", "ConfigMap") and name -> the object."""

_REFERENCE: Final = re.compile(r"\$(?:\$|\(([^)]*)\))")
_MAP_KEY: Final = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value."""

    def replacement(found: re.Match[str]) -> str:
        if found.group() == "$$":
            return "$"
        return environment.get(found.group(1), found.group())

    return _REFERENCE.sub(replacement, text)


def field(pod: Pod, path: str, address: str) -> str:
    """Return the value of a downward API field."""
    metadata, spec = pod["metadata"], pod["spec"]
    if found := _MAP_KEY.match(path):
        return str(metadata.get(found.group(1), {}).get(found.group(2), ""))
    if path in ("metadata.labels", "metadata.annotations"):
        entries = metadata.get(path.removeprefix("metadata."), {})
        return "\n".join(f'{key}="{value}"' for key, value in sorted(entries.items()))
    values = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": "127.0.0.1",
        "status.podIP": address,
        "status.podIPs": address,
    }
    if path not in values:
        raise CannotStartError("CreateContainerConfigError", f"the test kubelet knows no field {path}")
    return str(values[path])


def resource(container: dict[str, Any], path: str) -> str:
    """Return a resource field such as ``limits.cpu``, as it is written in the container."""
    kind, _, name = path.partition(".")
    return str(container.get("resources", {}).get(kind, {}).get(name, "0"))


def data_of(objects: Objects, kind: str, name: str, optional: bool) -> dict[str, bytes]:
    """Return all keys of a Secret or ConfigMap; empty where it is missing and optional."""
    found = objects.get((kind, name))
    if found is None:
        if optional:
            return {}
        raise CannotStartError("CreateContainerConfigError", f'{kind.lower()} "{name}" not found')
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}
    plain = {key: value.encode() for key, value in found.get("data", {}).items()}
    return plain | {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}


def _value_from(
    pod: Pod, container: dict[str, Any], source: dict[str, Any], objects: Objects, address: str
) -> str | None:
    if reference := source.get("fieldRef"):
        return field(pod, reference["fieldPath"], address)
    if reference := source.get("resourceFieldRef"):
        return resource(container, reference["resource"])
    for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if reference := source.get(key):
            optional = bool(reference.get("optional"))
            data = data_of(objects, kind, reference["name"], optional)
            if reference["key"] in data:
                return data[reference["key"]].decode()
            if optional:
                return None
            message = f"couldn't find key {reference['key']} in {kind} {reference['name']}"
            raise CannotStartError("CreateContainerConfigError", message)
    raise CannotStartError("CreateContainerConfigError", f"the test kubelet knows no value from {sorted(source)}")


def environment_of(pod: Pod, container: dict[str, Any], objects: Objects, address: str) -> dict[str, str]:
    """Return a container's environment: ``envFrom``, then ``env`` in order; a value may refer to the variables before it."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        prefix = source.get("prefix", "")
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if reference := source.get(key):
                data = data_of(objects, kind, reference["name"], bool(reference.get("optional")))
                found |= {prefix + name: value.decode() for name, value in data.items()}
    for entry in container.get("env", []):
        if source := entry.get("valueFrom"):
            value = _value_from(pod, container, source, objects, address)
            if value is not None:
                found[entry["name"]] = value
        else:
            found[entry["name"]] = expand(entry.get("value", ""), found)
    return found


def command_of(container: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Return command and arguments of a container. It must name a command: there is no image with an entry point."""
    if not container.get("command"):
        message = f"container {container['name']} has no command; the test kubelet knows no image's entry point"
        raise CannotStartError("CreateContainerError", message)
    return [expand(word, environment) for word in [*container["command"], *container.get("args", [])]]


def referenced(pod: Pod) -> set[tuple[str, str]]:
    """Return kind and name of every Secret and ConfigMap that the pod's containers and volumes refer to."""
    found: set[tuple[str, str]] = set()
    for container in pod["spec"]["containers"]:
        for source in container.get("envFrom", []):
            found |= {("Secret", each["name"]) for each in [source.get("secretRef")] if each}
            found |= {("ConfigMap", each["name"]) for each in [source.get("configMapRef")] if each}
        for entry in container.get("env", []):
            source = entry.get("valueFrom", {})
            found |= {("Secret", each["name"]) for each in [source.get("secretKeyRef")] if each}
            found |= {("ConfigMap", each["name"]) for each in [source.get("configMapKeyRef")] if each}
    for volume in pod["spec"].get("volumes", []):
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "secret" in source:
                found.add(("Secret", source["secret"].get("secretName") or source["secret"]["name"]))
            if "configMap" in source:
                found.add(("ConfigMap", source["configMap"]["name"]))
    return found
