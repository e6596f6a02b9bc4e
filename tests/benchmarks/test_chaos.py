"""The decisions of ``benchmarks.chaos``: which fault comes next, and when a disturbed chain of rounds is wrong."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.chaos import Chain, faults_of, lineage
from benchmarks.chaos_faults import MACHINES, METHODS, POD_SELECTORS, Deck, Fault
from rstar.rounds.manifest import Manifest, Output, digest_of
from rstar.rounds.observed import ManifestRef, Stage
from rstar.store.folder_store import FolderStore

EVERY_FAULT = {Fault(kind, method) for kind in POD_SELECTORS for method in METHODS} | {
    Fault(machine, "restarted") for machine in MACHINES
}


@given(st.integers(min_value=0))
def test_every_fault_comes_up_before_any_comes_again(seed: int) -> None:
    deck = Deck(seed)
    assert {deck.next(POD_SELECTORS) for _ in EVERY_FAULT} == EVERY_FAULT


@given(st.integers(min_value=0), st.lists(st.sets(st.sampled_from(sorted(POD_SELECTORS))), max_size=60))
def test_a_fault_befalls_only_what_is_there_and_the_same_seed_gives_the_same_faults(
    seed: int, present: list[set[str]]
) -> None:
    first, second = Deck(seed), Deck(seed)
    for kinds in present:
        fault = first.next(kinds)
        assert fault.kind in kinds | set(MACHINES)
        assert second.next(kinds) == fault


def write_round(store: FolderStore, content: bytes = b"trees") -> None:
    """Write a rollout with one file and a selection that read it."""
    folder = "rounds/r1/rollout/0"
    store.write(f"{folder}/trees.parquet", content)
    output = Output(path="trees.parquet", sha256=digest_of(content), size=len(content))
    rollout = Manifest(
        stage=Stage.ROLLOUT, round="r1", seed=1, spec_digest="0" * 64, sources={"problems": "p"}, outputs=(output,)
    ).to_bytes()
    store.write(f"{folder}/manifest.json", rollout)
    ref = ManifestRef(f"{folder}/manifest.json", digest_of(rollout))
    select = Manifest(stage=Stage.SELECT, round="r1", seed=1, spec_digest="0" * 64, inputs={"rollout": ref})
    store.write("rounds/r1/select/0/manifest.json", select.to_bytes())


def test_chains_of_the_same_origin_are_equal_though_their_files_differ(tmp_path: Path) -> None:
    first, second = FolderStore(tmp_path / "a"), FolderStore(tmp_path / "b")
    write_round(first)
    write_round(second, b"other trees")
    before, after = lineage(first), lineage(second)
    assert before.origins == {"r1 rollout": {"problems": "p"}, "r1 select": {"rollout": "r1 rollout"}}
    assert before.digests != after.digests
    assert faults_of(before, after, Chain(phases={"r1": "Succeeded"})) == []


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    first, second = FolderStore(tmp_path / "a"), FolderStore(tmp_path / "b")
    write_round(first)
    write_round(second)
    second.write("rounds/r1/rollout/0/trees.parquet", b"damaged")
    second.write("rounds/r1/select/1/manifest.json", second.read("rounds/r1/select/0/manifest.json"))
    chain = Chain(phases={"r1": "Failed"}, twice={"r1-select-1"}, left=["Deployment r1-policy"])
    assert faults_of(lineage(first), lineage(second), chain) == [
        "round r1 ended Failed",
        "r1 select has 2 manifests",
        "r1 rollout: trees.parquet is not the file of its manifest",
        "attempt r1-select-1 existed twice",
        "Deployment r1-policy was left behind",
    ]
