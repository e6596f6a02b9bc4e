"""The project's images in a testbed's registry, and the values by which a chart uses them."""

from __future__ import annotations

from collections.abc import Mapping


def image_values(images: Mapping[str, str]) -> list[str]:
    """Return Helm's options for images given as ``HOST:PORT/rstar/NAME:TAG@DIGEST`` by name."""
    options = []
    for name, full in images.items():
        registry, _, rest = full.partition("/")
        options += [f"--set=images.registry={registry}", f"--set=images.{name}.tag={rest.partition(':')[2]}"]
    return options
