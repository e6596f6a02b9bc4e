"""Writes the CRDs into a folder: ``python -m rstar_operator.crd charts/rstar/files``."""

from __future__ import annotations

import sys
from pathlib import Path

from rstar_operator.crd.definition import definition_yaml
from rstar_operator.crd.evolutions import evolution_crd
from rstar_operator.crd.rounds import round_crd


def main(folder: Path) -> None:
    """Write one file per kind, named by its plural."""
    for crd in (round_crd(), evolution_crd()):
        (folder / f"{crd['spec']['names']['plural']}.yaml").write_text(definition_yaml(crd), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder: python -m rstar_operator.crd charts/rstar/files")
    main(Path(sys.argv[1]))
