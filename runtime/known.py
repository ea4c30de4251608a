"""Tables of known results: which architecture each row is, and what was measured.

A table is a CSV file with a header or a JSON file with a list of records, packed with gzip where it ends in `.gz`.
Which architecture a row is, is written down in one of three ways:

- nothing: columns have the names of the decisions, as `Encoding.to_table` writes them;
- `column: arch, pattern: "|{cell.n1[n0].edge}~0|+|..."`: a text, with the paths of decisions in braces;
- `rows: name`: a function of a row (a dict of its columns) that gives the decisions by path, as names. It is an entry
  point of the group `nasdsl.rows`; on the command line also `--set 'table.rows="module:function"'`.

All columns that hold numbers are metrics. Records within records have names with dots: `metrics.seg.mIoU`.
"""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import re
import reprlib
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from nasdsl.compiler.architecture import Architecture, ArchitectureError
from nasdsl.compiler.arrays.encoding import Encoding
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import cause, suggest
from nasdsl.compiler.files import read_whole
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.space import Space
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.candidates import Rows
from nasdsl.runtime.evolution.evaluator import NamedEvaluator
from nasdsl.runtime.evolution.objectives import EvaluationError
from nasdsl.runtime.files import content, folder_of, known_file
from nasdsl.runtime.functions import ROWS, find_function
from nasdsl.runtime.problem import Problem
from nasdsl.runtime.settings import Settings

LARGEST = 1 << 29
"""Bytes of a table, unpacked."""


class TableSettings(Settings):
    """`table: { ... }`. With `table: "results.csv"` the columns are the decisions.

    Attributes:
        file: a path, from the `.space` file's folder.
        list: in a JSON file that holds a record, under which name the list of rows stands.
        column, pattern: the column with the architecture, and how it is written, with the paths of decisions in braces.
        rows: the function that gives a row's decisions by path (`runtime/functions.py`).
    """

    word: ClassVar[str | None] = "file"

    file: str
    list: str | None = None
    column: str | None = None
    pattern: str | None = None
    rows: str | None = Field(default=None)


class Table(NamedEvaluator):
    """The metrics of architectures of a space.

    Attributes:
        architectures: those that have a row, in the order of the file.
        whole: whether that is all of the space.

    Raises:
        RunError: the file cannot be read, or a row is no architecture of the space; which row, and why.
    """

    settings: ClassVar[Any] = TableSettings

    @classmethod
    def make(cls, problem: Problem, settings: TableSettings, wanted: Collection[str]) -> Self:
        return cls(problem.space, known_file(settings.file, folder_of(problem.space)), settings)

    @classmethod
    def contents(cls, settings: TableSettings, base: Path | None) -> Mapping[str, str]:
        return {"table": content(known_file(settings.file, base))}

    def __init__(self, space: Space, file: Path, settings: TableSettings):
        self.graph: Graph = space.graph
        self.file = file
        read = _reader(space, settings)
        self.metrics: dict[Architecture, dict[str, float]] = {}
        for number, row in enumerate(_rows(file, settings.list), 1):
            try:
                architecture = Architecture.of(space.graph, read(row))
            except (ArchitectureError, RunError) as problem:
                raise RunError(f"{file.name}, row {number}: {problem.message}", problem.help) from problem
            if architecture in self.metrics:
                raise RunError(f"{file.name}, row {number}: an earlier row has the same architecture")
            self.metrics[architecture] = _numbers(row, space.graph)
        if not self.metrics:
            raise RunError(f"{file.name} has no rows")
        self.architectures = list(self.metrics)

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        found = self.metrics.get(architecture)
        if found is None:
            raise EvaluationError(f"{self.file.name} has no row of this architecture")
        return found

    def pool(self, encoding: Encoding) -> Rows:
        """[n, width] the architectures of the table as rows of an encoding."""
        return np.asarray(encoding.encode(self.architectures))


def _rows(file: Path, name: str | None) -> Iterator[dict[str, Any]]:
    """The rows as flat records."""
    try:
        packed = read_whole(file, LARGEST)
        text = (_unpacked(packed) if file.suffix == ".gz" else packed).decode("utf-8-sig")
    except FileNotFoundError:
        raise RunError(f"there is no table {file}") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise RunError(f"the table {file} cannot be read: {reason}") from None
    ending = file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix
    if ending == ".csv":
        yield from _csv(file, text)
    elif ending == ".json":
        for record in _records(file, text, name):
            yield dict(_flat(record, ""))
    else:
        raise RunError(f"{file.name} is no table", "tables end in .csv, .csv.gz, .json or .json.gz")


def _unpacked(packed: bytes) -> bytes:
    """Unpacked by gzip.

    Raises:
        OSError: it is not packed so, or it is too large.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise OSError(errno.EFBIG, f"it unpacks to more than {LARGEST:,} bytes, and no more are read")
    return data


def _csv(file: Path, text: str) -> Iterator[dict[str, Any]]:
    lines = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for number, row in enumerate(lines, 1):
            if None in row or None in row.values():
                raise RunError(f"{file.name}, row {number} has not as many columns as the header")
            yield dict(row)
    except csv.Error as problem:
        raise RunError(f"{file.name}: {problem}") from None


def _records(file: Path, text: str, name: str | None) -> list[dict[str, Any]]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise RunError(f"{file.name} is no JSON: {problem}") from None
    if name is not None:
        whole = whole.get(name) if isinstance(whole, dict) else None
    elif isinstance(whole, dict):
        lists = [key for key, value in whole.items() if isinstance(value, list)]
        if len(lists) != 1:
            raise RunError(f"{file.name} holds {len(lists)} lists", "say which one with `list: NAME`")
        whole = whole[lists[0]]
    if not isinstance(whole, list) or not all(isinstance(record, dict) for record in whole):
        raise RunError(f"{file.name} holds no list of records" + (f" under `{name}`" if name else ""))
    return whole


def _flat(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _numbers(row: Mapping[str, Any], graph: Graph) -> dict[str, float]:
    """The metrics of a row: all numbers that are no decisions."""
    out = {}
    for name, value in row.items():
        if name in graph.decisions or isinstance(value, bool | list) or value is None:
            continue
        try:
            out[name] = float(value)
        except (TypeError, ValueError):
            continue
    return out


# --- From a row to an architecture ------------------------------------------------------------------------------------


def _reader(space: Space, settings: TableSettings) -> Any:
    """A function from a row to decisions by path, as names."""
    if settings.rows is not None:
        if settings.column is not None or settings.pattern is not None:
            raise RunError("a table has `rows`, or `column` and `pattern`, and not both")
        return _by_function(settings.rows)
    if (settings.column is None) != (settings.pattern is None):
        raise RunError("`column` and `pattern` of a table go together")
    if settings.column is not None and settings.pattern is not None:
        return Pattern(space.graph, settings.column, settings.pattern)
    return lambda row: _by_columns(space.graph, row)


def _by_function(name: str) -> Any:
    function = find_function(name, ROWS)

    def read(row: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            given = function(row)
        except (Exception, SystemExit) as problem:  # it is the user's code that runs here
            raise RunError(f"`{name}` raised {cause(problem)}") from problem
        if not isinstance(given, Mapping):
            raise RunError(f"`{name}` gave {reprlib.repr(given)}, and not decisions by path")
        return given

    return read


def _by_columns(graph: Graph, row: Mapping[str, Any]) -> dict[str, Any]:
    missing = [path for path in graph.decisions if path not in row]
    if missing:
        raise RunError(
            f"the table has no column `{missing[0]}`",
            "name its columns as the decisions, or say how it writes architectures: "
            "`table: { file: ..., column: ..., pattern: ... }`",
        )
    cells = {path: row[path] for path in graph.decisions}
    return {path: _value(graph.decisions[path], cell) for path, cell in cells.items() if cell not in ("", None)}


def _value(decision: Decision, cell: Any) -> Any:
    """A cell of a CSV file as the decision's value: the item that is written so, or a list of such."""
    if not isinstance(cell, str) or decision.kind == "units":
        return cell
    if decision.kind == "choice":
        return _item(decision, cell)
    return [_item(decision, part.strip()) for part in cell.strip("[]").split(",") if part.strip()]


def _item(decision: Decision, text: str) -> Any:
    labels = decision.labels or tuple(map(str, decision.items))
    named = (word for word, label in zip(decision.words, labels, strict=True) if text in (str(word), label))
    return next(named, text)


class Pattern:
    """A way of writing architectures: text with the paths of decisions in braces.

    Raises:
        RunError: a path that the space does not have, or one that stands twice.
    """

    def __init__(self, graph: Graph, column: str, pattern: str):
        self.graph, self.column, self.text = graph, column, pattern
        self.paths: list[str] = []
        parts = re.split(r"\{([^{}]*)\}", pattern)
        self.between = parts[::2]
        for path in parts[1::2]:
            if path not in graph.decisions:
                raise RunError(f"`{{{path}}}` of the pattern is no decision", suggest(path, graph.decisions))
            if path in self.paths:
                raise RunError(f"`{{{path}}}` stands twice in the pattern")
            self.paths.append(path)
        if not self.paths:
            raise RunError("the pattern names no decision", "write `{path}` where a decision's value stands")

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if self.column not in row:
            raise RunError(f"the table has no column `{self.column}`", suggest(self.column, row))
        found = self._read(str(row[self.column]))
        if found is None:
            raise RunError(f"`{row[self.column]}` is not written as the pattern `{self.text}`")
        given = zip(self.paths, found, strict=True)
        return {path: _value(self.graph.decisions[path], text) for path, text in given if text != ""}

    def _read(self, text: str) -> list[str] | None:
        """What stands in place of each path, each as short as can be; None where the text is of another form. What
        stands first between two paths ends the first of them: where that leads nowhere, nothing else does."""
        first, *between, last = self.between
        if not text.startswith(first):
            return None
        out, at = [], len(first)
        for part in between:
            end = text.find(part, at)
            if end < 0:
                return None
            out.append(text[at:end])
            at = end + len(part)
        end = len(text) - len(last)
        return [*out, text[at:end]] if at <= end and text.endswith(last) else None
