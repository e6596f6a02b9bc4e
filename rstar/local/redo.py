"""Makes a finished stage again: deletes its output, so that the next run finds it missing.

The stages after it follow by themselves: their inputs change. Outputs for another spec or other inputs stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rstar.local.journal import Journal
from rstar.rounds.observed import STAGES, Stage
from rstar.store.digests import MANIFEST
from rstar.store.store import Store

Redo = tuple[str, Stage]
"""The name of a round, and the stage to make again."""


def parse_redo(texts: Iterable[str], names: Sequence[str]) -> list[Redo]:
    """Return the stages that ``STAGE`` (of every round of ``names``) or ``ROUND/STAGE`` mean.

    Raises ``ValueError`` for an unknown round or stage.
    """
    found: list[Redo] = []
    for text in texts:
        name, slash, stage = text.rpartition("/")
        if slash and name not in names:
            raise ValueError(f"--redo {text}: the file has no round {name!r}; it has {', '.join(names)}")
        if stage not in STAGES:
            raise ValueError(f"--redo {text}: there is no stage {stage!r}; write one of {', '.join(STAGES)}")
        found += [(each, Stage(stage)) for each in ([name] if slash else names)]
    return found


def delete_output(store: Store, name: str, stage: Stage, journal: Journal) -> int:
    """Delete the stage's output that the journal names, and what unfinished attempts stored; return the number of files.

    The manifest goes first, so that a stage with missing files never looks done.
    """
    folders: dict[str, list[str]] = {}
    start = f"rounds/{name}/{stage}/"
    for key in store.list(start):
        folder = start + key.removeprefix(start).partition("/")[0]
        folders.setdefault(folder, []).append(key)
    current = {
        attempt.output.manifest.prefix for attempt in journal.attempts if attempt.stage is stage and attempt.output
    }
    deleted = 0
    for folder, keys in folders.items():
        manifest = f"{folder}/{MANIFEST}"
        if manifest in keys and folder not in current:
            continue
        for key in sorted(keys, key=lambda key: (key != manifest, key)):
            store.delete(key)
            deleted += 1
    return deleted
