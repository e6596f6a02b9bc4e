"""Prompts for models that were not trained on the grammar, in the local engine and for an endpoint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rstar_policy.instruct_engine import InstructPolicy
from rstar_policy.openai_engine import OpenAIPolicy, inspect_endpoint
from rstar_policy.openai_http import CompletionsServer
from rstar_policy.openai_prompt import endpoint_prompt
from rstar_policy.transformers_engine import TransformersPolicy
from transformers import AutoTokenizer

from rstar.interfaces import Candidate, Finish, Proposal, Sampling, State
from rstar.models.chat import chat_text
from rstar.prompt import FEW_SHOT, render_prompt
from rstar.store.folder_store import FolderStore
from tests.support.completions_server import completions_server
from tests.support.fake_hub import running_hub, use_hub
from tests.support.tiny_model import save_policy

FEW = "Q: {question}\n"
STATE = State("p", "1 + 1?", ("<code>\nx = 1\n<end_of_step>",))
SAMPLING = Sampling(1.0, 1.0, 20, ("a", "<end_of_step>"))
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|endoftext|>{% endfor %}<|assistant|>"


@pytest.fixture(scope="module")
def instruct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_policy("llama", tmp_path_factory.mktemp("instruct"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


async def test_an_endpoint_gets_the_text_that_the_local_engine_encodes(instruct: Path, tmp_path: Path) -> None:
    async with TransformersPolicy.load(instruct, prompt="chat", few_shot=FEW) as local:
        expected = await local.propose(STATE, 1, Sampling(0.0, 1.0, 20, SAMPLING.stop), 0)
    text = endpoint_prompt("chat", FEW, str(instruct), None, tmp_path)
    async with completions_server(instruct) as server:
        model = await inspect_endpoint(CompletionsServer(server.url), None)
        async with OpenAIPolicy(CompletionsServer(server.url), model, text, 8) as policy:
            proposal = await policy.propose(STATE, 1, Sampling(0.0, 1.0, 20, SAMPLING.stop), 0)
        sent = server.bodies[-1]["prompt"]
    message = chat_text(AutoTokenizer.from_pretrained(instruct), render_prompt(STATE.question, "chat", FEW))
    assert sent == message + STATE.steps[0]
    assert sent == "<|user|>Q: 1 + 1?\n<|endoftext|><|assistant|><code>\nx = 1\n<end_of_step>"
    assert proposal.candidates[0].text == expected.candidates[0].text


def test_a_round_keeps_the_commit_of_the_endpoints_tokenizer_and_fetches_no_weights(
    instruct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")

    def text(round_name: str) -> str:
        return endpoint_prompt("chat", FEW, "hf:org/chat", store, tmp_path / "cache", round_name)(STATE)

    with running_hub() as hub:
        use_hub(hub.url, tmp_path / "hub-cache", monkeypatch)
        hub.push_folder("models", "org/chat", instruct)
        first = text("r1")
        (changed := tmp_path / "changed").mkdir()
        for path in instruct.iterdir():
            (changed / path.name).write_bytes(path.read_bytes())
        (changed / "chat_template.jinja").write_text(TEMPLATE.replace("<|assistant|>", "<|bot|>"))
        hub.push_folder("models", "org/chat", changed)
        assert (text("r1"), text("r2")) == (first, first.replace("<|assistant|>", "<|bot|>"))
        assert "<|assistant|>" in first
        assert not [request for request in hub.requests if "safetensors" in request]


def test_the_chat_of_an_endpoint_needs_a_tokenizer_with_a_template(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --tokenizer, or --prompt bootstrap"):
        endpoint_prompt("chat", FEW_SHOT, None, None, tmp_path)
    with pytest.raises(ValueError, match="has no chat template"):
        endpoint_prompt("chat", FEW_SHOT, str(save_policy("llama", tmp_path / "plain")), None, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no tokenizer"):
        endpoint_prompt("chat", FEW_SHOT, str(tmp_path / "empty"), None, tmp_path)


def test_a_checkpoint_without_a_template_refuses_the_chat_prompt(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no chat template"):
        TransformersPolicy.load(save_policy("llama", tmp_path), prompt="chat")


class Fixed:
    """An engine with one answer."""

    digest = "d"

    async def propose(self, *_: object) -> Proposal:
        text = "Sure!\n```python\n# Step 1: add\nx = 2\n```\n<end_of_step>"
        return Proposal((Candidate(text, 17, -3.0, Finish.STOP),), "d")

    async def close(self) -> None:
        pass


async def test_candidates_become_steps_and_keep_their_tokens() -> None:
    proposal = await InstructPolicy(Fixed()).propose(State("p", "1 + 1?"), 1, SAMPLING, 0)
    assert proposal == Proposal((Candidate("<code>\n# Step 1: add\nx = 2\n<end_of_step>", 17, -3.0, Finish.STOP),), "d")


def test_a_prompt_file_without_a_place_for_the_question_ends_the_program_with_one_sentence(
    instruct: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("Solve it:")
    command = [sys.executable, "-m", "rstar_policy", "--model", str(instruct), "--prompt", "chat"]
    result = subprocess.run(
        [*command, "--prompt-file", str(tmp_path / "mine.txt")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "mine.txt: the prompt has 0 times {question}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
