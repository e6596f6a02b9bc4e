"""Commands that start ``programs.py`` instead of the platform's own programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from rstar.local.commands import Launch, StageFiles
from rstar.rounds.observed import ServiceKind, ServiceRef, StartStage
from rstar.rounds.spec import EvolutionRoundSpec

PROGRAMS = Path(__file__).with_name("programs.py")


@dataclass(frozen=True, slots=True)
class ProgramCommands:
    store: Path
    control: Path

    def service(
        self, ref: ServiceRef, port: int, ready_file: Path, upstream: Mapping[ServiceKind, Sequence[str]]
    ) -> Launch:
        command = [sys.executable, str(PROGRAMS), "service", ref.kind.value, "--control", str(self.control)]
        command += ["--ready-file", str(ready_file), "--model", ref.model.uri if ref.model else "-"]
        for kind, addresses in upstream.items():
            command += ["--upstream", f"{kind}={','.join(addresses)}"]
        return Launch(tuple(command), {})

    def stage(self, spec: EvolutionRoundSpec, start: StartStage, files: StageFiles, search: Sequence[str]) -> Launch:
        name = yaml.safe_load(files.round.read_text())["metadata"]["name"]
        command = [sys.executable, str(PROGRAMS), "stage", start.stage.value, "--control", str(self.control)]
        command += ["--store", str(self.store), "--round-name", name]
        command += ["--result", str(files.result), "--progress", str(files.progress)]
        for key, ref in start.inputs:
            command += ["--input", f"{key}={ref.key}@{ref.digest}"]
        if search:
            command += ["--search", ",".join(search)]
        return Launch(tuple(command), {})
