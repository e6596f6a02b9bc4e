"""The policy that searches in the rollout stage, where it is another model than the one that is trained.

The paper's first round is searched by a model 30 times as large as the trained one. Such a model may be a checkpoint
that the round serves itself, or run already behind an OpenAI-compatible server. A key is never in the spec: it names
the variable or the Secret that holds it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from rstar.config import Settings
from rstar.rounds.cluster_spec import ObjectName
from rstar.rounds.observed import EndpointRef, SecretRef
from rstar.rounds.problems_spec import Uri

EndpointUrl = Annotated[str, Field(max_length=1024, pattern=r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$")]
"""``http://HOST:PORT/v1``: without a user, a key or a query in it."""


class SecretKey(Settings):
    """One entry of a Secret in the round's namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: str = Field(
        min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Key of the entry in the Secret."
    )


class RolloutPolicySpec(Settings):
    """The policy of the rollout stage alone; the evaluation uses the trained policy. Give either model or endpoint."""

    model: Uri | None = Field(
        default=None,
        description="A checkpoint that the round serves with services.policy: store:PATH, hf:ORG/NAME, or, on a laptop, a local path.",
    )
    endpoint: EndpointUrl | None = Field(
        default=None,
        description="URL of a running server with OpenAI's completions (vllm serve, SGLang, llama.cpp, a hosted one), such as http://HOST:8000/v1.",
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Name of the endpoint's model; it stands for the model in the lineage.",
    )
    tokenizer: Uri | None = Field(
        default=None,
        description="Tokenizer with the chat template of the endpoint's model, for prompt chat: store:PATH, hf:ORG/NAME, or, on a laptop, a local path.",
    )
    api_key_env: str | None = Field(
        default=None,
        max_length=100,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Laptop: environment variable with the endpoint's key; unset: none.",
    )
    api_key_secret: SecretKey | None = Field(
        default=None, description="Cluster: Secret with the endpoint's key; unset: none."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> RolloutPolicySpec:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("give either model or endpoint: a checkpoint to serve, or a server that runs already")
        if self.endpoint is not None and self.name is None:
            raise ValueError("an endpoint needs name: the name of the model that it serves")
        if self.endpoint is None and (self.name or self.tokenizer or self.api_key_env or self.api_key_secret):
            raise ValueError(
                "name, tokenizer, apiKeyEnv and apiKeySecret belong to an endpoint: remove them, or give endpoint"
            )
        return self

    @property
    def server(self) -> EndpointRef | None:
        """The endpoint, None for a checkpoint."""
        if self.endpoint is None or self.name is None:
            return None
        secret = self.api_key_secret
        key = SecretRef(secret.name, secret.key) if secret is not None else None
        return EndpointRef(self.endpoint, self.name, self.tokenizer, self.api_key_env, key)
