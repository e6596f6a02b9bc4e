"""Public process reward models: tiny ones of the same architecture score as their authors' few lines of code do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rstar_ppm.conventions import math_shepherd, plain_step, qwen_prm, skywork_prm
from rstar_ppm.heads import read_tensors
from rstar_ppm.transformers_ppm import TransformersPreferenceModel
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
    Qwen2Model,
)

from rstar.interfaces import State
from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.model_folder import ConventionName
from tests.support.tiny_model import byte_tokenizer, save_policy, save_ppm, tiny_config

STEPS = (
    "<code>\n# Step 1: double it\nx = 4 * 2\n<end_of_step>",
    "\nprint(x)\n<end_of_code>\n<output>8<end_of_output>\n",
)
CANDIDATES = ("<answer>\\boxed{8}<end_of_answer>", "\n# Step 3: add one\n\ny = x + 1\n<end_of_step>", "")
STATE = State("p", "What is 4 * 2?", STEPS)
QWEN_TEXT = (
    "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|im_end|>\n"
    "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
)


def test_a_step_is_passed_without_markers_and_blank_lines() -> None:
    assert [plain_step(step) for step in (*STEPS, *CANDIDATES)] == [
        "# Step 1: double it\nx = 4 * 2",
        "print(x)\n8",
        "\\boxed{8}",
        "# Step 3: add one\ny = x + 1",
        "",
    ]


def qwen_tokenizer() -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<extra_0>"]})
    return tokenizer


def save_qwen(folder: Path, layers: int = 2, labels: int = 2) -> Path:
    """Write a tiny Qwen2.5-Math-PRM: with two layers it has Qwen's own model class, with one transformers' class."""
    torch.manual_seed(2)
    tokenizer = qwen_tokenizer()
    config = tiny_config("qwen2", len(tokenizer), num_labels=labels)
    model: Any = Qwen2ForTokenClassification(config)
    if layers == 2:
        model.score = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, labels))
        config.architectures = ["Qwen2ForProcessRewardModel"]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def shepherd_tokenizer() -> Any:
    """Return a tokenizer of Mistral's kind: SentencePiece with byte fallback, and the three words of Math-Shepherd."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *map(chr, range(33, 127)),
        "к",
        "и",
    ]
    pieces += ["ки", "▁ки", "▁+", "▁-"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [("к", "и"), ("▁", "ки"), ("▁", "+"), ("▁", "-")]
    backend = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken("<s>", normalized=False), AddedToken("</s>", normalized=False)])
    from tokenizers import processors

    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def save_shepherd(folder: Path) -> Path:
    """Write a tiny Math-Shepherd: a Mistral whose output embeddings are not tied, in PyTorch's format."""
    torch.manual_seed(3)
    tokenizer = shepherd_tokenizer()
    sizes = tiny_config("llama", len(tokenizer)).to_dict()
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = MistralConfig(
        **{
            name: sizes[name]
            for name in (*names, "num_key_value_heads", "max_position_embeddings", "initializer_range")
        }
    )
    model: Any = MistralForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_skywork(folder: Path, *, begin: str | None = "<|endoftext|>") -> Path:
    """Write a tiny Skywork-o1-Open-PRM: a causal Qwen2 whose checkpoint has a value head beside the model's weights."""
    torch.manual_seed(4)
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = begin
    config = tiny_config("qwen2", len(tokenizer))
    model: Any = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    head = nn.Linear(32, 1)
    weights |= {"v_head.summary.weight": head.weight.detach(), "v_head.summary.bias": head.bias.detach()}
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    tokenizer.save_pretrained(folder)
    return folder


@torch.inference_mode()
def qwen_scores(folder: Path, question: str, steps: Sequence[str]) -> list[float]:
    """Return the probabilities as in the model card of Qwen2.5-Math-PRM: all steps in one pass."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    text = QWEN_TEXT.format(question=question, answer="".join(f"{step}<extra_0>" for step in steps))
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    weights = load_file(folder / "model.safetensors")
    decoder: Any = AutoModel.from_pretrained(folder)
    hidden = decoder(ids).last_hidden_state
    if "score.0.weight" in weights:
        hidden = torch.relu(hidden @ weights["score.0.weight"].T + weights["score.0.bias"])
        logits = hidden @ weights["score.2.weight"].T + weights["score.2.bias"]
    else:
        model: Any = Qwen2ForTokenClassification.from_pretrained(folder)
        logits = model(ids).logits
    found: list[float] = logits.softmax(-1)[ids == tokenizer.convert_tokens_to_ids("<extra_0>")][:, 1].tolist()
    return found


@torch.inference_mode()
def shepherd_scores(folder: Path, question: str, steps: Sequence[str]) -> list[float]:
    """Return the probabilities as in the model card of Math-Shepherd."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    answer = "\n".join(f"Step {number}: {step} ки" for number, step in enumerate(steps, 1))
    ids = torch.tensor([tokenizer.encode(f"{question} {answer}")])
    correct, wrong = tokenizer.convert_tokens_to_ids(["▁+", "▁-"])
    logits = model(ids).logits[:, :, [correct, wrong]]
    found: list[float] = logits.softmax(-1)[ids == tokenizer.convert_tokens_to_ids("▁ки")][:, 0].tolist()
    return found


@torch.inference_mode()
def skywork_scores(folder: Path, question: str, steps: Sequence[str]) -> list[float]:
    """Return the probabilities as Skywork's inference code does; a step of several lines is as many steps for it."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(f"{tokenizer.bos_token}{question}\n")
    separator = tokenizer.encode("\n")[-1]
    ends: list[int] = []
    for step in steps:
        for line in step.split("\n"):
            ids += [*tokenizer.encode(line), separator]
        ends.append(len(ids) - 1)
    weights = torch.load(folder / "pytorch_model.bin")
    decoder: Any = Qwen2Model.from_pretrained(folder)
    hidden = decoder(torch.tensor([ids])).last_hidden_state[0, ends]
    values = hidden @ weights["v_head.summary.weight"].T + weights["v_head.summary.bias"]
    found: list[float] = torch.sigmoid(values[:, 0]).tolist()
    return found


Scores = Callable[[Path, str, Sequence[str]], list[float]]
CONVENTIONS: list[tuple[ConventionName, Callable[[Path], Path], Scores]] = [
    ("qwen-prm", save_qwen, qwen_scores),
    ("qwen-prm", lambda folder: save_qwen(folder, layers=1), qwen_scores),
    ("math-shepherd", save_shepherd, shepherd_scores),
    ("skywork-prm", save_skywork, skywork_scores),
]


@pytest.mark.parametrize(("name", "save", "reference"), CONVENTIONS)
async def test_scores_are_those_of_the_models_authors(
    tmp_path: Path, name: ConventionName, save: Callable[[Path], Path], reference: Scores
) -> None:
    folder = save(tmp_path)
    async with TransformersPreferenceModel.load(folder, convention=name, device="cpu") as ppm:
        scores = (await ppm.score(STATE, CANDIDATES)).values
        first = (await ppm.score(State("p", STATE.question), STEPS[:1])).values
        together = (await ppm.score_steps(STATE)).values
    for candidate, score in zip(CANDIDATES, scores, strict=True):
        expected = reference(folder, STATE.question, [plain_step(step) for step in (*STEPS, candidate)])
        assert len(expected) == 3
        assert score == pytest.approx(2 * expected[-1] - 1, abs=1e-5)
    every = reference(folder, STATE.question, [plain_step(step) for step in STEPS])
    assert first == (pytest.approx(2 * every[0] - 1, abs=1e-5),)
    assert together == pytest.approx([2 * score - 1 for score in every], abs=1e-5)
    assert len({round(score, 3) for score in scores}) == 3, "the candidates are told apart"


def test_the_ids_are_those_of_the_whole_text_and_the_ends_are_its_separators() -> None:
    plain = [plain_step(step) for step in STEPS]
    tokenizer: Any
    for encoder, tokenizer, text, separator in (
        (
            qwen_prm(TrajectoryTokenizer(qwen_tokenizer())),
            qwen_tokenizer(),
            QWEN_TEXT.format(question=STATE.question, answer="".join(f"{step}<extra_0>" for step in plain)),
            "<extra_0>",
        ),
        (
            math_shepherd(TrajectoryTokenizer(shepherd_tokenizer())),
            shepherd_tokenizer(),
            f"{STATE.question} Step 1: {plain[0]} ки\nStep 2: {plain[1]} ки",
            "▁ки",
        ),
    ):
        encoded = encoder.encoded(STATE.question, STEPS)
        whole = tokenizer.encode(text)
        assert list(encoded.ids) == whole[: len(encoded.ids)]
        token = tokenizer.convert_tokens_to_ids(separator)
        assert encoded.ends == tuple(i for i, found in enumerate(whole) if found == token)


REFUSED: list[tuple[ConventionName, Callable[[Path], Path], str]] = [
    ("qwen-prm", lambda folder: save_qwen(folder, labels=3), "the head gives 3 labels"),
    ("qwen-prm", lambda folder: save_policy("qwen2", folder), r"the checkpoint has no head score\."),
    ("qwen-prm", lambda folder: save_ppm("qwen2", folder), "the head gives 1 labels"),
    ("math-shepherd", lambda folder: save_policy("llama", folder), "has no token ' -': it makes 2 tokens of it"),
    ("math-shepherd", save_qwen, "no causal language model"),
    ("skywork-prm", lambda folder: save_policy("qwen2", folder), r"the checkpoint has no head v_head\.summary\."),
    ("skywork-prm", lambda folder: save_skywork(folder, begin=None), "has no begin-of-text token"),
    ("rstar", save_qwen, "gives 2 labels"),
]


@pytest.mark.parametrize(("name", "save", "reason"), REFUSED)
def test_a_checkpoint_of_another_convention_is_refused_with_the_reason(
    tmp_path: Path, name: ConventionName, save: Callable[[Path], Path], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        TransformersPreferenceModel.load(save(tmp_path), convention=name)
    assert str(tmp_path) in str(caught.value)


def test_a_tokenizer_without_the_separator_is_refused() -> None:
    with pytest.raises(ValueError, match="has no token '<extra_0>': it makes 9 tokens of it"):
        qwen_prm(TrajectoryTokenizer(byte_tokenizer()))
    with pytest.raises(ValueError, match="has no token ' ки'"):
        math_shepherd(TrajectoryTokenizer(byte_tokenizer()))
    with pytest.raises(ValueError, match="no begin-of-text token"):
        skywork_prm(TrajectoryTokenizer(byte_tokenizer()), None)


def test_the_weights_of_a_head_are_found_in_shards_and_a_missing_shard_is_named(tmp_path: Path) -> None:
    save_file({"score.weight": torch.ones(2, 3)}, tmp_path / "b.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"model.x": "a.safetensors", "score.weight": "b.safetensors"}}'
    )
    assert read_tensors(tmp_path, "score.")["score.weight"].shape == (2, 3)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b\.safetensors is missing"):
        read_tensors(tmp_path, "score.")


@pytest.mark.slow
def test_the_service_refuses_a_wrong_convention_at_its_start(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "rstar_ppm",
        "--model",
        str(save_ppm("llama", tmp_path)),
        "--convention",
        "qwen-prm",
    ]
    ended = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "is no model of the convention qwen-prm: the head gives 1 labels" in ended.stderr
    assert "Traceback" not in ended.stderr
