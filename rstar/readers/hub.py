"""Problems from a data set of the Hugging Face hub, through the ``datasets`` library, which is imported only here."""

from __future__ import annotations

from pathlib import Path

from rstar.distribution import extra
from rstar.hub import snapshot
from rstar.hub_name import read_hub_name
from rstar.problem import Problem
from rstar.readers.collect import OnBadRow, Reading, check_format, collect


def read_hub(
    name: str,
    split: str = "train",
    format: str = "jsonl",
    limit: int | None = None,
    on_bad_row: OnBadRow = "fail",
) -> list[Problem]:
    """Read a data set's rows as one of the formats: ``read_hub("openai/gsm8k/main", "test", "gsm8k")``.

    ``name`` is ORG/NAME or ORG/NAME/CONFIGURATION, each with @REVISION or without, or a local folder. Raises
    ``ValueError`` when ``datasets`` is not installed, when the data set cannot be loaded (no network, unknown name or
    split), and for bad rows.
    """
    return read_hub_set(name, split, format, limit, on_bad_row).problems


def read_hub_set(
    name: str, split: str, format: str, limit: int | None = None, on_bad_row: OnBadRow = "fail"
) -> Reading:
    """Read as ``read_hub``, and return what else is known of the rows."""
    check_format(format)
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError(
            f"hf:{name}: reading the hub needs the package datasets ({extra('jobs')}); or give a file instead"
        ) from None
    path, configuration = Path(name), None
    if not path.exists():
        # By its name, ``datasets`` would load any cached commit where the hub cannot be reached.
        hub_name = read_hub_name(name, "dataset")
        path, configuration = snapshot(hub_name, "dataset"), hub_name.configuration or None
    try:
        rows = load_dataset(str(path), configuration, split=split)
    except Exception as error:  # of the hub, the network or the file system
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"hf:{name}: cannot be loaded ({type(error).__name__}: {reason}); "
            f"check the name, the split {split!r} and the network, or give a file instead"
        ) from error
    located = ((f"hf:{name} row {number}", row) for number, row in enumerate(rows, 1))
    return collect(f"hf:{name}", located, format, limit, on_bad_row)
