"""One round of the Game of 24 example with ten times its model and its games, in this process.

Pre-training, search with the real executor, selection, SFT, PPM training and evaluation use the example's settings and the
platform's code; only the services and the store between them are left out. The search ends after a fixed time, so a slow
machine searches fewer games.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, Final

import yaml
from rstar_executor.server.local_executor import LocalExecutor
from rstar_policy.transformers_engine import TransformersPolicy
from rstar_ppm.transformers_ppm import TransformersPreferenceModel
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from benchmarks.gpu_check.models import GAME24, tokenizer
from benchmarks.gpu_check.runner import Figures, Setting
from benchmarks.gpu_check.training import trained_policy, trained_ppm
from rstar.config import SearchConfig
from rstar.countdown import GameSplit, Numbers, question, split_games
from rstar.interfaces import Executor, Policy, PreferenceModel, Verifier
from rstar.models.encoding import TrajectoryTokenizer
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.search.solve import solve
from rstar.seeds import derive
from rstar.selection import PairGroup, SftExample, pair_groups, sft_examples
from rstar.verify import verifier

TARGET: Final = 24


@dataclass(frozen=True, slots=True)
class Scale:
    """``layers`` and ``width`` of the model; ``plays`` to pre-train it on, a share ``skill`` of them without a bad move.

    ``games`` for training and ``held_out`` ones, by their count of numbers; numbers are 1 to ``highest``.
    """

    layers: int
    width: int
    plays: int
    skill: float
    games: dict[int, int]
    held_out: dict[int, int]
    highest: int
    seconds: float


TEN_TIMES: Final = Scale(4, 384, 50_000, 0.1, {3: 50, 4: 1_300, 5: 3_650}, {4: 100, 5: 100}, 13, 60.0)
"""7.1 million parameters and 5,000 games; the example has 0.7 million and 500."""

QUICK: Final = Scale(2, 96, 6_400, 0.5, {3: 2}, {3: 1}, 4, 5.0)
"""A model that is shown plays of these games alone, and learns them by heart: it has no time to learn the rules."""


def one_round(setting: Setting) -> Figures:
    """Play one round; the figures are shares of the held-out games, and the search's speed."""
    scale = QUICK if setting.quick else TEN_TIMES
    numbers = range(1, scale.highest + 1)
    split = split_games(train=scale.games, validation={}, held_out=scale.held_out, seed=0, numbers=numbers)
    template = yaml.safe_load((GAME24 / "rounds.yaml").read_text())["spec"]["template"]
    spec = EvolutionRoundSpec.model_validate({"round": 1, **template})
    with tempfile.TemporaryDirectory() as work:
        base, policy, ppm = (Path(work) / name for name in ("base", "policy", "ppm"))
        began = time.perf_counter()
        _pretrain(base, scale, _never_shown(scale, split) if setting.quick else {*split.held_out})
        pretrained = time.perf_counter() - began
        found = asyncio.run(_search(setting, base, spec, _problems("train", split.train), scale.seconds))
        examples, pairs = _selected(found, spec)
        if not examples or not pairs:
            raise AssertionError(f"{len(found)} games were searched and gave nothing to train on")
        trained_policy(base, examples, spec.train_policy, policy)
        trained_ppm(policy, pairs, spec.train_ppm, ppm)
        before = asyncio.run(_evaluated(setting, base, None, spec, split.held_out))
        after = asyncio.run(_evaluated(setting, policy, ppm, spec, split.held_out))
    searched = sum(record.usage.tokens for _, record in found.records)
    return {
        "tokens_per_s": searched / found.seconds,
        "programs_per_s": sum(record.usage.executions for _, record in found.records) / found.seconds,
        "games_searched": len(found.records),
        "games_solved": sum(record.solved for _, record in found.records),
        "pretraining_s": pretrained,
        "sft_examples": len(examples),
        "pairs": sum(len(group.pairs) for group in pairs),
        **{f"base_{name}": share for name, share in before.items()},
        **{f"trained_{name}": share for name, share in after.items()},
    }


@dataclass(frozen=True, slots=True)
class _Found:
    records: list[tuple[Problem, SearchRecord]]
    seconds: float

    def __len__(self) -> int:
        return len(self.records)


def _problems(kind: str, games: Sequence[Numbers]) -> list[Problem]:
    return [
        Problem(f"{kind}-{i}", question(game, TARGET), data={"nums": list(game), "target": TARGET})
        for i, game in enumerate(games)
    ]


def _never_shown(scale: Scale, split: GameSplit) -> set[Numbers]:
    """Return all games but those of ``split``."""
    numbers = range(1, scale.highest + 1)
    every = {game for size in scale.games for game in combinations_with_replacement(numbers, size)}
    return every - {*split.train, *split.held_out}


def _pretrain(folder: Path, scale: Scale, excluded: Collection[Numbers]) -> None:
    """Train the base model on mostly random plays, as the example does."""
    words = tokenizer()  # from here on the example's own modules can be imported
    from plays import random_plays, render_play
    from pretrain import train
    from rstar_jobs.encoded import encode_example

    encoder = TrajectoryTokenizer(words)
    games = random_plays(scale.plays, 0, sorted(scale.games), scale.highest, scale.skill, excluded)
    examples = [
        encode_example(encoder, SftExample("play", question(game, TARGET), render_play(game, moves), 0.0))
        for game, moves in games
    ]
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=scale.width,
        num_hidden_layers=scale.layers,
        num_attention_heads=scale.width // 32,
        intermediate_size=scale.width * 8 // 3,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    set_seed(0)
    model = LlamaForCausalLM(config)
    train(model, examples, int(words.pad_token_id), 0)
    model.save_pretrained(folder)
    words.save_pretrained(folder)


async def _search(
    setting: Setting, policy: Path, spec: EvolutionRoundSpec, problems: Sequence[Problem], seconds: float
) -> _Found:
    """Search the problems, ``spec.rollout.concurrency`` at once; after ``seconds`` none is begun."""
    config = SearchConfig.model_validate(spec.search.model_dump(exclude={"extra_rollouts"}))
    judge = verifier("countdown")
    queue, records = iter(problems), list[tuple[Problem, SearchRecord]]()
    async with (
        TransformersPolicy.load(policy, device=setting.device) as engine,
        LocalExecutor(_slots(setting)) as executor,
    ):
        began = time.perf_counter()

        async def work() -> None:
            for problem in queue:
                if time.perf_counter() - began > seconds:
                    return
                records.append((problem, await _solved(problem, config, engine, executor, None, judge)))

        await asyncio.gather(*(work() for _ in range(4 * spec.rollout.concurrency)))
        took = time.perf_counter() - began
        await judge.close()
    return _Found(records, took)


def _slots(setting: Setting) -> int | None:
    return 1 if setting.quick else None


async def _solved(
    problem: Problem,
    config: SearchConfig,
    policy: Policy,
    executor: Executor,
    ppm: PreferenceModel | None,
    judge: Verifier | None,
) -> SearchRecord:
    seed = derive(0, "gpu-check", problem.id)
    return await solve(problem, config, policy=policy, executor=executor, ppm=ppm, verifier=judge, seed=seed)


def _selected(found: _Found, spec: EvolutionRoundSpec) -> tuple[list[SftExample], list[PairGroup]]:
    examples = [example for item in found.records for example in sft_examples(*item, spec.select)]
    return examples, [pair for item in found.records for pair in pair_groups(*item, spec.select)]


async def _evaluated(
    setting: Setting, policy: Path, ppm: Path | None, spec: EvolutionRoundSpec, games: Sequence[Numbers]
) -> dict[str, float]:
    """Return the share of the games that each of the example's methods solves; those by the PPM only where there is one."""
    judge, shares = verifier("countdown"), dict[str, float]()
    async with (
        TransformersPolicy.load(policy, device=setting.device) as engine,
        LocalExecutor(_slots(setting)) as executor,
    ):
        scorer: Any = None if ppm is None else TransformersPreferenceModel.load(ppm, device=setting.device)
        for method in spec.evaluate.methods:
            if method.method == "mcts" or (method.guidance == "ppm" and scorer is None):
                continue
            problems = _problems("held-out", games)
            found = await asyncio.gather(*(_solved(p, method, engine, executor, scorer, None) for p in problems))
            right = 0
            for problem, record in zip(problems, found, strict=True):
                answer = record.nodes[record.chosen].answer if record.chosen >= 0 else None
                right += (await judge.verify(problem, answer or "")).correct
            shares[method.name] = right / len(problems)
        if scorer is not None:
            await scorer.close()
    await judge.close()
    return shares
