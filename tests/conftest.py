"""The order of the tests, and the signals that their children start with."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.paths import ROOT

LONGEST: Final = (
    "tests/test_evolution.py",
    "tests/jobs/test_training.py",
    "tests/rstar/cli/test_commands.py",
    "tests/rstar/cli/test_rounds_on_this_machine.py",
    "tests/jobs/test_searching.py",
    "tests/services/executor/test_corpus.py",
    "tests/cluster/test_operator_crashes.py",
)
"""Longest first, so that two workers end at about the same time: they get whole files in this order (Makefile)."""


@pytest.fixture(scope="session", autouse=True)
def _children_receive_sigint() -> Iterator[None]:
    """Do not ignore SIGINT: a script's background jobs start so, and the programs that tests start would inherit it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {ROOT / path: number for number, path in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
