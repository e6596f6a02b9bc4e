"""Reads the rows of a file in one of several containers, found from its content, or its suffix if the content fits several.

====================  ==================================================  =============
JSON lines            an object per line                                  streamed
JSON                  a list of objects, or an object with one in it      list streamed
CSV, TSV              a header line and cells                             streamed
Parquet               columns                                             streamed
XML                   elements with a ``Question``, as ASDiv has them     streamed
====================  ==================================================  =============

Each of them may be compressed with gzip. A folder stands for all its ``*.json`` files, as MATH was published. A fault of
one row is passed on with the row; one of the whole file is a ``ContainerError``.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final
from xml.etree import ElementTree

from rstar.readers.formats import COLUMNS, QUESTION
from rstar.readers.row import RowError

LocatedRow = tuple[str, Mapping[str, Any] | RowError]
"""The place of a row (``FILE:LINE`` or ``FILE row N``), and the row or the error in it."""
Line = tuple[str, str | RowError]

CHUNK: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"
_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_FOREIGN: Final = {
    b"PK\x03\x04": "a ZIP archive",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zXZ": "compressed with xz",
    b"BZh": "compressed with bzip2",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


class ContainerError(ValueError):
    """A file whose rows cannot be told apart; one sentence with the file, the fault and the remedy."""


def file_rows(path: Path) -> Iterator[LocatedRow]:
    """Yield the rows of a file or folder. Raises ``ContainerError``."""
    if path.is_dir():
        files = sorted(path.rglob("*.json"))
        if not files:
            raise ContainerError(
                f"{path}: cannot be read: it is a folder without *.json files; name a file in it, or give hf:{path}"
            )
        yield from chain.from_iterable(map(file_rows, files))
        return
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw
            yield from _rows(path, file)
    except (gzip.BadGzipFile, EOFError) as error:
        raise ContainerError(f"{path}: is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise ContainerError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def line_rows(lines: Iterable[Line]) -> Iterator[LocatedRow]:
    """Yield the rows of lines: JSON lines, or CSV where the first line is a header with a known column."""
    filled = ((where, line) for where, line in lines if isinstance(line, RowError) or line.strip())
    head = next(filled, None)
    if head is None:
        return
    if isinstance(head[1], str) and _is_header(head[1], ","):
        yield from _csv_rows([head, *filled])
    else:
        yield from map(_json_row, chain([head], filled))


def _rows(path: Path, file: BinaryIO) -> Iterator[LocatedRow]:
    head = file.read(CHUNK)
    file.seek(0)
    suffix = next((s for s in reversed(path.suffixes) if s != ".gz"), "").lower()
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise ContainerError(f"{path}: is {what}: unpack it, or save it as UTF-8 text or gzip")
    start = head.removeprefix(_BOM).lstrip()
    if head.startswith(b"PAR1"):
        yield from _parquet_rows(path, file)
    elif start.startswith(b"<"):
        yield from _xml_rows(path, file)
    elif start.startswith(b"["):
        yield from _array_rows(path, file)
    elif suffix in _SEPARATORS or (not start.startswith(b"{") and _starts_with_header(start)):
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        yield from _csv_file_rows(path, text, _SEPARATORS.get(suffix, ","))
    elif start.startswith(b"{") and suffix not in {".jsonl", ".ndjson"} and (rows := _document_rows(path, file)):
        yield from rows
    else:
        file.seek(0)
        yield from map(
            _json_row, (line for line in _lines(path, file) if not isinstance(line[1], str) or line[1].strip())
        )


def _lines(path: Path, file: BinaryIO) -> Iterator[Line]:
    for number, raw in enumerate(file, 1):
        where = f"{path}:{number}"
        try:
            yield where, raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield where, RowError(f"not UTF-8 (byte {error.start + 1} of the line): save the file as UTF-8")


def _json_row(line: Line) -> LocatedRow:
    where, text = line
    if isinstance(text, RowError):
        return where, text
    try:
        row: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return where, RowError(f"not JSON ({error.msg} at column {error.colno}): write one JSON object per line")
    except (ValueError, RecursionError) as error:
        return where, RowError(f"not usable JSON ({error}): write one JSON object per line")
    return where, _object(row)


def _object(row: Any) -> Mapping[str, Any] | RowError:
    if isinstance(row, dict):
        return row
    return RowError('not a JSON object: write one object per row, like {"question": ..., "answer": ...}')


def _document_rows(path: Path, file: BinaryIO) -> list[LocatedRow]:
    """Return the rows of one JSON object: a row, or an object around a list of rows; [] for JSON lines."""
    first = file.readline()
    if file.read(CHUNK).strip() and _loaded(first) is not None:
        return []
    file.seek(0)
    content = _loaded(file.read())
    if not isinstance(content, dict):
        return []
    lists = [value for value in content.values() if isinstance(value, list)]
    if (
        len(lists) == 1
        and all(isinstance(row, dict) for row in lists[0])
        and not {k.lower() for k in content} & set(QUESTION)
    ):
        return [(f"{path} row {number}", row) for number, row in enumerate(lists[0], 1)]
    return [(str(path), content)]


def _loaded(text: bytes) -> Any:
    try:
        return json.loads(text.removeprefix(_BOM))
    except (ValueError, RecursionError):
        return None


def _array_rows(path: Path, file: BinaryIO) -> Iterator[LocatedRow]:
    """Yield the entries of a JSON list. At most one entry and one chunk are in memory."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig")
    decode = json.JSONDecoder().raw_decode
    buffer, at, number, ended = "", 0, 0, False
    wanted = CHUNK
    opened = False
    while True:
        while at < len(buffer) and buffer[at] in " \t\r\n,":
            at += 1
        if at < len(buffer) and not opened:
            at, opened = at + 1, True
            continue
        if at < len(buffer) and buffer[at] == "]":
            return
        try:
            if at == len(buffer):
                raise json.JSONDecodeError("the list has no end", buffer, at)
            entry, at = decode(buffer, at)
        except json.JSONDecodeError as error:
            if ended:
                raise ContainerError(f"{path} row {number + 1}: not JSON ({error.msg}): mend the list") from error
            # The entry may end in the next chunk. Twice as much each time, so that a long one is not decoded again often.
            try:
                more = text.read(wanted)
            except UnicodeDecodeError as broken:
                raise ContainerError(f"{path}: not UTF-8 after row {number}: save the file as UTF-8") from broken
            buffer, at, ended, wanted = buffer[at:] + more, 0, not more, 2 * wanted
            continue
        except (ValueError, RecursionError) as error:
            raise ContainerError(f"{path} row {number + 1}: not usable JSON ({error}): mend the row") from error
        number, wanted = number + 1, CHUNK
        yield f"{path} row {number}", _object(entry)


def _starts_with_header(start: bytes) -> bool:
    return _is_header(start.partition(b"\n")[0].decode(errors="replace"), ",")


def _is_header(line: str, separator: str) -> bool:
    cells = next(csv.reader([line], delimiter=separator), [])
    return bool(COLUMNS & {cell.strip().lower() for cell in cells})


def _csv_file_rows(path: Path, text: io.TextIOWrapper, separator: str) -> Iterator[LocatedRow]:
    try:
        yield from _table(csv.reader(text, delimiter=separator), lambda line: f"{path}:{line}")
    except UnicodeDecodeError as error:
        raise ContainerError(f"{path}: not UTF-8: save the file as UTF-8") from error
    except csv.Error as error:
        raise ContainerError(f"{path}: not a table ({error}); save it as CSV with quotes around texts") from error


def _csv_rows(lines: list[Line]) -> Iterator[LocatedRow]:
    places = [where for where, _ in lines]
    texts = (line if isinstance(line, str) else "" for _, line in lines)
    return _table(csv.reader(texts), lambda line: places[line - 1])


def _table(reader: Any, place: Callable[[int], str]) -> Iterator[LocatedRow]:
    """Yield the rows below a header; ``place`` names the line on which a row begins. Empty cells are left out."""
    header = [cell.strip() for cell in next(reader, [])]
    line = reader.line_num
    for cells in reader:
        where, line = place(line + 1), reader.line_num
        if len(cells) > len(header):
            yield (
                where,
                RowError(f"{len(cells)} cells below a header of {len(header)}: put quotes around texts with commas"),
            )
        elif cells:
            yield where, {name: cell for name, cell in zip(header, cells, strict=False) if cell != ""}


def _parquet_rows(path: Path, file: BinaryIO) -> Iterator[LocatedRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=1_024):
            for row in batch.to_pylist():
                number += 1
                yield f"{path} row {number}", row
    except (pa.ArrowException, ValueError) as error:
        raise ContainerError(f"{path}: not a readable Parquet file ({error}); fetch it again") from error


def _xml_rows(path: Path, file: BinaryIO) -> Iterator[LocatedRow]:
    number = 0
    try:
        for _, element in ElementTree.iterparse(file, events=("end",)):
            fields = {child.tag: child.text or "" for child in element}
            if "question" in {name.lower() for name in fields}:
                number += 1
                yield f"{path} row {number}", {**element.attrib, **fields}
                element.clear()
    except ElementTree.ParseError as error:
        raise ContainerError(f"{path}: not XML ({error}); save it as XML, or as JSON lines") from error
