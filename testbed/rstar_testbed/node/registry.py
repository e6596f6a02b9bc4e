"""A registry of images on the machine, from which the node pulls as any cluster does.

Its data stay in the cache: a testbed that starts again pushes what changed only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from rstar_testbed.binaries import cache_folder
from rstar_testbed.processes import Component, answers

PORT: Final = 5000
_SECONDS: Final = 30.0


def registry_data() -> Path:
    """Return the folder of the images of nodes."""
    return cache_folder() / "registry"


class Registry:
    """A running registry at ``address``, which is ``HOST:PORT``, with its images in the folder ``data``."""

    def __init__(self, folder: Path, binary: Path, address: str, data: Path) -> None:
        self.address = address
        data.mkdir(parents=True, exist_ok=True)
        configuration = folder / "registry.json"  # JSON is YAML.
        configuration.write_text(json.dumps(_configuration(data, self.address)))
        self._component = Component("registry", [binary, "serve", configuration], folder / "logs/registry.log")

    def wait(self) -> None:
        """Return when it answers."""
        self._component.wait_until(lambda: answers(f"http://{self.address}/v2/"), _SECONDS)

    def stop(self) -> None:
        """Kill it."""
        self._component.stop()


def _configuration(data: Path, address: str) -> dict[str, object]:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
