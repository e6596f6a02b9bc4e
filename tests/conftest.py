"""The order of the tests: files that take longest begin first, so that two workers end at about the same time."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.paths import ROOT

LONGEST: Final = (
    "tests/test_evolution.py",
    "tests/services/executor/test_corpus.py",
)
"""Longest first. ``make test`` gives whole files to its workers, in the order of collection."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {ROOT / path: number for number, path in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
