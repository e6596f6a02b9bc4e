"""Where things are in the repository, for tests that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).absolute().parents[2]
CHARTS: Final = ROOT / "charts"
CRD: Final = CHARTS / "rstar" / "files" / "evolutionrounds.yaml"
EVOLUTION_CRD: Final = CHARTS / "rstar" / "files" / "evolutions.yaml"
EXECUTOR_TESTS: Final = ROOT / "tests" / "services" / "executor"
