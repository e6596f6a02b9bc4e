"""What a round has made, read from its store: metrics, trees, training data, evaluation, checkpoints, lineage.

Every file is compared with the digest in its manifest. Nothing is kept but checkpoints from buckets, in a cache.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from rstar.locations.errors import RoundsError, RoundsInputError
from rstar.rounds.evaluation import MethodSummary, PairedTest, ProblemResult
from rstar.rounds.observed import SKIPPED, ManifestRef, Stage

if TYPE_CHECKING:
    import pyarrow as pa

    from rstar.problem import Problem
    from rstar.record import SearchRecord
    from rstar.rounds.manifest import Manifest
    from rstar.rounds.status import RoundStatus
    from rstar.selection import PairGroup, SftExample
    from rstar.store.store import Store

T = TypeVar("T")

ModelName = Literal["policy", "ppm"]
_TRAINED_BY: Final = {"policy": Stage.TRAIN_POLICY, "ppm": Stage.TRAIN_PPM}


@dataclass(frozen=True, slots=True)
class Artefact:
    """One finished stage in a lineage: its manifest, and what it was made of.

    ``inputs``: manifests by input name; ``sources``: digests of what no stage made, such as the problems.
    """

    round: str
    stage: str
    manifest: str
    digest: str
    inputs: Mapping[str, str]
    sources: Mapping[str, str]
    seed: int
    code_version: str


@dataclass(frozen=True, slots=True)
class EvaluationResults:
    """The evaluation of a round: a ``MethodSummary`` per method, and a ``ProblemResult`` per method and problem."""

    methods: tuple[MethodSummary, ...]
    _table: pa.Table

    def __iter__(self) -> Iterator[MethodSummary]:
        return iter(self.methods)

    def __len__(self) -> int:
        return len(self.methods)

    def __getitem__(self, name: str) -> MethodSummary:
        """Return one method. Raises ``KeyError``."""
        return {method.name: method for method in self.methods}[name]

    def problems(self, method: str) -> list[ProblemResult]:
        """Return the results of one method, a problem each. Raises ``KeyError`` for an unknown method."""
        name = self[method].name
        known = [field.name for field in fields(ProblemResult)]
        rows = self._table.to_pylist()
        return [ProblemResult(**{key: row[key] for key in known}) for row in rows if row["method"] == name]

    def to_arrow(self) -> pa.Table:
        """Return a row per method and problem: method, problem_id, correct, any, tokens, nodes, error, scored."""
        return self._table

    def _repr_html_(self) -> str:
        names = ("method", "accuracy", "95 % interval", "any correct", "tokens/problem", "problems", "errors")
        head = "".join(f"<th>{name}</th>" for name in names)
        rows = "".join(
            f"<tr><td>{escape(m.name)}</td><td>{m.accuracy:.3f}</td><td>{m.low:.3f} to {m.high:.3f}</td>"
            f"<td>{m.any:.3f}</td><td>{m.tokens:,.0f}</td><td>{m.problems}</td><td>{m.errors}</td></tr>"
            for m in self.methods
        )
        return f"<table><tr>{head}</tr>{rows}</table>"


@dataclass(frozen=True, slots=True)
class StoredRound:
    """The files of a round in ``store``, by its ``status``. Every method raises ``RoundsError``."""

    name: str
    status: RoundStatus
    store: Store
    cache: Path

    def trees(self, of: str) -> Iterator[tuple[Problem, SearchRecord]]:
        """Yield the searches of the rollout, or of one method of the evaluation, shard after shard."""
        from rstar.store.tables import read_trees

        if of == Stage.ROLLOUT.value:
            return self._rows(Stage.ROLLOUT, "trees/", read_trees)
        manifest = self._manifest(Stage.EVALUATE)[1]
        found = {output.path.split("/")[1] for output in manifest.outputs if output.path.startswith("trees/")}
        if of not in found:
            known = ", ".join(["rollout", *sorted(found)])
            raise RoundsInputError(f"round {self.name} has no trees of {of!r}: use one of {known}")
        return self._rows(Stage.EVALUATE, f"trees/{of}/", read_trees)

    def examples(self) -> Iterator[SftExample]:
        """Yield the examples that the policy is trained on."""
        from rstar.store.tables import read_sft

        return self._rows(Stage.SELECT, "sft/", read_sft)

    def pairs(self, split: str) -> Iterator[PairGroup]:
        """Yield the preference pairs of the ``split`` train or held_out."""
        from rstar.store.tables import read_pairs

        if split not in {"train", "held_out"}:
            raise RoundsInputError(f"split is train or held_out, not {split!r}")
        return self._rows(Stage.SELECT, "pairs/", lambda path: read_pairs(path, split))

    def results(self) -> EvaluationResults:
        """Return the evaluation."""
        import pyarrow.parquet as pq

        manifest = self._manifest(Stage.EVALUATE)[1]
        if not any(output.path == "results.parquet" for output in manifest.outputs):
            reason = manifest.metrics.get(SKIPPED) or "its file names no methods"
            raise RoundsError(f"round {self.name} has no evaluation: {reason}")
        try:
            methods = tuple(_summary(row) for row in manifest.metrics["methods"])
        except (KeyError, TypeError) as error:
            raise RoundsError(f"the evaluation of round {self.name} is not of this version: {error}") from None
        [table] = self._rows(Stage.EVALUATE, "results.parquet", lambda path: [pq.read_table(path)])
        return EvaluationResults(methods, table)

    def checkpoint(self, model: ModelName) -> Path:
        """Return the folder of a trained model: in a folder store its place there, else in the cache by its digest."""
        from rstar.store.artifacts import fetch

        if model not in _TRAINED_BY:
            raise RoundsInputError(f"a checkpoint is of the policy or the ppm, not {model!r}")
        ref, manifest = self._manifest(_TRAINED_BY[model])
        if not manifest.folder_digest("checkpoint"):
            reason = manifest.metrics.get(SKIPPED) or "its stage wrote no checkpoint"
            raise RoundsError(f"round {self.name} has trained no {model}: {reason}")
        with _one_sentence():
            found = fetch(f"store:{ref.prefix}/checkpoint", self.store, self.cache)
        assert isinstance(found, Path)
        return found

    def lineage(self) -> tuple[Artefact, ...]:
        """Return every finished stage of the round, and all that they were made of in earlier rounds; the latest first."""
        from rstar.rounds.manifest import digest_of, read_manifest

        waiting = deque(ref for stage in reversed(Stage) if (ref := self._reference(stage)) is not None)
        found: dict[str, Artefact] = {}
        while waiting:
            ref = waiting.popleft()
            if ref.key in found:
                continue
            with _one_sentence():
                data = self.store.read(ref.key)
                manifest = read_manifest(data, ref.key)
            if digest_of(data) != ref.digest:
                raise RoundsError(f"{ref.key} has another digest than its users name: was it changed by hand?")
            found[ref.key] = Artefact(
                round=manifest.round,
                stage=manifest.stage.value,
                manifest=ref.key,
                digest=ref.digest,
                inputs={name: given.key for name, given in manifest.inputs.items()},
                sources=manifest.sources,
                seed=manifest.seed,
                code_version=manifest.code_version,
            )
            waiting += manifest.inputs.values()
        return tuple(found.values())

    def _rows(self, stage: Stage, prefix: str, read: Callable[[Path], list[T]]) -> Iterator[T]:
        """Yield what ``read`` returns for each file of a stage whose path starts with ``prefix``."""
        from rstar.rounds.stage import download_output

        ref, manifest = self._manifest(stage)

        def rows() -> Iterator[T]:
            for output in manifest.outputs:
                if output.path.startswith(prefix):
                    with TemporaryDirectory(prefix="rstar-") as folder, _one_sentence():
                        part = read(download_output(self.store, ref, manifest, output.path, Path(folder, "part")))
                    yield from part

        return rows()

    def _manifest(self, stage: Stage) -> tuple[ManifestRef, Manifest]:
        from rstar.rounds.stage import load_input

        ref = self._reference(stage)
        if ref is None:
            state = next((one.state for one in self.status.stages if one.name == stage.value), "waiting")
            raise RoundsError(f"stage {stage.value} of round {self.name} is not done: it is {state}")
        with _one_sentence():
            return ref, load_input(self.store, ref, stage)

    def _reference(self, stage: Stage) -> ManifestRef | None:
        output = next((one.output for one in self.status.stages if one.name == stage.value), None)
        return None if output is None else ManifestRef(output.manifest, output.digest)


def default_cache() -> Path:
    """Return the folder for checkpoints from buckets: ``rstar`` in XDG_CACHE_HOME or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rstar"


def _summary(row: Mapping[str, Any]) -> MethodSummary:
    known = {field.name for field in fields(MethodSummary)}
    paired = row.get("paired")
    given = {key: value for key, value in row.items() if key in known}
    return MethodSummary(**{**given, "paired": PairedTest(**paired) if paired else None})


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn what is wrong with a file or a store into a ``RoundsError``."""
    from rstar.store.store import StoreError

    try:
        yield
    except KeyError as error:
        raise RoundsError(f"{error.args[0] if error.args else error}: not in the store") from None
    except (ValueError, OSError, StoreError) as error:
        raise RoundsError(str(error)) from None
