"""The command that lists the trials of a search."""

from __future__ import annotations

import csv
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.options import describe
from nasdsl.streams import as_json
from nasdsl.terminal import printable

if TYPE_CHECKING:
    from nasdsl.runtime.evolution.trial import Trial


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Lists the trials of a search that evaluates architectures: what was measured, what they cost, which\n"
        "they were made from. It can be asked while the search is running.",
        "trials runs/found",
        "trials runs/found --format csv > trials.csv",
        "trials --storage postgresql://me@host/trials --study trionet --format json",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", help="the folder of the run, such as runs/found")
    parser.add_argument("--storage", metavar="URL", help="the database, where it is not the file in the folder")
    parser.add_argument("--study", metavar="NAME", help="which study, where the database has several")
    parser.add_argument(
        "--format",
        choices=("text", "json", "csv"),
        default="text",
        help="json: with the decisions of each architecture; csv: with a column for each decision",
    )


def run(args: Namespace) -> None:
    from nasdsl.options import UsageError
    from nasdsl.runtime.errors import RunError
    from nasdsl.runtime.storage import DATABASE, database_url
    from nasdsl.runtime.trials import read_database

    if (args.run is None) == (args.storage is None):
        raise UsageError("name the folder of a run, or a database with --storage")
    if args.storage is None and not (Path(args.run) / DATABASE).exists():
        raise RunError(
            f"{args.run} has no {DATABASE}",
            "a search in memory leaves no trials; of one in another database name it with `--storage`",
        )
    ledger = read_database(database_url(args.storage, Path(args.run or "")), args.study)
    try:
        names = list(ledger.directions)
        records = [_record(ledger.trials[index], names) for index in sorted(ledger.trials)]
    finally:
        ledger.close()
    if args.format == "json":
        as_json(records)
    elif args.format == "csv":
        _csv(records)
    else:
        _text(records, names)


def _record(trial: Trial, names: list[str]) -> dict[str, Any]:
    proposal = trial.proposal
    return {
        "trial": trial.index,
        "state": trial.state,
        "objectives": dict(zip(names, trial.objectives, strict=False)),
        "metrics": dict(trial.metrics),
        "costs": dict(proposal.costs),
        "seconds": trial.seconds,
        "seed": proposal.seed,
        "parents": list(proposal.parents),
        "key": proposal.key,
        "error": trial.error,
        "architecture": dict(proposal.architecture),
    }


def _csv(records: list[dict[str, Any]]) -> None:
    flat = []
    for record in map(_on_one_line, records):
        row = {key: value for key, value in record.items() if not isinstance(value, dict)}
        row["parents"] = " ".join(map(str, record["parents"]))
        row |= record["costs"] | record["metrics"] | record["objectives"]
        flat.append(row | {path: _cell(value) for path, value in record["architecture"].items()})
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(key for row in flat for key in row)), restval="")
    writer.writeheader()
    writer.writerows(flat)


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _on_one_line(record: dict[str, Any]) -> dict[str, Any]:
    """Without what an error's text might tell a terminal."""
    return {**record, "error": printable(record["error"])}


def _text(records: list[dict[str, Any]], names: list[str]) -> None:
    from nasdsl.terminal import amount

    costs = dict.fromkeys(name for record in records for name in record["costs"])
    known = [name for name in costs if all(_agrees(record, name) for record in records)]
    measured = [name for name in names if name not in known]
    rows = [["trial", *measured, *known, "seconds", "parents", "state"]]
    for record in records:
        values = [record["objectives"].get(name) for name in measured]
        shown = ["" if value is None else f"{value:.6g}" for value in values]
        amounts = [amount(record["costs"][name]) if name in record["costs"] else "" for name in known]
        seconds = "" if record["seconds"] is None else f"{record['seconds']:.3g}"
        state = record["state"] + (f": {printable(record['error'])}" if record["error"] else "")
        rows.append([str(record["trial"]), *shown, *amounts, seconds, " ".join(map(str, record["parents"])), state])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        print("  ".join([*cells, row[-1]]).rstrip())


def _agrees(record: dict[str, Any], name: str) -> bool:
    """Whether an objective with the name of a cost is that cost, and no figure of the evaluation's own."""
    return record["objectives"].get(name, record["costs"].get(name)) == record["costs"].get(name)
