"""Writes the figures of a stage to TensorBoard, MLflow and Weights & Biases: one run per round, by one process alone.

Each tracker has a thread of its own. A tracker that fails gives one warning and gets no more figures: the stage goes on.

transformers has callbacks for the same trackers. They are not used: each of them opens a run of its own in every process
that trains, and knows no search and no evaluation.
"""

from __future__ import annotations

import contextvars
import math
import os
import queue
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from rstar.rounds.tracking import MLFLOW_URI, PROJECT, TrackerName, run_id, tensorboard_folder
from rstar.store.digests import file_digest, files_of
from rstar.store.folder_store import FolderStore
from rstar.store.store import Store

UPLOAD_SECONDS: Final = 30.0
"""How often event files are copied to a store that is no folder."""

CLOSE_SECONDS: Final = 30.0
"""How long a stage waits at its end for trackers that are behind."""

_QUEUED: Final = 10_000
_MLFLOW_TAG: Final = "rstar.run"
_NOT_IN_NAMES: Final = re.compile(r"[^\w./ :-]")


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures by name, at a ``step`` of what they are about; ``moment``: seconds since 1970."""

    values: Mapping[str, float]
    step: int
    moment: float


class Tracker(Protocol):
    """A place for figures. Each method may raise anything, and may take long."""

    def log(self, figures: Figures) -> None:
        """Add figures to the run."""
        ...

    def close(self) -> None:
        """Deliver what is left."""
        ...


class Trackers:
    """The trackers of one stage. ``openers`` are called in the threads of their trackers."""

    def __init__(self, openers: Mapping[str, Callable[[], Tracker]]) -> None:
        self._writers = [_Writer(name, opener) for name, opener in openers.items()]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add figures to each tracker's run, without waiting for it. NaN and infinity are left out."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        for writer in self._writers if finite else ():
            writer.put(Figures(finite, step, time.time()))

    def close(self) -> None:
        """Deliver what is left, for at most ``CLOSE_SECONDS``."""
        deadline = time.monotonic() + CLOSE_SECONDS
        for writer in self._writers:
            writer.close(max(0.0, deadline - time.monotonic()))


class _Writer:
    """The thread of one tracker."""

    def __init__(self, name: str, opener: Callable[[], Tracker]) -> None:
        self._name = name
        self._opener = opener
        self._queue: queue.Queue[Figures | None] = queue.Queue(_QUEUED)
        self._failed = False
        # The context has the ids for the log.
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._write,), daemon=True)
        self._thread.start()

    def put(self, figures: Figures) -> None:
        if not self._failed:
            try:
                self._queue.put_nowait(figures)
            except queue.Full:
                self._fail("it is too slow")

    def close(self, seconds: float) -> None:
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._fail("it did not take the last figures in time")

    def _write(self) -> None:
        try:
            tracker = self._opener()
            while (figures := self._queue.get()) is not None:
                tracker.log(figures)
            tracker.close()
        except BaseException as error:  # wandb raises KeyboardInterrupt, and others their own kinds
            self._fail(" ".join(str(error).split())[:500] or type(error).__name__)

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            structlog.get_logger().warning("tracker failed; the stage goes on", tracker=self._name, reason=reason)


def open_trackers(names: Iterable[TrackerName], store: Store, round_name: str) -> Trackers:
    """Open the run of a round in each tracker. Their packages are imported here, not in the threads."""
    openers: dict[str, Callable[[], Tracker]] = {}
    for name in dict.fromkeys(names):
        match name:
            case "tensorboard":
                openers[name] = _tensorboard(store, round_name)
            case "mlflow":
                openers[name] = _mlflow(store.uri, round_name)
            case "wandb":
                openers[name] = _wandb(store.uri, round_name)
    return Trackers(openers)


class TensorBoardFiles:
    """Event files in a folder of the store. A store that is no folder gets copies of them."""

    def __init__(self, store: Store, key: str) -> None:
        from tensorboard.summary import Writer

        self._key = key
        self._remote = None if isinstance(store, FolderStore) else store
        self._temporary = (
            None if isinstance(store, FolderStore) else tempfile.TemporaryDirectory(prefix="rstar-events-")
        )
        self._folder = store.path(key) if isinstance(store, FolderStore) else Path(self._temporary.name)  # type: ignore[union-attr]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writer = Writer(str(self._folder))
        self._copied = time.monotonic()

    def log(self, figures: Figures) -> None:
        """Add scalars."""
        for name, value in figures.values.items():
            self._writer.add_scalar(name, value, figures.step, wall_time=figures.moment)
        self._writer.flush()
        if time.monotonic() - self._copied >= UPLOAD_SECONDS:
            self._copy()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
        self._copy()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _copy(self) -> None:
        self._copied = time.monotonic()
        for name, path in files_of(self._folder) if self._remote is not None else ():
            self._remote.upload(f"{self._key}/{name}", path, file_digest(path))  # type: ignore[union-attr]


def _tensorboard(store: Store, round_name: str) -> Callable[[], Tracker]:
    import tensorboard.summary  # noqa: F401

    return lambda: TensorBoardFiles(store, tensorboard_folder(round_name))


def _mlflow(store: str, round_name: str) -> Callable[[], Tracker]:
    if not re.match(r"(?!file:)[a-z+]{2,}:", os.environ.get(MLFLOW_URI, "")):
        # Without this, MLflow 3.10 and later refuse a folder.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    from mlflow.tracking import MlflowClient

    return lambda: MlflowRun(MlflowClient(), run_id(store, round_name), round_name)


class MlflowRun:
    """A run of MLflow, found again by a tag."""

    def __init__(self, client: Any, identity: str, round_name: str) -> None:
        self._client = client
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = client.get_experiment_by_name(experiment)
        number = client.create_experiment(experiment) if found is None else found.experiment_id
        runs = client.search_runs([number], f"tags.`{_MLFLOW_TAG}` = '{identity}'", max_results=1)
        run = runs[0] if runs else client.create_run(number, tags={_MLFLOW_TAG: identity}, run_name=round_name)
        self._run: str = run.info.run_id

    def log(self, figures: Figures) -> None:
        """Add metrics."""
        from mlflow.entities import Metric

        moment = int(figures.moment * 1000)
        items = [(_NOT_IN_NAMES.sub("_", name), value) for name, value in figures.values.items()]
        self._client.log_batch(self._run, [Metric(name, value, moment, figures.step) for name, value in items])

    def close(self) -> None:
        """End the run; the next stage continues it."""
        self._client.set_terminated(self._run)


def _wandb(store: str, round_name: str) -> Callable[[], Tracker]:
    import wandb

    return lambda: WandbRun(wandb, run_id(store, round_name), round_name)


class WandbRun:
    """A run of Weights & Biases. Each stage has a step of its own: wandb's counts calls."""

    def __init__(self, wandb: Any, identity: str, round_name: str) -> None:
        quiet = wandb.Settings(silent=True, console="off")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run = wandb.init(project=project, id=identity, name=round_name, resume="allow", settings=quiet)
        self._known: set[str] = set()

    def log(self, figures: Figures) -> None:
        """Add metrics."""
        stages = {name.rpartition("/")[0] for name in figures.values}
        for stage in stages - self._known:
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        self._known |= stages
        self._run.log({**figures.values, **{f"{stage}/step": figures.step for stage in stages}})

    def close(self) -> None:
        """Deliver what is left."""
        self._run.finish()
