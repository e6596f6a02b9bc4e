"""Tokens per second of the policy engine and of plain ``generate`` calls, on the same model and load.

``python -m benchmarks.generation [--json] [--model FOLDER]``. The load is that of a search: many states at once, n candidates
each. Without a model folder, a random model of the Game of 24 example's size is created.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from rstar_policy.transformers_engine import TransformersPolicy
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from rstar.interfaces import Sampling, State
from rstar.prompt import render

CANDIDATES = 8
NEW_TOKENS = 16


def random_model(folder: Path) -> Path:
    """Save a random model of the example's size with the example's tokenizer."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples/game24"))
    from tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=384,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def states(count: int) -> list[State]:
    """Return ``count`` states with different questions."""
    return [State(f"p{i}", f"Make 24 from {i % 10 + 1}, {i // 10 % 10 + 1}, 6, 4, ") for i in range(count)]


async def engine_tokens_per_s(folder: Path, some_states: list[State]) -> float:
    """Measure the engine with all states at once."""
    async with TransformersPolicy.load(folder) as policy:
        sampling = Sampling(temperature=1.0, max_new_tokens=NEW_TOKENS)
        await policy.propose(some_states[0], 1, sampling, 0)
        start = time.perf_counter()
        proposals = await asyncio.gather(
            *(policy.propose(s, CANDIDATES, sampling, i) for i, s in enumerate(some_states))
        )
        tokens = sum(candidate.tokens for proposal in proposals for candidate in proposal.candidates)
        return tokens / (time.perf_counter() - start)


def generate_tokens_per_s(folder: Path, some_states: list[State]) -> float:
    """Measure ``generate`` with one state after the other, as in a search without batching."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = 0
    start = time.perf_counter()
    for state in some_states:
        inputs = tokenizer(render(state.question, state.steps), return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            out = model.generate(
                **inputs,
                do_sample=True,
                num_return_sequences=CANDIDATES,
                max_new_tokens=NEW_TOKENS,
                pad_token_id=tokenizer.pad_token_id,
            )
        new = out[:, inputs["input_ids"].shape[1] :]
        tokens += int((new != tokenizer.pad_token_id).sum())
    return tokens / (time.perf_counter() - start)


def main(
    model: Annotated[Path | None, typer.Option(help="Model folder; unset: a random one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure both and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = model or random_model(Path(folder))
        load = states(96)
        plain = generate_tokens_per_s(path, load[:24])
        engine = asyncio.run(engine_tokens_per_s(path, load))
    figures = {"engine_tokens_per_s": engine, "generate_tokens_per_s": plain, "ratio": engine / plain}
    if as_json:
        print(json.dumps({key: round(value, 2) for key, value in figures.items()}))
        return
    table = Table("generation, 96 states x 8 candidates", "tokens/s")
    table.add_row("policy engine, all states at once", f"{engine:,.0f}")
    table.add_row("plain generate, state by state", f"{plain:,.0f}")
    table.add_row("ratio", f"{engine / plain:.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
