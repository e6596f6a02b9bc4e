"""Experiment trackers of a round: their names, what they need, and which figures of a stage's result they get.

A round is one run in each tracker: its stages, which are processes of their own, and their further attempts continue it.
The programs that write to trackers are ``rstar_jobs.trackers``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final, Literal

TrackerName = Literal["tensorboard", "mlflow", "wandb"]

PROJECT: Final = "rstar"
"""The experiment (MLflow) or project (wandb) of all runs; their own variables name another one."""

MLFLOW_URI: Final = "MLFLOW_TRACKING_URI"


def tracker_faults(names: Iterable[TrackerName], environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield a sentence for each tracker that cannot be used here: its package, or its address, is missing."""
    for name in names:
        if find_spec(name) is None:
            yield f"trackers: {name} is not installed: install rstar-math[{name}], or remove it from trackers"
        elif name == "mlflow" and not environment.get(MLFLOW_URI):
            yield f"trackers: mlflow needs {MLFLOW_URI}, such as http://mlflow:5000 or file:///data/mlruns"


def run_id(store: str, round_name: str) -> str:
    """Return the id of a round's run: the same for all its stages and attempts. ``store``: the store's URI."""
    return hashlib.sha256(f"{store} {round_name}".encode()).hexdigest()[:16]


def tensorboard_folder(round_name: str) -> str:
    """Return the folder of the store with the event files of a round."""
    return f"rounds/{round_name}/tensorboard"


def result_figures(stage: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among a manifest's metrics by their path; an entry of a list goes by its name.

    >>> result_figures("evaluate", {"problems": 8, "methods": [{"name": "greedy", "accuracy": 0.5}]})
    {'result/evaluate/problems': 8.0, 'result/evaluate/methods/greedy/accuracy': 0.5}
    """
    return dict(_numbers(f"result/{stage}", metrics))


def _numbers(path: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(f"{path}/{name}", part)
    elif isinstance(value, list | tuple):
        for part in value:
            if isinstance(part, Mapping) and "name" in part:
                yield from _numbers(f"{path}/{part['name']}", {k: v for k, v in part.items() if k != "name"})
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
