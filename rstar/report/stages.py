"""The stages that a store holds: their manifests, times and files. Reads no table.

A store may be written while it is read: a stage without a manifest is unfinished, not wrong.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from rstar.report.data import Fault
from rstar.rounds.manifest import Manifest, digest_of, read_manifest
from rstar.rounds.observed import STAGES, Stage
from rstar.rounds.stage import read_times
from rstar.store.digests import MANIFEST, RUN_TIMES
from rstar.store.store import Store, StoreError

_KEY: Final = re.compile(r"rounds/(?P<round>[^/]+)/(?P<stage>[^/]+)/(?P<folder>[^/]+)/(?P<path>.+)")


@dataclass(frozen=True, slots=True)
class StageFolder:
    """A folder of a stage. ``paths``: its files, relative to ``prefix``. ``manifest``: None while it is unfinished."""

    round: str
    stage: Stage
    prefix: str
    paths: tuple[str, ...]
    manifest: Manifest | None = None
    digest: str = ""
    times: Mapping[str, Any] = field(default_factory=dict)
    others: int = 0

    @property
    def manifest_key(self) -> str:
        """The key of the manifest."""
        return f"{self.prefix}/{MANIFEST}"

    def files(self, suffix: str, *, below: str = "") -> list[str]:
        """Return the paths of the stage's files with a suffix, sorted: by the manifest, or those that are there."""
        listed = self.paths if self.manifest is None else [output.path for output in self.manifest.outputs]
        return sorted(path for path in listed if path.endswith(suffix) and path.startswith(below))

    def sha256(self, path: str) -> str | None:
        """Return the digest that the manifest names for a file; None while the stage is unfinished."""
        return None if self.manifest is None else self.manifest.output(path).sha256


Stages = Mapping[str, Mapping[Stage, StageFolder]]
"""The folder of each stage, by round and stage; rounds are in the order in which they build on each other."""


def read_stages(store: Store, faults: list[Fault], preferred: Iterable[str] = ()) -> Stages:
    """Read the manifests below ``rounds/`` and choose one folder per stage; append to ``faults`` what cannot be read.

    ``preferred``: keys of manifests that the rounds' statuses name. Raises ``StoreError`` when the store cannot be listed.
    """
    found: dict[tuple[str, Stage, str], list[str]] = defaultdict(list)
    for key in store.list("rounds/"):
        match = _KEY.fullmatch(key)
        if match and match["stage"] in set(STAGES):
            found[match["round"], Stage(match["stage"]), match["folder"]].append(match["path"])
    candidates: dict[str, dict[Stage, list[StageFolder]]] = defaultdict(lambda: defaultdict(list))
    for (name, stage, folder), paths in sorted(found.items()):
        candidates[name][stage].append(_read_folder(store, name, stage, folder, paths, faults))
    named = set(preferred)
    return in_order({name: chosen_folders(stages, named) for name, stages in candidates.items()})


def chosen_folders(
    candidates: Mapping[Stage, Sequence[StageFolder]], preferred: Iterable[str] = ()
) -> dict[Stage, StageFolder]:
    """Return one folder per stage: changed settings leave several.

    From the last stage to the first: the folder that a chosen later stage read, else one that is ``preferred``, else
    the finished one that ended last, else the unfinished one that was worked on last.
    """
    chosen: dict[Stage, StageFolder] = {}
    read: set[str] = set()
    named = set(preferred)

    def rank(folder: StageFolder) -> tuple[bool, bool, bool, str, str]:
        key, done = folder.manifest_key, folder.manifest is not None
        last = str(folder.times.get("finished") or folder.times.get("updated", ""))
        return key in read, key in named, done, last, folder.prefix

    for stage in reversed(STAGES):
        folders = candidates.get(stage)
        if not folders:
            continue
        best = replace(max(folders, key=rank), others=len(folders) - 1)
        chosen[stage] = best
        if best.manifest is not None:
            read |= {ref.key for ref in best.manifest.inputs.values()}
    return {stage: chosen[stage] for stage in STAGES if stage in chosen}


def previous_round(stages: Mapping[Stage, StageFolder]) -> str:
    """Return the name of the round whose policy searched for this one; '' when it is the first, or not known yet."""
    rollout = stages.get(Stage.ROLLOUT)
    if rollout is None or rollout.manifest is None or "policy" not in rollout.manifest.inputs:
        return ""
    match = _KEY.fullmatch(rollout.manifest.inputs["policy"].key)
    return match["round"] if match else ""


def in_order(rounds: Mapping[str, Mapping[Stage, StageFolder]]) -> Stages:
    """Return the rounds, each after the one that it builds on; else by name, with numbers in names as numbers."""
    before = {name: previous_round(stages) for name, stages in rounds.items()}

    def depth(name: str) -> int:
        seen: list[str] = []
        while name in before and name not in seen:
            seen.append(name)
            name = before[name]
        return len(seen)

    def natural(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]

    # A round without a finished rollout names no previous one: only its name places it.
    unplaced = {name for name, stages in rounds.items() if not _rollout_done(stages)}
    return {
        name: rounds[name] for name in sorted(rounds, key=lambda name: (name in unplaced, depth(name), natural(name)))
    }


def _rollout_done(stages: Mapping[Stage, StageFolder]) -> bool:
    rollout = stages.get(Stage.ROLLOUT)
    return rollout is not None and rollout.manifest is not None


def _read_folder(
    store: Store, name: str, stage: Stage, folder: str, paths: Sequence[str], faults: list[Fault]
) -> StageFolder:
    prefix = f"rounds/{name}/{stage}/{folder}"
    manifest, digest, times = None, "", {}
    if MANIFEST in paths:
        key = f"{prefix}/{MANIFEST}"
        try:
            data = store.read(key)
            manifest, digest = read_manifest(data, key), digest_of(data)
        except (KeyError, ValueError, StoreError) as error:
            faults.append(Fault(key, "it vanished" if isinstance(error, KeyError) else str(error)))
    if RUN_TIMES in paths:
        with suppress(StoreError):  # it only adds times
            times = read_times(store, prefix)
    return StageFolder(name, stage, prefix, tuple(sorted(paths)), manifest, digest, times)
