"""Tables of known results: which architecture each row is, and what was measured.

A table is a CSV file with a header or a JSON file, packed with gzip where it ends in `.gz`. JSON holds a list of
records, or one record that has the rows by name, which is then one more column, `key`. Which architecture a row is, is
written down in one of three ways:

- nothing: columns have the names of the decisions, as `Encoding.to_table` writes them;
- `column: arch, pattern: "|{cell.n1[n0].edge}~0|+|..."`: a text, with the paths of decisions in braces. Nothing need
  stand between two of them, `"{a}{b}{c}"`, as long as a text can be read in one way;
- `rows: name`: a function of a row (a dict of its columns) that gives the decisions by path, as names. It is an entry
  point of the group `nasdsl.rows`; on the command line also `--set 'table.rows="module:function"'`.

Where the table has words of its own for options, `names: { "0": skip, "1": conv }` says what they mean.

All columns that hold numbers are metrics. Records within records have names with dots: `metrics.seg.mIoU`. An empty
cell, or one that is no finite number, is an evaluation that failed.
"""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import math
import re
import reprlib
import statistics
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import field_validator

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
from nasdsl.runtime.evolution.objectives import EvaluationError, Untrainable
from nasdsl.runtime.files import content, folder_of, known_file
from nasdsl.runtime.functions import ROWS, find_function
from nasdsl.runtime.problem import Problem
from nasdsl.runtime.settings import Settings

LARGEST = 1 << 29
"""Bytes of a table, unpacked."""
KEY = "key"
"""The column with the names of rows, where a JSON record has them by name."""

Row = Mapping[str, Any]
Reader = Callable[[Row], Mapping[str, Any]]
"""From a row to decisions by path, as names."""


class TableSettings(Settings):
    """`table: { ... }`. With `table: "results.csv"` the columns are the decisions.

    Attributes:
        file: a path, from the `.space` file's folder.
        list: in a JSON file that holds a record, under which name the rows stand.
        column, pattern: the column with the architecture, and how it is written, with the paths of decisions in braces.
            Of rows that have names the column is these, if no other is said.
        rows: the function that gives a row's decisions by path (`runtime/functions.py`).
        names: what words of the table mean: options, or values of other decisions, as the space writes them.
        duplicates: what becomes of several rows of one architecture: they are refused, their `mean` is taken, of each
            column alone, or the `first` of them.
        at_most, at_least: bounds on columns; rows beyond them do not count as there.
    """

    word: ClassVar[str | None] = "file"

    file: str
    list: str | None = None
    column: str | None = None
    pattern: str | None = None
    rows: str | None = None
    names: Mapping[str, Any] = {}
    duplicates: Literal["refuse", "mean", "first"] = "refuse"
    at_most: Mapping[str, float] = {}
    at_least: Mapping[str, float] = {}

    @field_validator("names")
    @classmethod
    def _of_words(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        for text, word in value.items():
            if not isinstance(word, str | int | float):
                raise ValueError(f"says what words mean, `{{ {text}: conv }}`, and not {reprlib.repr(word)}")
        return value

    @field_validator("at_most", "at_least", mode="before")
    @classmethod
    def _of_columns(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("bounds columns, such as `{ latency_ms: 5 }`")
        return value


class Table(NamedEvaluator):
    """The metrics of architectures of a space.

    Attributes:
        architectures: those that have a row inside the bounds, in the order of the file.
        columns: that hold numbers in some row.
        rows: of each architecture the number of its first row.

    Raises:
        RunError: the file cannot be read, or a row is no architecture of the space; which row, and why.
    """

    settings: ClassVar[Any] = TableSettings

    @classmethod
    def make(cls, problem: Problem, settings: TableSettings, wanted: Collection[str]) -> Self:
        return cls(problem.space, known_file(settings.file, folder_of(problem.space)), settings, wanted)

    @classmethod
    def contents(cls, settings: TableSettings, base: Path | None) -> Mapping[str, str]:
        return {"table": content(known_file(settings.file, base))}

    def __init__(self, space: Space, file: Path, settings: TableSettings, wanted: Collection[str] = ()):
        self.wanted = frozenset(wanted)
        self.graph: Graph = space.graph
        self.file = file
        read = _reader(space, settings)
        self.metrics: dict[Architecture, dict[str, float]] = {}
        told = {*space.graph.decisions, settings.column or KEY} if settings.pattern else set(space.graph.decisions)
        found: dict[Architecture, list[dict[str, float]]] = {}
        self.rows: dict[Architecture, int] = {}
        for number, row in enumerate(_rows(file, settings), 1):
            try:
                architecture = Architecture.of(space.graph, read(row))
            except (ArchitectureError, RunError) as problem:
                raise RunError(f"{file.name}, row {number}: {problem.message}", problem.help) from problem
            if architecture in found and settings.duplicates == "refuse":
                raise RunError(
                    f"{file.name}, row {number}: row {self.rows[architecture]} has the same architecture",
                    "`duplicates: mean` averages them, `duplicates: first` takes the first",
                )
            if architecture not in found or settings.duplicates == "mean":
                found.setdefault(architecture, []).append(_numbers(row, told))
            self.rows.setdefault(architecture, number)
        if not found:
            raise RunError(f"{file.name} has no rows")
        self.columns = list(dict.fromkeys(name for rows in found.values() for one in rows for name in one))
        inside = _bounds(file, settings, self.columns)
        means = {architecture: _mean(rows) for architecture, rows in found.items()}
        self.metrics = {architecture: numbers for architecture, numbers in means.items() if inside(numbers)}
        if not self.metrics:
            raise RunError(f"no row of {file.name} lies inside `at_most` and `at_least`")
        self.architectures = list(self.metrics)

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        found = self.metrics.get(architecture)
        if found is None:
            raise EvaluationError(f"{self.file.name} has no row of this architecture")
        empty = [name for name in self.columns if name in self.wanted and name not in found]
        if empty:
            row = f"row {self.rows[architecture]} of {self.file.name}"
            raise Untrainable(f"{row} has no number for `{empty[0]}`")
        return found

    def pool(self, encoding: Encoding) -> Rows:
        """[n, width] the architectures of the table as rows of an encoding."""
        return np.asarray(encoding.encode(self.architectures))


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of each column the mean of the numbers that there are."""
    if len(rows) == 1:
        return rows[0]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistics.fmean([row[name] for row in rows if name in row]) for name in names}


def _bounds(file: Path, settings: TableSettings, columns: Collection[str]) -> Callable[[Mapping[str, float]], bool]:
    """Whether a row lies inside the bounds; one that has no number there does not.

    Raises:
        RunError: there is no such column.
    """
    for name in (*settings.at_most, *settings.at_least):
        if name not in columns:
            raise RunError(f"{file.name} has no column of numbers `{name}`", suggest(name, columns))

    def inside(row: Mapping[str, float]) -> bool:
        most = all(name in row and row[name] <= bound for name, bound in settings.at_most.items())
        return most and all(name in row and row[name] >= bound for name, bound in settings.at_least.items())

    return inside


def _rows(file: Path, settings: TableSettings) -> Iterator[dict[str, Any]]:
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
        for record in _records(file, text, settings.list):
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
    elif isinstance(whole, dict) and not _by_name(whole):
        inside = [key for key, value in whole.items() if isinstance(value, list) or _by_name(value)]
        if len(inside) != 1:
            several = f": {', '.join(f'`{key}`' for key in inside[:4])}" if inside else ""
            help = "say which with `list: NAME`" if inside else "rows are records"
            raise RunError(f"{file.name} holds {len(inside) or 'no'} lists of rows{several}", help)
        whole = whole[inside[0]]
    if _by_name(whole):
        return [{KEY: key, **record} for key, record in whole.items()]
    if not isinstance(whole, list) or not all(isinstance(record, dict) for record in whole):
        raise RunError(f"{file.name} holds no list of records" + (f" under `{name}`" if name else ""))
    return whole


def _by_name(value: Any) -> bool:
    """Whether a JSON value is a record of rows."""
    return isinstance(value, dict) and bool(value) and all(isinstance(record, dict) for record in value.values())


def _flat(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _numbers(row: Row, told: Collection[str]) -> dict[str, float]:
    """The metrics of a row: all finite numbers but in the columns that tell the architecture."""
    out = {}
    for name, value in row.items():
        if name in told or isinstance(value, bool | list) or value is None:
            continue
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(number):
            out[name] = number
    return out


# --- From a row to an architecture ------------------------------------------------------------------------------------


def _reader(space: Space, settings: TableSettings) -> Reader:
    if settings.rows is not None:
        if settings.column is not None or settings.pattern is not None:
            raise RunError("a table has `rows`, or `column` and `pattern`, and not both")
        if settings.names:
            raise RunError("a function says what a row's words mean: a table has `rows`, or `names`, and not both")
        return _by_function(settings.rows)
    if settings.column is not None and settings.pattern is None:
        raise RunError("`column` of a table needs the `pattern` by which an architecture stands there")
    words = Words(space.graph, settings.names)
    if settings.pattern is not None:
        return Pattern(words, settings.column or KEY, settings.pattern)
    return lambda row: _by_columns(words, row)


def _by_function(name: str) -> Reader:
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


class Words:
    """What the cells of a table call the values of decisions.

    Args:
        names: words of the table's own, and what the space says for them.

    Raises:
        RunError: no decision has what such a word means.
    """

    def __init__(self, graph: Graph, names: Mapping[str, Any]):
        self.graph, self.names = graph, {text: str(word) for text, word in names.items()}
        self.items = {path: written(decision) for path, decision in graph.decisions.items()}
        known = {text for items in self.items.values() for text in items}
        for text, word in self.names.items():
            if word not in known:
                raise RunError(f"`{word}`, which `names` says for `{text}`, is no option", suggest(word, sorted(known)))

    def value(self, path: str, cell: Any) -> Any:
        """A cell as a decision's value: the item that is written so, or a list of such."""
        kind = self.graph.decisions[path].kind
        if not isinstance(cell, str) or kind == "units":
            return self._item(path, str(cell)) if str(cell) in self.names else cell
        if kind == "choice":
            return self._item(path, cell)
        return [self._item(path, part.strip()) for part in cell.strip("[]").split(",") if part.strip()]

    def _item(self, path: str, text: str) -> Any:
        items, own = self.items[path], self.names.get(text)
        return items.get(own if own in items else text, text)  # what `names` says goes before

    def of(self, path: str) -> list[str]:
        """All that a choice can be written as, the longest first."""
        items = self.items[path]
        return sorted({*items, *(text for text, word in self.names.items() if word in items)}, key=len, reverse=True)


def written(decision: Decision) -> dict[str, Any]:
    """The items of a decision by what they can be written as: their words and their labels."""
    labels = decision.labels or tuple(map(str, decision.items))
    found: dict[str, Any] = {}
    for word, label in zip(decision.words, labels, strict=True):
        found.setdefault(str(word), word)
        found.setdefault(label, word)
    return found


def _by_columns(words: Words, row: Row) -> dict[str, Any]:
    missing = [path for path in words.graph.decisions if path not in row]
    if missing:
        raise RunError(
            f"the table has no column `{missing[0]}`",
            "name its columns as the decisions, or say how it writes architectures: "
            "`table: { file: ..., column: ..., pattern: ... }`",
        )
    cells = {path: row[path] for path in words.graph.decisions}
    return {path: words.value(path, cell) for path, cell in cells.items() if cell not in ("", None)}


class Pattern:
    """A way of writing architectures: text with the paths of decisions in braces.

    Raises:
        RunError: a path that the space does not have, or one that stands twice.
    """

    def __init__(self, words: Words, column: str, pattern: str):
        self.words, self.column, self.text = words, column, pattern
        graph = words.graph
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
        self._close = not all(self.between[1:-1])
        if self._close:  # then only what a decision can be tells where its part ends
            other = next((path for path in self.paths if graph.decisions[path].kind != "choice"), None)
            if other is not None:
                kind = graph.decisions[other].kind
                raise RunError(f"nothing stands between `{{{other}}}`, which is of kind {kind}, and its neighbours")

    def __call__(self, row: Row) -> dict[str, Any]:
        if self.column not in row:
            help = suggest(self.column, row) if self.column != KEY else "say which with `column: NAME`"
            raise RunError(f"the table has no column `{self.column}`", help)
        text = str(row[self.column])
        found = self._read_close(text) if self._close else self._read(text)
        if found is None:
            raise RunError(f"`{text}` is not written as the pattern `{self.text}`", self._help())
        given = zip(self.paths, found, strict=True)
        return {path: self.words.value(path, text) for path, text in given if text != ""}

    def _help(self) -> str:
        if not self._close:
            return ""
        known = ", ".join(f"`{word}`" for word in self.words.of(self.paths[0]))
        return f"`{{{self.paths[0]}}}` can be {known}; `names` says what other words mean"

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

    def _read_close(self, text: str) -> list[str] | None:
        """The same where paths stand side by side: each is one of the words that its decision can be, and absent where
        it need not be there.

        Raises:
            RunError: the text can be read in several ways.
        """
        ends: dict[int, list[list[str]]] = {0: [[]]} if text.startswith(self.between[0]) else {}
        ends = {len(self.between[0]): ways for ways in ends.values()}
        for path, part in zip(self.paths, self.between[1:], strict=True):
            absent = [] if self.words.graph.decisions[path].present is True else [""]
            after: dict[int, list[list[str]]] = {}
            for at, ways in ends.items():
                for word in (*self.words.of(path), *absent):
                    if text.startswith(word + part, at):  # two ways to a place tell that there are several
                        found = after.setdefault(at + len(word) + len(part), [])
                        found += [[*way, word] for way in ways][: 2 - len(found)]
            ends = after
        ways = ends.get(len(text), [])
        if len(ways) > 1:
            raise RunError(f"`{text}` can be read in several ways by the pattern `{self.text}`")
        return ways[0] if ways else None
