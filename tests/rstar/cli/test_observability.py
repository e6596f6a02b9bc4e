"""Trackers and traces that cannot work are refused before a run starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rstar.cli.errors import BAD_INPUT, CommandError
from rstar.cli.run_command import run_rounds_file
from rstar.rounds import tracking
from tests.support.local.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.rounds()
    return made


def track(bench: Bench, *names: str) -> None:
    document = yaml.safe_load(bench.file.read_text())
    document["spec"]["trackers"] = list(names)
    bench.file.write_text(yaml.safe_dump(document))


def refused(bench: Bench) -> str:
    with pytest.raises(CommandError) as error:
        run_rounds_file(bench.file, str(bench.store), quiet=True)
    assert error.value.code == BAD_INPUT
    assert not (bench.store / "rounds").exists()
    return str(error.value)


def test_a_tracker_that_is_not_installed_is_one_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    track(bench, "tensorboard")
    wanted = "trackers: tensorboard is not installed: install rstar-math[tensorboard], or remove it from trackers"
    assert refused(bench) == wanted


def test_a_tracker_that_does_not_exist_is_one_sentence(bench: Bench) -> None:
    track(bench, "comet")
    assert "spec.trackers[0]" in refused(bench)


def test_an_exporter_of_traces_that_does_not_exist_is_one_sentence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    assert refused(bench) == "OTEL_TRACES_EXPORTER is 'zipkin': use otlp, console or none"
