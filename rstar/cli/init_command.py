"""``rstar init FILE``: writes a commented evolution for one's own problems, to be edited and run.

It writes one file and reads nothing; ``rstar plan`` and ``rstar run`` check what the file says.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from rstar.cli.errors import CommandError

TEMPLATE: Final = """\
# An evolution: rounds of search, selection, training and evaluation, each from the one before it.
#
#   rstar plan {file}                     what it will need: tokens, hours, memory, storage
#   rstar run {file} --store out/{name}   on this machine; the same command continues it
#   rstar submit {file} -n NAMESPACE      on a cluster; local files are uploaded
#
# Settings that are left out are the paper's (arXiv 2501.04519) for each round. Every key: docs/spec.md.
apiVersion: rstar.dev/v1alpha1
kind: Evolution
metadata: {{name: {name}}}
spec:
  rounds: 4
  template:
    seed: 0
    baseModel: {model}  # a folder, hf:ORG/NAME, or store:PATH
    problems: {{uri: {problems}, format: {form}}}  # with limit: 200 for a first try
    verifier: math-verify  # how answers are compared; exact, countdown, or a plug-in
    rollout:
      # prompt: chat  # round 1, for an instruct model: the few-shot prompt in its chat template
      concurrency: 32  # problems searched at once: more keep a GPU busy, and take memory
      # search: {{rollouts: 8, candidates: 4, maxDepth: 8, maxNewTokens: 256}}  # cheaper than the paper's
    trainPolicy: &training
      microBatchSize: 2  # sequences in memory at once; batchSize stays
      # precision: bfloat16  # on a GPU
      # gradientCheckpointing: true  # less memory, a third slower
      # lora: {{rank: 32}}  # trains few weights, for models that do not fit otherwise
    trainPpm: *training
    evaluate:
      problems: {{uri: {held_out}, format: {form}, split: test}}  # none of them may be a training problem
      methods:  # the same tokens for all: compare methods by what they cost
        - {{name: greedy, method: greedy}}
        - {{name: majority-8, method: majority, rollouts: 8}}
        - {{name: best-of-8, method: best_of_n, rollouts: 8, guidance: ppm}}
        - {{name: mcts+ppm, method: mcts, guidance: ppm, rollouts: 8, candidates: 4}}
    # services: {{policy: {{engine: vllm, dtype: bfloat16}}}}  # with a GPU
    # cluster: {{resources: {{policy: {{gpus: 1, memory: 32Gi}}, trainPolicy: {{gpus: 1, memory: 64Gi}}}}}}
  # perRound:  # what differs in a round; null removes a key of the template
  #   - {{round: 1, spec: {{rollout: {{policy: {{model: hf:ORG/LARGE-MODEL}}}}}}}}
  # stopWhen: {{coverageGainBelow: 0.01}}  # no further round after one that solved hardly more problems
"""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)],
    name: Annotated[
        str | None, typer.Option(help="Name of the evolution; unset: made from FILE's.", show_default=False)
    ] = None,
    base_model: Annotated[
        str, typer.Option(help="The model to start from: a folder, hf:ORG/NAME, or store:PATH.")
    ] = "hf:Qwen/Qwen2.5-Math-1.5B",
    problems: Annotated[
        str, typer.Option(help="The training problems: a file, hf:ORG/NAME, or store:PATH.")
    ] = "problems.jsonl",
    held_out: Annotated[str, typer.Option(help="The problems of the evaluation, likewise.")] = "held-out.jsonl",
    format: Annotated[str, typer.Option(help="Form of the problems: jsonl, gsm8k, math or countdown.")] = "jsonl",
) -> None:
    """Write a commented file for your own problems: four rounds with the paper's settings, to be edited.

    FILE must not exist. Nothing is checked yet: `rstar plan FILE` reads the problems and estimates the rounds.

    For example:

    - `rstar init mine.yaml --problems train.jsonl --held-out test.jsonl --base-model models/base`
    - `rstar init gsm8k.yaml --problems hf:openai/gsm8k/main --held-out hf:openai/gsm8k/main --format gsm8k`
    """
    from rstar.readers.collect import check_format
    from rstar.rounds.evolution_spec import EVOLUTION_NAME_LENGTH
    from rstar.rounds.spec import NAME_PATTERN

    chosen = name or re.sub(r"^[^a-z]+|-+$", "", re.sub(r"[^a-z0-9]+", "-", file.stem.lower()))[:EVOLUTION_NAME_LENGTH]
    if not re.fullmatch(NAME_PATTERN, chosen) or len(chosen) > EVOLUTION_NAME_LENGTH:
        raise CommandError(
            f"--name: {chosen!r} is no name of an evolution: small letters, digits and '-', at most "
            f"{EVOLUTION_NAME_LENGTH} characters, a letter first"
        )
    try:
        check_format(format)
    except ValueError as error:
        raise CommandError(f"--format: {error}") from None
    uris = {"model": base_model, "problems": problems, "held_out": held_out}
    # JSON text is YAML too, whatever characters a path has.
    quoted = {key: json.dumps(uri, ensure_ascii=False) for key, uri in uris.items()}
    text = TEMPLATE.format(file=file, name=chosen, form=format, **quoted)
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise CommandError(f"{file} exists: give another name, or remove it first") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from None
    typer.echo(f"wrote {file}; next: edit it, then 'rstar plan {file}' and 'rstar run {file}'")
