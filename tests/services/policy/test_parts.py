"""The engine's pure functions: sampling, placement, stop rules, text, admission."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rstar_policy.placement import assign_rows
from rstar_policy.policy_tokenizer import PolicyTokenizer
from rstar_policy.sampling import BLOCK, invert, nucleus, sample, uniforms
from rstar_policy.stopping import cut, stop_rule, stopped_in_text
from rstar_policy.transformers_engine import MAX_STEPS_WAITED, admitted_now
from transformers.convert_slow_tokenizer import bytes_to_unicode

from rstar.interfaces import Finish
from rstar.models.encoding import TrajectoryTokenizer
from rstar.trajectory import END_OF_CODE, END_OF_STEP
from tests.support.tiny_model import EOS, byte_tokenizer

DRAWS = 20_000


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.8)])
def test_samples_have_the_softmax_distribution(temperature: float, top_p: float) -> None:
    logits = torch.tensor([1.0, -0.5, 2.0, 0.0, -3.0, 1.5])
    expected = torch.softmax(logits / temperature, -1)
    if top_p < 1:
        order = expected.argsort(descending=True)
        kept = order[: int((expected[order].cumsum(0) < top_p).sum()) + 1]
        cut_off = torch.zeros_like(expected)
        cut_off[kept] = expected[kept]
        expected = cut_off / cut_off.sum()
    uniform = torch.from_numpy(np.concatenate([uniforms(7, k, 0) for k in range(DRAWS // BLOCK)]))
    rows = len(uniform)
    tokens, logprobs = sample(
        logits.expand(rows, -1), torch.full((rows,), temperature), torch.full((rows,), top_p), uniform
    )
    seen = torch.bincount(tokens, minlength=6).double()
    assert bool((seen[expected == 0] == 0).all())
    possible = expected > 0
    chi_square = ((seen - rows * expected) ** 2 / (rows * expected))[possible].sum()
    assert chi_square < 25  # 5 degrees of freedom: 25 has probability 1e-4
    assert torch.allclose(logprobs, logits.log_softmax(-1)[tokens])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda p: sum(p) > 1e-6), st.floats(0, 1))
def test_a_token_without_mass_is_never_drawn(masses: list[float], uniform: float) -> None:
    probabilities = torch.tensor([masses])
    token = invert(probabilities, torch.tensor([uniform], dtype=torch.float64))
    assert probabilities[0, token] > 0


@pytest.mark.parametrize("vocabulary", [1, 127, 128, 129, 1_000])
def test_the_inverse_of_the_distribution_over_blocks_is_that_over_all_tokens(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(0)
    masses = torch.rand(20, vocabulary, generator=generator) ** 8
    masses[:, : vocabulary // 2] = 0
    uniform = torch.rand(200, dtype=torch.float64, generator=generator)
    row = torch.arange(200) % 20
    cumulated = masses.double().cumsum(dim=-1)[row]
    expected = (cumulated <= (uniform * cumulated[:, -1]).unsqueeze(-1)).sum(dim=-1)
    assert torch.equal(invert(masses, uniform, row), expected)


def test_candidates_of_one_row_draw_as_if_each_had_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 300, generator=generator)
    row = torch.arange(40) % 4
    temperature, top_p = torch.tensor([0.0, 0.7, 1.0, 1.0, 1.3]).repeat(8), torch.tensor([1.0, 0.8]).repeat(20)
    uniform = torch.rand(40, dtype=torch.float64, generator=generator)
    own = sample(logits[row], temperature, top_p, uniform)
    monkeypatch.setattr("rstar_policy.sampling._VALUES_AT_ONCE", (600, 600))  # two rows at a time
    shared = sample(logits, temperature, top_p, uniform, row)
    assert torch.equal(shared[0], own[0])
    assert torch.allclose(shared[1], own[1])


def test_the_nucleus_keeps_the_most_likely_token_however_small() -> None:
    kept = nucleus(torch.tensor([[0.4, 0.35, 0.25]]), torch.tensor([0.01]))
    assert kept[0].tolist() == pytest.approx([0.4, 0.0, 0.0])


def test_uniforms_depend_only_on_seed_candidate_and_block() -> None:
    blocks = {(s, k, b): tuple(uniforms(s, k, b)) for s in (0, 2**64 - 1) for k in (0, 1) for b in (0, 1)}
    assert len(set(blocks.values())) == 8
    assert blocks[0, 1, 1] == tuple(uniforms(0, 1, 1))
    assert len({u for block in blocks.values() for u in block}) == 8 * BLOCK


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=24))
def test_placement_gives_each_distinct_text_one_row_and_overwrites_no_source(pairs: list[tuple[int, int]]) -> None:
    row, token = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
    plan = assign_rows(row, token)
    distinct = sorted(set(pairs))
    assert sorted(set(plan.row.tolist())) == list(range(len(distinct)))
    assert not set(plan.sources.tolist()) & set(plan.destinations.tolist())
    origin = {r: r for r in range(len(distinct))} | dict(
        zip(plan.destinations.tolist(), plan.sources.tolist(), strict=True)
    )
    for (old, last), new in zip(pairs, plan.row.tolist(), strict=True):
        assert (origin[new], int(plan.tokens[new])) == (old, last)
    stays = {r for r, _ in pairs if r < len(distinct)}
    assert len(plan.sources) == len(distinct) - len(stays)  # nothing is copied without need


def test_markers_are_matched_by_id_and_other_stop_texts_by_search() -> None:
    rule = stop_rule((END_OF_STEP, "\n\n"), {END_OF_STEP: 300})
    assert (rule.ids, rule.texts) == ((300,), ("\n\n",))
    text = "one\n\ntwo"
    assert stopped_in_text(rule, [ord(c) for c in text[:5]], lambda ids: "".join(map(chr, ids)))
    assert not stopped_in_text(rule, [ord(c) for c in text[:4]], lambda ids: "".join(map(chr, ids)))


def test_a_marker_spelled_by_ordinary_tokens_ends_the_text_there() -> None:
    rule = stop_rule((END_OF_STEP, END_OF_CODE), {END_OF_STEP: 1, END_OF_CODE: 2})
    assert cut(f"a{END_OF_CODE}b{END_OF_STEP}", Finish.STOP, rule) == (f"a{END_OF_CODE}", Finish.STOP)
    assert cut(f"a{END_OF_STEP}b", Finish.LENGTH, rule) == (f"a{END_OF_STEP}", Finish.STOP)
    assert cut("ab", Finish.EOS, rule) == ("ab", Finish.EOS)


def test_decoding_gives_back_the_encoded_text_byte_for_byte() -> None:
    tokenizer = byte_tokenizer()
    policy_tokenizer = PolicyTokenizer(TrajectoryTokenizer(tokenizer), "trained", [tokenizer.eos_token_id])
    for text in (" leading space", "\n<code>\nx = 'é漢🙂'\n<end_of_step>", "<|user|> ", ""):
        assert policy_tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@given(st.binary(max_size=12))
def test_bytes_that_are_not_utf8_are_decoded_with_replacements(data: bytes) -> None:
    tokenizer = byte_tokenizer()
    policy_tokenizer = PolicyTokenizer(TrajectoryTokenizer(tokenizer), "trained", [tokenizer.eos_token_id])
    letters = bytes_to_unicode()  # type: ignore[no-untyped-call]
    ids = tokenizer.convert_tokens_to_ids([letters[byte] for byte in data])
    assert policy_tokenizer.decode(ids) == data.decode(errors="replace")


def test_a_prompt_starts_with_bos_once_and_a_continuation_has_none() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    plain = TrajectoryTokenizer(tokenizer)
    assert plain.prompt("a") == plain.continuation("a") == tokenizer.encode("a", add_special_tokens=False)
    bos = tokenizer.eos_token_id
    tokenizer.bos_token = EOS
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{EOS} $A", special_tokens=[(EOS, bos)])
    with_bos = TrajectoryTokenizer(tokenizer)
    assert with_bos.prompt("a") == [bos, *plain.prompt("a")]
    assert with_bos.continuation("a") == plain.continuation("a")
    assert with_bos.prompt(f"{EOS}a") == with_bos.prompt("a")


def test_new_requests_are_admitted_in_groups_or_after_a_few_steps() -> None:
    assert admitted_now(waiting=0, running=0, steps_waited=0)
    assert admitted_now(waiting=8, running=0, steps_waited=0)
    assert admitted_now(waiting=25, running=100, steps_waited=0)
    assert not admitted_now(waiting=8, running=100, steps_waited=MAX_STEPS_WAITED - 1)
    assert admitted_now(waiting=8, running=100, steps_waited=MAX_STEPS_WAITED)
