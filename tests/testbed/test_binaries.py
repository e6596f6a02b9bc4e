"""Programs are built once, appear in the cache complete, and are built again after a change of their sources."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rstar_testbed import modules
from rstar_testbed.binaries import Binaries, build, cache_folder
from rstar_testbed.errors import TestbedError
from rstar_testbed.modules import MODULES, OPENAPI_VERSIONS, SOURCES, Module, go

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")

TINY = Module("tiny", ".", "example.org/nothing", ("tiny", "other"))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a module of one small program; the cache is empty."""
    folder = tmp_path / "sources/tiny"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(
        "module tiny\n\ngo 1.21\n\nrequire example.org/nothing v1.2.3\n\nreplace example.org/nothing => ../nothing\n"
    )
    (folder / "main.go").write_text('package main\n\nfunc main() { print("one") }\n')
    nothing = folder.parent / "nothing"
    nothing.mkdir()
    (nothing / "go.mod").write_text("module example.org/nothing\n\ngo 1.21\n")
    monkeypatch.setattr(modules, "SOURCES", folder.parent)
    monkeypatch.setenv("RSTAR_TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GOFLAGS", "-mod=vendor")
    return folder


def _output_of(folder: Path, name: str = "tiny") -> str:
    return subprocess.run([folder / name], capture_output=True, text=True, check=True).stderr


@needs_go
def test_two_concurrent_builders_build_once(tiny: Path) -> None:
    messages: list[str] = []
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: build(TINY, messages.append), range(2))
    assert first == second
    assert (_output_of(first), _output_of(first, "other")) == ("one", "one")
    assert len([line for line in messages if line.startswith("building")]) == 1


@needs_go
def test_a_change_of_the_sources_builds_again_and_leaves_the_old_program(tiny: Path) -> None:
    first = build(TINY)
    (tiny / "main.go").write_text('package main\n\nfunc main() { print("two") }\n')
    assert (_output_of(build(TINY)), _output_of(first)) == ("two", "one")


@needs_go
def test_a_build_that_fails_leaves_nothing_in_the_cache(tiny: Path) -> None:
    (tiny / "main.go").write_text("package main\n\nfunc main() { nonsense }\n")
    with pytest.raises(TestbedError, match="nonsense"):
        build(TINY)
    assert [path.name for path in cache_folder().iterdir()] == ["tiny.lock"]


def test_without_go_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TestbedError, match=r"no go on the PATH: install Go"):
        go("version", folder=SOURCES)


def test_an_unknown_program_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Binaries()["nonsense"]


def test_every_module_pins_what_it_builds() -> None:
    for module in MODULES:
        assert module.version.startswith("v")
        assert (module.folder / "go.sum").exists()


def test_all_parts_of_kubernetes_are_of_the_version_that_charts_are_checked_against() -> None:
    kube = next(module for module in MODULES if module.name == "kube")
    assert kube.version == OPENAPI_VERSIONS[-1]
    replaced = re.findall(r"^\s*k8s\.io/\S+ => k8s\.io/\S+ (v\S+)", (kube.folder / "go.mod").read_text(), re.MULTILINE)
    assert len(replaced) > 20
    assert set(replaced) == {kube.version.replace("v1.", "v0.", 1)}
