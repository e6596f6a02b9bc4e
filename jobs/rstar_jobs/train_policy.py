"""Stage 3: SFT of the base model on the selected trajectories (section 3.3). Every round restarts from the base.

It runs under ``torchrun`` (one or many nodes) or as a plain process. The loss is on the text that the policy wrote, not
on the prompt and the inserted outputs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rstar.rounds.manifest import Manifest
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.stage import StageRun
from rstar.seeds import derive
from rstar.store.tables import count_rows, read_sft
from rstar_jobs.errors import BadInputError
from rstar_jobs.invocation import Invocation
from rstar_jobs.processes import micro_batch_size, process_count
from rstar_jobs.program import run
from rstar_jobs.resume import ResumeStore
from rstar_jobs.select import SFT, SFT_HELD_OUT


def work(invocation: Invocation) -> tuple[ManifestRef, Manifest] | None:
    """Train, store the checkpoint, then write the manifest (process 0)."""
    micro_batch_size(invocation.spec.train_policy, process_count())
    manifest = invocation.load("select")
    stage = invocation.open_stage(["select"], {"base_model": invocation.base_model_digest()})
    if done := stage.finished():
        return done
    with tempfile.TemporaryDirectory(prefix="rstar-data-") as folder:
        tables = invocation.download_table("select", manifest, SFT, Path(folder))
        if not any(map(count_rows, tables)):
            raise BadInputError(_nothing_to_imitate(manifest.metrics.get(SFT_HELD_OUT, 0)))
        return _train(invocation, stage, invocation.base_model(), tables, Path(folder))


def _nothing_to_imitate(held_out: int) -> str:
    """Return why there are no SFT examples; ``held_out`` problems were solved and measure the PPM."""
    if held_out:
        return (
            f"there is no trajectory to imitate: all solved problems ({held_out}) are held out to measure the PPM; use more "
            "problems, a smaller select.heldOutFraction, or preferenceModel.use: never"
        )
    return "there is no trajectory to imitate: no training problem was solved; use easier problems or more rollouts"


def _train(
    invocation: Invocation, stage: StageRun, base: Path, tables: Sequence[Path], folder: Path
) -> tuple[ManifestRef, Manifest] | None:
    # Imported here: they take seconds to load, and bad input must be refused before.
    from transformers import AutoModelForCausalLM, Trainer

    from rstar_jobs.batches import ExampleCollator
    from rstar_jobs.checkpoints import finish, length_limit, load, trajectory_tokenizer
    from rstar_jobs.encoded import ExampleData
    from rstar_jobs.lora import add_lora
    from rstar_jobs.markers import add_markers, as_tokens, marker_ids, missing_markers
    from rstar_jobs.training import TrainingData, train
    from rstar_jobs.training_order import training_order

    spec = invocation.spec.train_policy
    seed = derive(stage.seed, "train-policy", invocation.spec.round)
    model, tokenizer = load(AutoModelForCausalLM, base, spec)
    limit = length_limit(model, spec.max_length)

    def encoded(name: str) -> ExampleData:
        stored = (example for table in tables for example in read_sft(table))
        (folder / name).mkdir()
        examples = ExampleData(trajectory_tokenizer(tokenizer), stored, limit, folder / name)
        if not examples:
            raise BadInputError(f"all {examples.too_long} trajectories are longer than {limit} tokens: raise maxLength")
        return examples

    examples, added = encoded("text"), 0
    if missing_markers(tokenizer):
        drawn = len(training_order(examples.lengths, spec.batch_size, spec.epochs, spec.max_train_tokens, seed))
        if as_tokens(spec.markers, spec.learning_rate, drawn, spec.batch_size):
            added = add_markers(model, tokenizer)
            examples = encoded("tokens")
    data = TrainingData(examples, examples.lengths, ExampleCollator(tokenizer.pad_token_id))
    resume = ResumeStore(stage)
    if spec.lora is not None:
        model = add_lora(model, spec.lora, seed, tokens=marker_ids(tokenizer))
    trained = train(Trainer, model, data, spec, seed=seed, resume=resume, progress=invocation.progress)
    metrics = {"dropped_too_long": examples.too_long, "markers_added": added}
    return finish(stage, resume, trained, tokenizer, metrics)


if __name__ == "__main__":
    sys.exit(run(Stage.TRAIN_POLICY, work))
