"""The programs of docs/sdk.md and the notebook of the examples run from top to bottom, on a round with tiny models."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.test_docs import FENCE
from tests.rstar.sdk.small_round import finished_round
from tests.support.jobs.coordinator import coordinator
from tests.support.paths import ROOT
from tests.support.scripted import ClosenessModel, DigitPolicy
from tests.support.tiny_model import save_policy, save_ppm

NOTEBOOKS = sorted((ROOT / "examples").rglob("*.ipynb"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``out/game24`` with a store whose round has real models that know nothing."""
    folder = tmp_path_factory.mktemp("guide") / "out" / "game24"
    folder.mkdir(parents=True)
    models = save_policy("llama", folder / "policy"), save_ppm("llama", folder / "ppm")
    finished_round(folder, *models)
    return folder / "store"


@pytest.fixture
def search() -> Iterator[str]:
    """The address of a coordinator in another thread."""
    loop, found, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    address = ""

    async def serve() -> None:
        nonlocal address
        async with coordinator(DigitPolicy(), ClosenessModel(20)) as address:
            found.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    assert found.wait(60)
    yield address
    loop.call_soon_threadsafe(ended.set)
    thread.join(60)
    loop.close()


@pytest.mark.slow
@pytest.mark.timeout(600)  # models load within minutes on a busy machine
def test_the_programs_of_the_guide_run(store: Path, search: str) -> None:
    blocks = [text for language, text in FENCE.findall((ROOT / "docs/sdk.md").read_text()) if language == "python"]
    assert len(blocks) == 4
    program = "\n".join(blocks).replace("localhost:50054", search)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=store.parents[2],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "r1 Succeeded 1.0" in done.stdout
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)  # models load within minutes on a busy machine
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_notebook_runs_from_top_to_bottom(path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTAR_STORE", str(store))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    book = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(book, timeout=500, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    shown = "".join(str(output) for cell in book.cells for output in cell.get("outputs", []))
    assert "text/html" in shown
    assert "image/png" in shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_notebook_is_kept_without_its_outputs(path: Path) -> None:
    book = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert cells
    for cell in cells:
        assert (cell.outputs, cell.execution_count, cell.metadata) == ([], None, {}), "clear all outputs, and save"


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS
