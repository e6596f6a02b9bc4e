"""Finds what the rounds of a store made: per round one finished folder of each stage, connected by their digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rstar.rounds.manifest import Manifest, digest_of, read_manifest
from rstar.rounds.observed import STAGES, Stage
from rstar.rounds.stage import read_times
from rstar.store.digests import MANIFEST
from rstar.store.store import Store


@dataclass(frozen=True, slots=True)
class MadeStage:
    """A finished stage: its folder in the store, its manifest and that one's digest; ``finished``: when, '' if unknown."""

    prefix: str
    manifest: Manifest
    digest: str
    finished: str


@dataclass(frozen=True, slots=True)
class MadeRound:
    """A round and its stages; those that have not finished are missing."""

    name: str
    stages: Mapping[Stage, MadeStage]


def made_rounds(store: Store, names: Sequence[str], left_out: list[str]) -> list[MadeRound]:
    """Return the rounds of the store, each after the one before it; ``names``: only these, () for all.

    A manifest that cannot be read is named in ``left_out``. Raises ``ValueError`` when a named round is not there.
    """
    found: dict[str, list[MadeStage]] = {}
    for prefix in [f"rounds/{name}/" for name in names] or ["rounds/"]:
        for key in store.list(prefix):
            parts = key.split("/")
            if len(parts) == 5 and parts[-1] == MANIFEST:
                try:
                    found.setdefault(parts[1], []).append(_made(store, key))
                except (ValueError, KeyError) as error:
                    left_out.append(str(error))
    for name in names:
        if name not in found:
            raise ValueError(f"the store {store.uri} has no finished stage of round {name}")
    if not found:
        raise ValueError(f"the store {store.uri} has no finished stage: run a round first")
    return _in_order([MadeRound(name, _connected(stages)) for name, stages in sorted(found.items())])


def _made(store: Store, key: str) -> MadeStage:
    data = store.read(key)
    prefix = key.removesuffix(f"/{MANIFEST}")
    finished = str(read_times(store, prefix).get("finished", ""))
    return MadeStage(prefix, read_manifest(data, key), digest_of(data), finished)


def _connected(stages: Sequence[MadeStage]) -> dict[Stage, MadeStage]:
    """Return one folder per stage: of the last stage the newest, and of earlier ones those that it was made from."""
    by_digest = {stage.digest: stage for stage in stages}
    chosen: dict[Stage, MadeStage] = {}
    for kind in reversed(STAGES):
        users = [ref.digest for user in chosen.values() for ref in user.manifest.inputs.values()]
        candidates = [stage for stage in stages if stage.manifest.stage is kind]
        used = [by_digest[digest] for digest in users if digest in by_digest and by_digest[digest] in candidates]
        if used or candidates:
            chosen[kind] = used[0] if used else max(candidates, key=lambda stage: (stage.finished, stage.prefix))
    return {kind: chosen[kind] for kind in STAGES if kind in chosen}


def _in_order(rounds: Sequence[MadeRound]) -> list[MadeRound]:
    """Sort rounds by their chain: a rollout's inputs are of the round before it."""
    before = {one.name: _previous(one) for one in rounds}

    def depth(name: str) -> int:
        seen = {name}
        count = 0
        while (earlier := before.get(name)) and earlier not in seen:
            seen.add(earlier)
            name, count = earlier, count + 1
        return count

    return sorted(rounds, key=lambda one: (depth(one.name), one.name))


def _previous(one: MadeRound) -> str | None:
    rollout = one.stages.get(Stage.ROLLOUT)
    inputs = rollout.manifest.inputs.values() if rollout is not None else ()
    return next((parts[1] for ref in inputs if len(parts := ref.key.split("/")) == 5 and parts[1] != one.name), None)
