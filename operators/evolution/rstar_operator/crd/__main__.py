"""Prints the CRD: ``python -m rstar_operator.crd > charts/rstar/files/evolutionrounds.yaml``."""

from __future__ import annotations

from rstar_operator.crd.resource import crd_yaml

print(crd_yaml(), end="")
