"""Stage 4: the process preference model (section 3.3), from this round's policy, on preference pairs.

A scalar head on the last token, tanh to [-1, 1], trained with equation 4. Its pair accuracy on held-out problems decides
whether it may guide the next round.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rstar.rounds.guidance import PAIR_ACCURACY
from rstar.rounds.manifest import Manifest
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.stage import StageRun
from rstar.seeds import derive
from rstar.selection import PreferencePair
from rstar.store.tables import read_pairs
from rstar_jobs.errors import BadInputError
from rstar_jobs.invocation import Invocation
from rstar_jobs.processes import local_rank, micro_batch_size, process_count
from rstar_jobs.program import run
from rstar_jobs.resume import ResumeStore


def work(invocation: Invocation) -> tuple[ManifestRef, Manifest] | None:
    """Train, measure, store the checkpoint, then write the manifest (process 0)."""
    micro_batch_size(invocation.spec.train_ppm, process_count())
    manifest = invocation.load("select")
    policy = invocation.input_model("policy")
    stage = invocation.open_stage(["select", "policy"])
    if done := stage.finished():
        return done
    with tempfile.TemporaryDirectory() as folder:
        table = invocation.download("select", manifest, "pairs.parquet", Path(folder) / "pairs.parquet")
        pairs, held_out = read_pairs(table, "train"), read_pairs(table, "held_out")
    if not pairs:
        raise BadInputError(
            "there is no preference pair: no training problem has both correct and wrong trajectories; "
            "use harder or more problems, or lower select.minMargin and select.minVisits"
        )
    return _train(invocation, stage, policy, pairs, held_out)


def _train(
    invocation: Invocation,
    stage: StageRun,
    policy: Path,
    pairs: list[PreferencePair],
    held_out: list[PreferencePair],
) -> tuple[ManifestRef, Manifest] | None:
    # Imported here: they take seconds to load, and bad input must be refused before.
    import torch
    from transformers import AutoModelForSequenceClassification, set_seed

    from rstar_jobs.batches import PairCollator
    from rstar_jobs.checkpoints import finish, length_limit, load
    from rstar_jobs.encoded import EncodedPair, encode_preference
    from rstar_jobs.preference import pair_accuracy, pairwise_trainer
    from rstar_jobs.training import TrainingData, train

    spec = invocation.spec.train_ppm
    seed = derive(stage.seed, "train-ppm", invocation.spec.round)
    set_seed(seed % 2**32)  # for the new head's initial weights
    model, tokenizer = load(AutoModelForSequenceClassification, policy, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id  # the model uses it to find the last token of a row
    limit = length_limit(model, spec.max_length)

    def encode_within_limit(some: list[PreferencePair]) -> list[EncodedPair]:
        encoded = (encode_preference(tokenizer, pair) for pair in some)
        return [pair for pair in encoded if max(len(pair.chosen), len(pair.rejected)) <= limit]

    kept, measured = encode_within_limit(pairs), encode_within_limit(held_out)
    if not kept:
        raise BadInputError(f"all {len(pairs)} preference pairs are longer than {limit} tokens: raise maxLength")
    collator = PairCollator(tokenizer.pad_token_id)
    batch = micro_batch_size(spec, process_count())
    if torch.cuda.is_available() and not spec.fsdp:
        model.to(f"cuda:{local_rank()}")
    # A model that needs sharding does not fit on one device, so it cannot be measured before the trainer shards it.
    before, before_non_final = (None, None) if spec.fsdp else pair_accuracy(model, measured, collator, batch)
    lengths = [len(pair.chosen) + len(pair.rejected) for pair in kept]
    resume = ResumeStore(stage)
    trained = train(
        pairwise_trainer(spec.score_scale),
        model,
        TrainingData(kept, lengths, collator),
        spec,
        seed=seed,
        resume=resume,
        progress=invocation.progress,
    )
    after, after_non_final = pair_accuracy(trained.model, measured, collator, batch)
    metrics = {
        # The search scores steps, not whole trajectories; those are easier to rank, so they would raise the figure.
        PAIR_ACCURACY: after_non_final,
        "pair_accuracy_with_final": after,
        "pair_accuracy_before": before_non_final,
        "pair_accuracy_with_final_before": before,
        "pairs_held_out": len(measured),
        "pairs_held_out_non_final": sum(not pair.final for pair in measured),
        "dropped_too_long": len(pairs) - len(kept) + len(held_out) - len(measured),
    }
    return finish(stage, resume, trained, tokenizer, metrics)


if __name__ == "__main__":
    sys.exit(run(Stage.TRAIN_PPM, work))
