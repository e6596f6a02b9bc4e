"""The site of docs/: every link of a page leads to a page of the site, and nothing comes from another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Strict: a link without a target is an error.
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_a_page_of_docs_links_to_the_page_of_the_code_that_it_names(site: Path) -> None:
    page = (site / "concepts.html").read_text()
    assert 'href="repository/rstar/search/tree.py.html"' in page
    assert "class" in (site / "repository/rstar/search/tree.py.html").read_text()


def test_the_readme_is_the_first_page(site: Path) -> None:
    assert 'href="architecture.html"' in (site / "index.html").read_text()


def test_the_reference_has_the_docstring_of_a_public_function(site: Path) -> None:
    assert "A search ended before its time." in (site / "api.html").read_text()


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]+src=\"?(?:https?:)?//|<link[^>]+stylesheet[^>]+href=\"?(?:https?:)?//"
    )
    for page in site.rglob("*.html"):
        assert not loaded.search(page.read_text()), page


def test_the_search_finds_words_of_the_services_pages(site: Path) -> None:
    assert "seccomp" in (site / "search/search_index.json").read_text()
