"""What an estimate assumes about a task and the machines, each value with its source. Later sources replace earlier ones.

The order is: the problems' format, a machine of ``MACHINES``, an earlier round (``measured``), options of the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from rstar.rounds.estimate.search_cost import Texts
from rstar.rounds.problems_spec import Format

PAPER_COVERAGE: Final = (0.6017, 0.666, 0.7786, 0.9025)
"""Share of the 747,000 problems that are solved, by round (table 2 of the paper)."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Values that the spec does not give. None: unknown, or by the round's number, its spec or its texts.

    Rates are per process: generated tokens per second of a policy server, scored candidates of a PPM server, tokens of
    the sequences of a training process; all for the round's own model. ``node_bytes``: of a node in the stored trees; ``program_seconds``: of one program in a slot of an executor;
    ``start_seconds``: of a stage, until its work begins, and with its end.
    """

    prompt_tokens: float = 100.0
    steps: float = 6.0
    step_tokens: float = 60.0
    distinct: float = 0.9
    valid: float = 0.7
    coverage: float | None = None
    pairs_per_solved: float | None = None
    node_bytes: float | None = None
    policy_rate: float | None = None
    score_rate: float | None = None
    sft_rate: float | None = None
    ppm_rate: float | None = None
    program_seconds: float = 0.005
    start_seconds: float = 20.0
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> Texts:
        """The part about the texts of the task."""
        return Texts(self.prompt_tokens, self.steps, self.step_tokens, self.distinct, self.valid)

    @property
    def bytes_per_node(self) -> float:
        """``node_bytes``, or 20 bytes and 1.3 per token: numbers that do not compress, and text that does."""
        return 20 + 1.3 * self.step_tokens if self.node_bytes is None else self.node_bytes

    def with_values(self, source: str, values: Mapping[str, Any]) -> Assumptions:
        """Return these assumptions with ``values`` in place of those of the same name; None leaves the earlier one."""
        given = {name: value for name, value in values.items() if value is not None}
        return replace(self, **given, sources={**self.sources, **dict.fromkeys(given, source)})

    def described(self) -> list[tuple[str, float, str]]:
        """Return (name, value, source) of every known value."""
        known = ((each.name, getattr(self, each.name)) for each in fields(self) if each.name != "sources")
        return [(name, value, self.sources.get(name, "assumed")) for name, value in known if value is not None]


TASKS: Final[Mapping[Format, tuple[str, Mapping[str, float]]]] = {
    "countdown": (
        "examples/game24: its tokenizer and its first round",
        {"prompt_tokens": 20, "steps": 3.5, "step_tokens": 9.7, "distinct": 0.76, "valid": 0.85, "node_bytes": 25},
    ),
    "gsm8k": (
        "16 samples of 24 problems with Qwen2.5-Coder-0.5B-Instruct",
        {"prompt_tokens": 100, "steps": 4, "step_tokens": 27, "valid": 0.71},
    ),
}
"""Texts by the format of the problems; other formats have the defaults of ``Assumptions``, which nobody measured."""

BOOTSTRAP_TOKENS: Final = 350
"""Tokens of the bootstrap prompt's instructions and worked examples, in Qwen2.5's tokenizer."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured rates of one process for a model of so many ``parameters``; ``about``: where, when, with what."""

    about: str
    parameters: int
    rates: Mapping[str, float]


MACHINES: Final[Mapping[str, Machine]] = {
    "cpu-2-transformers": Machine(
        "two cores of a virtual machine with AVX2, 2026-11: Qwen2.5-Coder-0.5B (5-bit weights, de-quantised), float32, "
        "transformers engine, 64 sequences in flight; training in bfloat16 with batches of 4 x 256 tokens",
        494_032_768,
        {"policy_rate": 95, "sft_rate": 65, "ppm_rate": 65},
    ),
    "cpu-2-vllm": Machine(
        "two cores of a virtual machine that multiplies in bfloat16, 2026-11: Qwen2.5-Coder-0.5B (5-bit weights, "
        "de-quantised), bfloat16, vLLM for CPUs, 384 sequences in flight; training in bfloat16 with batches of 4 x 256 tokens",
        494_032_768,
        {"policy_rate": 212, "sft_rate": 65, "ppm_rate": 65},
    ),
    "cpu-2-game24": Machine(
        "two shared cores of a virtual machine, 2026-11: examples/game24, float32, all services and the driver together",
        683_520,
        {"policy_rate": 2_200, "sft_rate": 7_600, "ppm_rate": 11_200},
    ),
}
"""No GPU is in this table: nobody has measured one."""


def assumed_for(form: Format) -> Assumptions:
    """Return the assumptions for problems of a format."""
    source, values = TASKS.get(form, ("", {}))
    return Assumptions().with_values(source, values)


def with_machine(assumptions: Assumptions, name: str, parameters: int) -> Assumptions:
    """Return the assumptions with the rates of a machine of ``MACHINES``, for a model of so many ``parameters``.

    Raises ``ValueError`` for another name.
    """
    if name not in MACHINES:
        raise ValueError(f"there is no machine {name!r} in the table of measured rates, only {', '.join(MACHINES)}")
    machine = MACHINES[name]
    return assumptions.with_values(machine.about, scaled(machine.rates, machine.parameters, parameters))


def scaled(values: Mapping[str, float | None], measured: int | None, parameters: int) -> dict[str, float | None]:
    """Return ``values`` with the rates of a model of ``measured`` parameters (None: as many) for one of ``parameters``.

    A token costs work in proportion to the parameters.
    """
    factor = measured / parameters if measured else 1.0
    return {
        name: value * factor if name.endswith("_rate") and value is not None else value
        for name, value in values.items()
    }
