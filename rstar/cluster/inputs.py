"""Uploads the local problem files and base models of a submitted round, because pods read from the store only.

Keys contain the digest of the contents. The same file is uploaded once for all users, and a changed file never
replaces the file of another round. Nothing is deleted.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rstar.cluster.api import Cluster, Kind, NotFoundError
from rstar.rounds.problems_spec import ProblemsSpec
from rstar.rounds.spec import EvolutionRound, RolloutSpec
from rstar.store.digests import checkpoint_digest, file_digest, files_of
from rstar.store.store import Store

if TYPE_CHECKING:
    from rstar.store.s3_store import S3Store

SECRETS: Final = Kind("/api/v1", "secrets")
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Input:
    """A local file or folder, and its key in the store."""

    path: Path
    key: str


def is_local(uri: str) -> bool:
    """Return whether ``uri`` is a path on this machine."""
    return not uri.startswith(("store:", "hf:"))


def local_paths(item: EvolutionRound) -> list[str]:
    """Return the paths on this machine that a round names."""
    spec = item.spec
    all_problems = [spec.problems, *([spec.evaluate.problems] if spec.evaluate.problems else [])]
    ppm = spec.preference_model.model
    uris = [
        spec.base_model,
        *([ppm.uri] if ppm is not None else []),
        *_of_rollout(spec.rollout),
        *(source.uri for problems in all_problems for source in problems.sources()),
    ]
    return [uri for uri in uris if is_local(uri)]


def with_store_uris(item: EvolutionRound, known: dict[str, Input] | None = None) -> tuple[EvolutionRound, list[Input]]:
    """Return the round with ``store:`` URIs instead of local paths, and the inputs to upload. Raises ``OSError``.

    ``known`` keeps the inputs by path from one round to the next: a model takes seconds per gigabyte to digest.
    """
    known = {} if known is None else known
    for uri in local_paths(item):
        if uri not in known:
            known[uri] = _input(Path(uri))
    inputs = {uri: known[uri] for uri in local_paths(item)}
    if not inputs:
        return item, []

    def store_uri(uri: str) -> str:
        return f"store:{inputs[uri].key}" if uri in inputs else uri

    def problems(given: ProblemsSpec) -> ProblemsSpec:
        if given.uri is not None:
            return given.model_copy(update={"uri": store_uri(given.uri)})
        # The names come from the paths, which change here, and ids begin with them.
        sets = tuple(
            one.model_copy(update={"uri": store_uri(one.uri), "name": source.name})
            for one, source in zip(given.sets, given.sources(), strict=True)
        )
        return given.model_copy(update={"sets": sets})

    spec = item.spec
    update: dict[str, object] = {"base_model": store_uri(spec.base_model), "problems": problems(spec.problems)}
    if _of_rollout(spec.rollout):
        update["rollout"] = _moved_rollout(spec.rollout, store_uri)
    if (ppm := spec.preference_model.model) is not None:
        moved = ppm.model_copy(update={"uri": store_uri(ppm.uri)})
        update["preference_model"] = spec.preference_model.model_copy(update={"model": moved})
    if spec.evaluate.problems is not None:
        update["evaluate"] = spec.evaluate.model_copy(update={"problems": problems(spec.evaluate.problems)})
    return item.model_copy(update={"spec": spec.model_copy(update=update)}), list(inputs.values())


def _of_rollout(rollout: RolloutSpec) -> list[str]:
    """Return the URIs that a rollout names: of a model, a tokenizer and a prompt."""
    found = [rollout.prompt_file]
    if rollout.policy is not None:
        found += [rollout.policy.model, rollout.policy.tokenizer]
    return [uri for uri in found if uri is not None]


def _moved_rollout(rollout: RolloutSpec, store_uri: Callable[[str], str]) -> RolloutSpec:
    """Return the rollout with every URI replaced; what is unset stays unset."""
    update: dict[str, object] = {}
    if rollout.prompt_file is not None:
        update["prompt_file"] = store_uri(rollout.prompt_file)
    if rollout.policy is not None:
        uris = {"model": rollout.policy.model, "tokenizer": rollout.policy.tokenizer}
        moved = {key: store_uri(uri) for key, uri in uris.items() if uri is not None}
        update["policy"] = rollout.policy.model_copy(update=moved)
    return rollout.model_copy(update=update)


def upload(inputs: Iterable[Input], store: Store, report: Callable[[str], None]) -> None:
    """Upload the files that the store lacks; ``report`` is called with one line per input. Raises ``StoreError``."""
    for item in inputs:
        files = files_of(item.path) if item.path.is_dir() else [("", item.path)]
        keys = {f"{item.key}/{relative}" if relative else item.key: path for relative, path in files}
        missing = {key: path for key, path in keys.items() if not store.exists(key)}
        if missing:
            report(f"uploading {item.path} to store:{item.key} ({_size(missing.values())})")
        for key, path in missing.items():
            store.upload(key, path)


def namespace_store(cluster: Cluster, namespace: str, secret: str, environment: Mapping[str, str]) -> S3Store:
    """Open the namespace's store with the keys in its Secret.

    RSTAR_S3_ENDPOINT of ``environment`` overrides the Secret's: outside the cluster a store often has another address.
    Raises ``ClusterError`` when the Secret may not be read, ``ValueError`` when it names no store, ``StoreError``.
    """
    from rstar.store.s3_store import S3Store

    found = cluster.get(SECRETS, namespace, secret)
    if found is None:
        raise NotFoundError(f'secrets "{secret}" not found', 404, "NotFound")
    settings = {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}
    if endpoint := environment.get("RSTAR_S3_ENDPOINT"):
        settings["RSTAR_S3_ENDPOINT"] = endpoint
    if "RSTAR_STORE" not in settings:
        raise ValueError(f"Secret {secret} in namespace {namespace} has no RSTAR_STORE=s3://BUCKET/PREFIX")
    return S3Store.from_environment(settings["RSTAR_STORE"], settings)


def _input(path: Path) -> Input:
    digest = checkpoint_digest(path) if path.is_dir() else file_digest(path)
    return Input(path, f"inputs/{digest[:_DIGITS]}/{path.resolve().name}")


def _size(paths: Iterable[Path]) -> str:
    size = float(sum(path.stat().st_size for path in paths))
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
