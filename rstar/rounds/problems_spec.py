"""The part of a spec that names problems: one data set, or a list of several."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rstar.config import Settings
from rstar.readers import OnBadRow, data_set_names

Uri = Annotated[str, Field(min_length=1, max_length=1024)]
"""``store:PATH`` (inside the round's store), ``hf:ORG/NAME@REVISION`` (the hub), or a local path."""

Format = Literal["jsonl", "gsm8k", "math", "countdown"]


class DataSet(Settings):
    """One of several data sets. A key that is left out has the value that it has in the problems around it."""

    uri: Uri = Field(
        description="Where the problems are: store:PATH, hf:ORG/NAME@REVISION, or, on a laptop, a local path."
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Name in front of the ids that rows give themselves; unset: the shortest end of the path by which the data sets differ.",
    )
    format: Format | None = Field(default=None, description="Form of the rows.")
    split: str | None = Field(default=None, max_length=100, description="Split of a hub data set; unused for files.")
    limit: int | None = Field(default=None, ge=1, description="Use only the first problems of this data set.")
    on_bad_row: OnBadRow | None = Field(default=None, description="fail or skip, for the rows of this data set.")


@dataclass(frozen=True, slots=True)
class Source:
    """One data set with all settings filled in."""

    name: str
    uri: str
    format: Format
    split: str
    limit: int | None
    on_bad_row: OnBadRow


class ProblemsSpec(Settings):
    """A file or data set of problems, or several; a list alone stands for sets."""

    uri: Uri | None = Field(
        default=None,
        description="Where the problems are: store:PATH, hf:ORG/NAME@REVISION, or, on a laptop, a local path; unset where sets names them.",
    )
    sets: tuple[DataSet, ...] = Field(default=(), max_length=32, description="Several data sets, instead of uri.")
    format: Format = Field(
        default="jsonl",
        description="Form of the rows: jsonl (any with the common field names, also in CSV, Parquet or JSON lists), gsm8k, math or countdown.",
    )
    split: str = Field(default="train", max_length=100, description="Split of a hub data set; unused for files.")
    limit: int | None = Field(default=None, ge=1, description="Use only the first problems; unset: all.")
    on_bad_row: OnBadRow = Field(
        default="fail", description="A bad row fails the round before it starts, or is left out and counted (skip)."
    )

    @model_validator(mode="before")
    @classmethod
    def _list(cls, given: Any) -> Any:
        if isinstance(given, list):
            return {"sets": tuple(given)}
        if isinstance(given, dict) and isinstance(given.get("sets"), list):
            return {**given, "sets": tuple(given["sets"])}
        return given

    @model_validator(mode="after")
    def _one_kind(self) -> ProblemsSpec:
        if (self.uri is None) == (not self.sets):
            raise ValueError("give either uri or sets: one data set, or a list of several")
        names = [source.name for source in self.sources()]
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"sets: {count} data sets have the name {name}: give each a name of its own")
        return self

    def sources(self) -> tuple[Source, ...]:
        """Return the data sets in order, each with its own settings or with those of all. Raises ``ValueError``."""
        given = self.sets or (DataSet(uri=self.uri or "", limit=self.limit),)
        unnamed = [(one.uri, one.split or self.split) for one in given if one.name is None]
        found = iter(data_set_names([uri for uri, _ in unnamed], [split for _, split in unnamed]))
        return tuple(
            Source(
                one.name or next(found),
                one.uri,
                one.format or self.format,
                one.split or self.split,
                one.limit,
                one.on_bad_row or self.on_bad_row,
            )
            for one in given
        )
