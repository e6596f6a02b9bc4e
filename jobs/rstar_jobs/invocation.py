"""What one run of a stage program works on: its round, its store, and its inputs, each checked against its digest.

Every fault of an input is a ``BadInputError`` with one sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rstar.hub_name import SCHEME, HubKind
from rstar.models.prompt_file import few_shot_file
from rstar.problem import Problem
from rstar.readers import Reading
from rstar.rounds.manifest import Manifest, canonical, digest_of
from rstar.rounds.observed import STAGE_INPUTS, ManifestRef, Stage
from rstar.rounds.problems import read_problems_of
from rstar.rounds.problems_spec import ProblemsSpec
from rstar.rounds.spec import EvolutionRound, EvolutionRoundSpec
from rstar.rounds.stage import StageRun, download_output, load_input, stage_settings
from rstar.store.artifacts import fetch, fetch_model
from rstar.store.digests import checkpoint_digest
from rstar.store.revisions import is_on_hub, pinned
from rstar.store.store import Store
from rstar_jobs.errors import BadInputError
from rstar_jobs.progress import Progress
from rstar_jobs.run_times import RunTimes

INPUT_STAGES: Final = {name: stage for inputs in STAGE_INPUTS.values() for name, stage in inputs.items()}
"""Which stage wrote an input, by the input's name."""

CHECKPOINT: Final = "checkpoint"
"""A training stage stores its model in this folder, in Hugging Face's format."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of a stage. ``inputs``: manifests by input name; ``search``: addresses of search coordinators."""

    stage: Stage
    round: EvolutionRound
    store: Store
    inputs: Mapping[str, ManifestRef]
    search: tuple[str, ...]
    cache: Path
    progress: Progress
    times: RunTimes

    @property
    def spec(self) -> EvolutionRoundSpec:
        """The round's spec."""
        return self.round.spec

    def open_stage(self, inputs: Iterable[str] = (), sources: Mapping[str, str] | None = None) -> StageRun:
        """Begin the stage on the named inputs and on ``sources``: digests of what comes from outside the stages."""
        stage = StageRun(
            self.store,
            self.round.name,
            self.stage,
            self.spec.seed,
            stage_settings(self.spec, self.stage),
            {name: self.need(name) for name in inputs},
            sources or {},
        )
        self.times.begin(stage)
        return stage

    def need(self, name: str) -> ManifestRef:
        """Return an input. Raises ``BadInputError`` when it was not given."""
        if name not in self.inputs:
            raise BadInputError(f"the input {name} is missing: give --input {name}=KEY@DIGEST")
        return self.inputs[name]

    def load(self, name: str) -> Manifest:
        """Return an input's manifest. Raises ``BadInputError`` when it is missing or does not match its digest."""
        if name not in INPUT_STAGES:
            raise BadInputError(f"there is no input {name}: known are {', '.join(INPUT_STAGES)}")
        try:
            return load_input(self.store, self.need(name), INPUT_STAGES[name])
        except ValueError as error:
            raise BadInputError(str(error)) from None

    def download(self, name: str, manifest: Manifest, path: str, target: Path) -> Path:
        """Copy a file of an input to ``target``. Raises ``BadInputError`` when it does not match its manifest."""
        try:
            return download_output(self.store, self.need(name), manifest, path, target)
        except ValueError as error:
            raise BadInputError(str(error)) from None

    def download_table(self, name: str, manifest: Manifest, table: str, folder: Path) -> list[Path]:
        """Copy the shards of a table of an input to ``folder``, in order; raises as ``download`` does.

        A stage stores at least one shard of each of its tables: without one, an earlier version made it.
        """
        shards = sorted(output.path for output in manifest.outputs if output.path.startswith(f"{table}/"))
        if not shards:
            raise BadInputError(
                f"the input {name} has no table {table}/: an earlier version made it; make it again, with "
                f"rstar run FILE --redo {self.round.name}/{manifest.stage}, or as a round of another name"
            )
        return [self.download(name, manifest, path, folder / path) for path in shards]

    def problems(self, spec: ProblemsSpec) -> Reading:
        """Return the problems of all data sets of ``spec``, in order. Raises ``BadInputError``."""
        try:
            return read_problems_of(spec, self.store, self.cache, self._pinned_data_set)
        except (ValueError, OSError) as error:
            raise BadInputError(str(error)) from None

    def base_model_digest(self) -> str:
        """Return the digest of the spec's base model, ``hf:NAME@COMMIT`` on the hub. Raises ``BadInputError``."""
        return self._model_digest(self.spec.base_model)

    def base_model(self) -> Path:
        """Return a local folder with the spec's base model. Raises ``BadInputError``."""
        try:
            return fetch_model(self._pinned(self.spec.base_model, "model"), self.store, self.cache)
        except (ValueError, OSError) as error:
            raise BadInputError(str(error)) from None

    def hub_commits(self, *problems: ProblemsSpec | None, models: bool = False) -> dict[str, str]:
        """Return the commit of each name on the hub, by the URI in the spec. Raises ``BadInputError``.

        The first call of the round fixes them (``rstar.store.revisions``).
        """
        uris: list[tuple[str, HubKind]] = [(uri, "model") for uri in self._models()] if models else []
        uris += [(source.uri, "dataset") for given in problems if given is not None for source in given.sources()]
        return {uri: self._pinned(uri, kind).rpartition("@")[2] for uri, kind in uris if is_on_hub(uri, kind)}

    def searching_model(self) -> dict[str, str]:
        """Return the digest of the policy that searches when no stage made it, by its name among the sources.

        An endpoint's is its model's name there: neither its address nor its key says which model it is. Raises
        ``BadInputError``.
        """
        other = self.spec.rollout.policy
        if other is None:
            return {"base_model": self.base_model_digest()}
        if other.model is None:
            return {"rollout_policy": f"endpoint:{other.name}"}
        return {"rollout_policy": self._model_digest(other.model)}

    def given_ppm(self) -> dict[str, str]:
        """Return the digest of the process reward model that the round names, as far as it does, with its convention.

        Raises ``BadInputError``.
        """
        given = self.spec.preference_model.model
        if given is None:
            return {}
        return {"preference_model": f"{given.convention}:{self._model_digest(given.uri)}"}

    def prompt_parts(self) -> dict[str, str]:
        """Return the digests of the user's few-shot prompt and of an endpoint's tokenizer, as far as they are given.

        Raises ``BadInputError``.
        """
        rollout, found = self.spec.rollout, {}
        if rollout.prompt_file is not None:
            try:
                text = few_shot_file(rollout.prompt_file, self.store, self.cache)
            except (ValueError, OSError) as error:
                raise BadInputError(f"rollout.promptFile: {error}") from None
            found["prompt_file"] = digest_of(text.encode())
        if rollout.policy is not None and rollout.policy.tokenizer is not None:
            uri = rollout.policy.tokenizer
            found["tokenizer"] = self._model_digest(uri)
        return found

    def input_model(self, name: str) -> Path:
        """Return a local folder with the model of the input ``name``. Raises ``BadInputError``."""
        expected = self.load(name).folder_digest(CHECKPOINT)
        folder = Path(self._fetch(f"store:{self.need(name).prefix}/{CHECKPOINT}"))
        if checkpoint_digest(folder) != expected:
            raise BadInputError(f"{folder} does not match its manifest: was it changed by hand?")
        return folder

    def _models(self) -> list[str]:
        """Return the models that the round names: the base model, those of ``rollout.policy``, and the given PPM."""
        other, ppm = self.spec.rollout.policy, self.spec.preference_model.model
        uris = [self.spec.base_model]
        uris += [uri for uri in (other.model, other.tokenizer) if uri is not None] if other is not None else []
        return uris + ([ppm.uri] if ppm is not None else [])

    def _model_digest(self, uri: str) -> str:
        place = self._fetch(self._pinned(uri, "model"))
        return checkpoint_digest(place) if isinstance(place, Path) else f"{SCHEME}{place}"

    def _pinned_data_set(self, uri: str) -> str:
        return pinned(uri, "dataset", self.store, self.round.name)

    def _pinned(self, uri: str, kind: HubKind) -> str:
        try:
            return pinned(uri, kind, self.store, self.round.name)
        except ValueError as error:
            raise BadInputError(str(error)) from None

    def _fetch(self, uri: str) -> Path | str:
        try:
            return fetch(uri, self.store, self.cache)
        except (ValueError, FileNotFoundError) as error:
            raise BadInputError(str(error)) from None


def problems_digest(problems: list[Problem]) -> str:
    """Return the sha256 over the problems. It does not depend on the file's place."""
    return digest_of(canonical({"problems": [asdict(problem) for problem in problems]}))
