"""Stage 4: the process preference model (section 3.3), from this round's policy, on preference pairs.

A scalar head on the last token, tanh to [-1, 1], trained with equation 4. Its pair accuracy on held-out problems decides
whether it may guide the next round. A round that asks for no PPM, or that has no pairs to train one, is done without.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rstar.rounds.manifest import Manifest
from rstar.rounds.observed import SKIPPED, ManifestRef, Stage
from rstar.rounds.pair_accuracy import PAIR_ACCURACY, PAIRS, PROBLEMS, SCORE_GAP, pair_accuracy
from rstar.rounds.stage import StageRun
from rstar.seeds import derive
from rstar.store.tables import count_rows, read_pairs
from rstar_jobs import select
from rstar_jobs.errors import BadInputError
from rstar_jobs.invocation import Invocation
from rstar_jobs.processes import is_leader, local_rank, micro_batch_size, process_count
from rstar_jobs.program import run
from rstar_jobs.resume import ResumeStore


def work(invocation: Invocation) -> tuple[ManifestRef, Manifest] | None:
    """Train, measure, store the checkpoint, then write the manifest (process 0)."""
    spec = invocation.spec
    if spec.trains_ppm:
        micro_batch_size(spec.train_ppm, process_count())
    manifest = invocation.load("select")
    invocation.load("policy")
    stage = invocation.open_stage(["select", "policy"])
    if done := stage.finished():
        return done
    if not spec.trains_ppm:
        setting = "use is never" if spec.preference_model.model is None else "model is given"
        return _finish_without(stage, f"preferenceModel.{setting}, so no PPM was trained")
    with tempfile.TemporaryDirectory(prefix="rstar-data-") as folder:
        tables = invocation.download_table("select", manifest, select.PAIRS, Path(folder))
        if not any(count_rows(table, split="train") for table in tables):
            held_out = sum(len(group.pairs) for table in tables for group in read_pairs(table, "held_out"))
            reason = _no_pairs(manifest.metrics, held_out)
            if spec.preference_model.use == "always":
                raise BadInputError(
                    f"{reason}, and preferenceModel.use is always: use harder or more problems, or auto"
                )
            return _finish_without(stage, f"{reason}, so no PPM was trained")
        return _train(invocation, stage, invocation.input_model("policy"), tables, Path(folder))


def _finish_without(stage: StageRun, reason: str) -> tuple[ManifestRef, Manifest] | None:
    """End the stage without a model; the metrics say why."""
    return stage.finish([], {SKIPPED: reason}) if is_leader() else None


def _no_pairs(selected: Mapping[str, Any], held_out: int) -> str:
    """Return why there is no pair to train on. ``selected``: the metrics of the select stage."""
    if held_out:
        return f"all {held_out} preference pairs are of held-out problems"
    easy, hard, medium = (selected.get(level, 0) for level in ("easy", "hard", "medium"))
    if medium:
        return "no pair of steps meets select.minVisits, select.minMargin and select.minEditDistance"
    return (
        "there is no preference pair, because no training problem has both correct and wrong trajectories "
        f"({easy} have only correct ones, {hard} no correct one)"
    )


def _train(
    invocation: Invocation,
    stage: StageRun,
    policy: Path,
    tables: Sequence[Path],
    folder: Path,
) -> tuple[ManifestRef, Manifest] | None:
    # Imported here: they take seconds to load, and bad input must be refused before.
    import torch
    from transformers import AutoModelForSequenceClassification, set_seed

    from rstar_jobs.batches import PairCollator
    from rstar_jobs.checkpoints import finish, length_limit, load, trajectory_tokenizer
    from rstar_jobs.encoded import PairData
    from rstar_jobs.lora import add_lora
    from rstar_jobs.preference import margins, pairwise_trainer
    from rstar_jobs.preference_head import HEAD_SLOPE, scalar_head, start_head
    from rstar_jobs.training import TrainingData, train

    spec = invocation.spec.train_ppm
    seed = derive(stage.seed, "train-ppm", invocation.spec.round)
    set_seed(seed % 2**32)  # some architectures have random layers before the head
    model, tokenizer = load(AutoModelForSequenceClassification, policy, spec, num_labels=1)
    start_head(model, seed)
    model.config.pad_token_id = tokenizer.pad_token_id  # the model uses it to find the last token of a row
    limit = length_limit(model, spec.max_length)
    encoder = trajectory_tokenizer(tokenizer)

    def encoded(split: str) -> PairData:
        (folder / split).mkdir()
        groups = (group for table in tables for group in read_pairs(table, split))
        return PairData(encoder, groups, limit, folder / split)

    pairs, held_out = encoded("train"), encoded("held_out")
    if not pairs:
        raise BadInputError(f"all {pairs.too_long} preference pairs are longer than {limit} tokens: raise maxLength")
    collator = PairCollator(tokenizer.pad_token_id)
    batch = micro_batch_size(spec, process_count())

    def measured(trained: Any) -> list[float]:
        return margins(trained, held_out, held_out.lengths, collator, batch)

    if torch.cuda.is_available() and not spec.fsdp:
        model.to(f"cuda:{local_rank()}")
    # A model that needs sharding does not fit on one device, so it cannot be measured before the trainer shards it.
    before = [] if spec.fsdp else measured(model)
    if spec.lora is not None:
        model = add_lora(model, spec.lora, seed, head=scalar_head(model))
    resume = ResumeStore(stage)
    trained = train(
        pairwise_trainer(spec.score_scale),
        model,
        TrainingData(pairs, pairs.lengths, collator),
        spec,
        seed=seed,
        resume=resume,
        progress=invocation.progress,
    )
    after = measured(trained.model)
    # The search scores inner steps; whole trajectories are easier to rank, so they would raise the figure.
    inner = [i for i in range(len(held_out)) if not held_out.is_final(i)]
    accuracy = pair_accuracy((str(held_out.problems[i]), after[i] > 0) for i in inner)
    metrics = {
        **(accuracy.metrics() if accuracy is not None else {PAIR_ACCURACY: None, PAIRS: 0, PROBLEMS: 0}),
        "pair_accuracy_with_final": _share(after),
        "pair_accuracy_before": _share([before[i] for i in inner] if before else []),
        "pair_accuracy_with_final_before": _share(before),
        "pairs_held_out": len(held_out),
        "dropped_too_long": pairs.too_long + held_out.too_long,
        SCORE_GAP: round(sum(abs(after[i]) for i in inner) / len(inner), 6) if inner else None,
        HEAD_SLOPE: next((entry[HEAD_SLOPE] for entry in trained.log if HEAD_SLOPE in entry), None),
    }
    return finish(stage, resume, trained, tokenizer, metrics)


def _share(margins: Sequence[float]) -> float | None:
    """Return the share of pairs that are ranked right; None without pairs."""
    return round(sum(margin > 0 for margin in margins) / len(margins), 6) if margins else None


if __name__ == "__main__":
    sys.exit(run(Stage.TRAIN_PPM, work))
