"""Tables of numbers for regression: CSV files with a column for each feature and each target, a row for each sample.

A sample is an image of one pixel, whose channels are the features: networks for tables begin with
`input features x 1 x 1`.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nasdsl.runtime.data.errors import DataError, some
from nasdsl.runtime.data.files import Files, is_image
from nasdsl.runtime.data.readers import Reader, hold_out
from nasdsl.runtime.data.reading import Reading, held_from
from nasdsl.runtime.data.split_names import is_split, pick_splits, split_of
from nasdsl.runtime.data.splits import DataSplits, Request

ENDINGS = (".csv", ".tsv")
DELIMITERS = ",;\t"
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})
"""What stands where there is no number, in lower case."""
TARGET = re.compile(r"(target|y)([\W\d_].*)?", re.IGNORECASE)
"""Names of columns that are targets."""
SPLIT = "split"
"""The name of a column that says which rows train and which validate."""
LARGEST = float(np.finfo(np.float32).max)
MOST_COLUMNS = 100_000

Rows = NDArray[np.float64]


class TableSet(Dataset[tuple[Tensor, Tensor]]):
    """Rows of features, float32 (N, F), with targets, float32 (N, T)."""

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        self.features, self.targets = features, targets

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rows, targets = self.batch([range(len(self))[index]])
        return rows[0], targets[0]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Features as images of one pixel, float32 (B, F, 1, 1), and targets, float32 (B, T)."""
        rows = list(indices)
        return self.features[rows][:, :, None, None], self.targets[rows]


# --- Files ------------------------------------------------------------------------------------------------------------


def tables_in(files: Files) -> dict[str, str]:
    """The tables of some files by their split, or the only one; none where they are something else."""
    if files.chosen is not None:
        return {"": files.chosen} if files.chosen.lower().endswith(ENDINGS) else {}
    if any(is_image(name) for name in files.names):
        return {}
    found = [name for name in files.names if name.lower().endswith(ENDINGS) and "/" not in name]
    if len(found) == 1:
        return {"": found[0]}
    stems = {name.rpartition(".")[0]: name for name in found}
    return stems if len(stems) == len(found) and all(map(is_split, stems)) else {}


def accepts(files: Files) -> bool:
    """Whether there is one table, or one for each split, with names of columns and numbers below them."""
    tables = tables_in(files)
    if not tables:
        return False
    start = files.start(next(iter(tables.values()))).decode("utf-8-sig", "replace").splitlines()
    if len(start) < 2:
        return False
    names, first = next(csv.reader(start[:1], delimiter=delimiter_of(start[0])), []), start[1]
    cells = next(csv.reader([first], delimiter=delimiter_of(start[0])), [])
    return len(names) > 1 and not all(map(is_number, names)) and any(map(is_number, cells))


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # which Python allows between digits


def delimiter_of(header: str) -> str:
    """What is between the columns: what the first line has most of."""
    return max(DELIMITERS, key=header.count)


@dataclass(frozen=True)
class Table:
    """Names of columns, rows of cells, and the line of each row in its file."""

    where: str
    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        place = self.names.index(name)
        return [row[place] for row in self.rows]

    def numbers(self, names: Sequence[str]) -> Rows:
        """The columns as numbers.

        Raises:
            DataError: a cell has none.
        """
        columns = [self._numbers(name) for name in names]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self.rows), 0))

    def _numbers(self, name: str) -> Rows:
        cells = self.column(name)
        missing = [line for cell, line in zip(cells, self.lines, strict=True) if cell.strip().lower() in MISSING]
        if missing:
            more = f", nor have {len(missing) - 1:,} other rows" if len(missing) > 1 else ""
            raise DataError(
                f"line {missing[0]} of {self.where} has no value for `{name}`{more}",
                help="fill the values in, or leave out such rows or the column",
            )
        for cell, line in zip(cells, self.lines, strict=True):
            if not is_number(cell):
                comma = is_number(cell.replace(",", ".", 1))
                raise DataError(
                    f"line {line} of {self.where} has `{cell.strip()}` for `{name}`, which is no number",
                    help="write numbers with a decimal point"
                    if comma
                    else "words become numbers as a column of 0 and 1 for each of them; leave out what is no feature",
                )
            if not math.isfinite(float(cell)) or abs(float(cell)) > LARGEST:
                raise DataError(f"line {line} of {self.where} has {cell.strip()} for `{name}`: no finite 32-bit number")
        return np.array([float(cell) for cell in cells])


def parsed(text: str, where: str) -> Table:
    """A table of text.

    Raises:
        DataError: it has no names of columns, two of one name, or a row of another length.
    """
    header, _, _ = text.partition("\n")
    names, rows, lines = tuple[str, ...](), list[list[str]](), list[int]()
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(header))
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if not names:
                names = tuple(cell.strip() for cell in row)
                continue
            if len(row) != len(names):
                raise DataError(
                    f"line {reader.line_num} of {where} has {len(row)} values, and the first line names {len(names)}"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as problem:
        raise DataError(f"line {reader.line_num} of {where} is not that of a table: {problem}") from None
    _check_names(names, where)
    return Table(where, names, rows, lines)


def _check_names(names: Sequence[str], where: str) -> None:
    help = "the first line names the columns"
    if not names or all(map(is_number, names)):
        raise DataError(f"{where} has no names of columns", help=help)
    if not all(names):
        raise DataError(f"column {names.index('') + 1} of {where} has no name", help=help)
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(f"{where} has {names.count(twice[0])} columns called `{twice[0]}`")
    if not 2 <= len(names) <= MOST_COLUMNS:
        raise DataError(f"{where} has {len(names):,} columns, and 2 to {MOST_COLUMNS:,} are read")


def roles(names: Sequence[str]) -> tuple[list[str], list[str], str]:
    """Features, targets, and in words how the targets were told: by their names, or else the last column."""
    inner = [name for name in names if name.lower() != SPLIT]
    targets = [name for name in inner if TARGET.fullmatch(name)]
    why = "by their names"
    if not targets:
        targets, why = inner[-1:], "the last column"
    return [name for name in inner if name not in targets], targets, why


# --- Splits -----------------------------------------------------------------------------------------------------------


def read(files: Files, request: Request) -> DataSplits:
    """Columns called `target`, `y`, or so and something behind it (`target_price`, `y2`) are targets; without any, the
    last column is. All others are features. A column `split` says which rows train and which validate.

    Raises:
        DataError: a cell has no number, columns differ between splits, or there are no features or too few rows.
    """
    found = tables_in(files)
    if not found:
        raise DataError(f"{files.title} has no table, or several that are no splits", help=f"expected {TABLES.expects}")
    tables = {split: parsed(files.text(name), files.at(name)) for split, name in found.items()}
    train_name, val_name = ("", None) if len(tables) == 1 else pick_splits(list(tables), files.title)
    train = tables[train_name] if train_name else next(iter(tables.values()))
    features, targets, why = roles(train.names)
    if not features:
        raise DataError(f"{train.where} has no column that is a feature", help=f"{some(targets)} are targets")
    if val_name is None:
        train.numbers([*features, *targets])  # what is wrong is told in the order of the lines
        train, val, origins = _split(train, request)
    else:
        val, origins = tables[val_name], (found[train_name], found[val_name])
    lacking = [name for name in (*features, *targets) if name not in val.names]
    if lacking:
        raise DataError(f"{val.where} has no column `{lacking[0]}`, which {train.where} has")
    sets = [as_set(table.numbers(features), table.numbers(targets)) for table in (train, val)]
    notes = (
        f"features: {len(features)}: {some(features, 8)}",
        f"targets: {len(targets)}: {some(targets, 8)} ({why})",
        *warnings_of(sets[0], features, targets, train.where),
    )
    return DataSplits(
        train=sets[0],
        val=sets[1],
        task=TABLES.task,
        classes=tuple(targets),
        channels=len(features),
        size=(1, 1),
        description=f"{files.title}: a table, {len(train.rows)} train and {len(val.rows)} validation rows of "
        f"{len(features)} features, {len(targets)} targets",
        details={"features": features},
        reading=Reading(files, *origins, images=(), others=tuple(found.values()), notes=notes),
    )


def _split(table: Table, request: Request) -> tuple[Table, Table, tuple[str, str]]:
    """One table as two, by its column `split` or by chance."""
    own = next((name for name in table.names if name.lower() == SPLIT), None)
    if own is None:
        if len(table.rows) < 2:
            raise DataError(
                f"{table.where} has {'one row' if table.rows else 'no rows'}, and no part can be held out to validate"
            )
        train, val = hold_out(range(len(table.rows)), request.seed)
        return _rows(table, train), _rows(table, val), held_from("the rows")
    words = [cell.strip() for cell in table.column(own)]
    for word, line in zip(words, table.lines, strict=True):
        if not is_split(word):
            raise DataError(
                f"line {line} of {table.where} has `{word}` for `{own}`", help="a split is called train, val or test"
            )
    kinds = [split_of(word) for word in words]
    validates = "val" if "val" in kinds else "test"
    parts = [[i for i, kind in enumerate(kinds) if kind == wanted] for wanted in ("train", validates)]
    for wanted, part in zip(("train", validates), parts, strict=True):
        if not part:
            raise DataError(f"no row of {table.where} is for `{wanted}`", help=f"the column `{own}` says so")
    return _rows(table, parts[0]), _rows(table, parts[1]), (f"`{own}` train", f"`{own}` {validates}")


def _rows(table: Table, chosen: Iterable[int]) -> Table:
    chosen = list(chosen)
    return Table(table.where, table.names, [table.rows[i] for i in chosen], [table.lines[i] for i in chosen])


def as_set(features: Rows, targets: Rows) -> TableSet:
    return TableSet(torch.from_numpy(features.astype(np.float32)), torch.from_numpy(targets.astype(np.float32)))


def warnings_of(train: TableSet, features: Sequence[str], targets: Sequence[str], where: str) -> list[str]:
    """What is hardly meant.

    Raises:
        DataError: a target does not vary, so that there is nothing to learn.
    """
    for place, name in enumerate(targets):
        if len(train) and bool((train.targets[:, place] == train.targets[0, place]).all()):
            raise DataError(f"the target `{name}` has one value in all training rows of {where}: nothing can be learnt")
    same = [name for i, name in enumerate(features) if bool((train.features[:, i] == train.features[0, i]).all())]
    if not same:
        return []
    verb = "has" if len(same) == 1 else "have"
    quoted = [f"`{name}`" for name in same]
    return [f"warning: {some(quoted)} {verb} one value in all training rows"]


def numbered_rows(text: str, where: str, features: Sequence[str]) -> tuple[Table, Tensor]:
    """A table to predict from, and its features (N, F, 1, 1), whatever else it has.

    Raises:
        DataError: a feature is missing, or a cell has no number.
    """
    table = parsed(text, where)
    lacking = [name for name in features if name not in table.names]
    if lacking:
        raise DataError(f"{where} has no column `{lacking[0]}`", help=f"the network learnt from {some(features, 12)}")
    return table, torch.from_numpy(table.numbers(features).astype(np.float32))[:, :, None, None]


def embedded(request: Request) -> DataSplits:
    """Scikit-learn's diabetes data: how far the disease has gone a year later, from ten measurements of 442 patients
    (Efron et al., Annals of Statistics 2004). A fixed 20 % validates."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    features, targets = np.asarray(bunch.data), np.asarray(bunch.target)[:, None]
    parts = hold_out(range(len(features)), request.seed)
    train, val = (as_set(features[rows], targets[rows]) for rows in parts)
    names = [str(name) for name in bunch.feature_names]
    what = f"scikit-learn's diabetes data: {len(train)} train, {len(val)} validation rows of {len(names)} features"
    return DataSplits(train, val, TABLES.task, ("progression",), len(names), (1, 1), what, details={"features": names})


TABLES = Reader(
    name="tables",
    task="regression",
    expects="a CSV file of numbers whose first line names the columns, or train.csv and val.csv",
    accepts=accepts,
    read=read,
    could=lambda files: bool(tables_in(files)),
)
