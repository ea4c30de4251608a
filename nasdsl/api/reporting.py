"""`nasdsl.report`: a search or a training as one page of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from nasdsl.api.given import CallError, DataLike, SpaceLike, WeightsLike, space_like, tables_like
from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.measured import measured as with_measures
from nasdsl.compiler.space import Space
from nasdsl.page.examples import Asked, examples_of, examples_section, why_none
from nasdsl.page.read import database_url, read_study, read_training
from nasdsl.page.study import Objective, Record, Study
from nasdsl.page.write import page, training_page
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.outputs import check_output, inputs_of, write_output
from nasdsl.runtime.provenance import RESULT, read_origin
from nasdsl.runtime.runs import own_files, refuse_links
from nasdsl.runtime.storage import DATABASE
from nasdsl.runtime.usual import PICTURES, SCORE

if TYPE_CHECKING:
    from nasdsl.api.searching import Found
    from nasdsl.api.studying import Study as Asking
    from nasdsl.api.training import Trained
    from nasdsl.runtime.evolution.objectives import Objectives
    from nasdsl.runtime.evolution.trial import Trial


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Attributes:
        file: where it is.
        told: what is on it, in a line.
        why_no_images: why it does not show what a network finds in images, where that was asked for.
    """

    file: Path
    told: str
    why_no_images: str | None = None


def report(
    run: str | PathLike[str] | Found | Trained | Asking,
    out: str | PathLike[str] | None = None,
    *,
    space: SpaceLike | None = None,
    storage: str | None = None,
    study: str | None = None,
    pictures: int = PICTURES,
    network: SpaceLike | None = None,
    weights: WeightsLike = None,
    data: DataLike = None,
    reader: str | None = None,
    links: bool = False,
    device: str = "auto",
    latency: str | PathLike[str] | None = None,
    measured: Mapping[str, str | PathLike[str]] | None = None,
) -> Report:
    """Writes the page that `nasdsl report` writes: what a search or a training did, in a file that needs nothing else.

        nasdsl.report("runs/found")
        nasdsl.report(found, "found.html")

    Args:
        run: the folder of a search or of a training, which need not have ended; or what one gave, or a study, of which
            the trials that are in memory will do.
        out: by default `report.html` in the folder.
        space: where the folder does not say, or the file has moved.
        storage: the database of the trials, where they are not in the folder; `study`: which of it.
        pictures: architectures to draw.
        network, weights, data, reader, links, device: what finds what in which images; by default those of the run.
        latency, measured: tables of measures.

    Raises:
        RunError: there is nothing to tell, or it cannot be read.
        CompileError: the space has gone or has mistakes.
        ArgumentError: arguments that do not go together.
    """
    given = None if isinstance(run, str | PathLike) else run
    folder = Path(run) if isinstance(run, str | PathLike) else run.run
    if out is None and folder is None:
        raise CallError("the run was not kept in a folder, so `out` has to name the file")
    file = Path(out) if out is not None else folder / "report.html"  # type: ignore[operator]
    if given is None and storage is None and folder is not None and not folder.is_dir():
        raise RunError(f"there is no folder {folder}")
    asked = Asked(network, weights, data, reader, links, device, SCORE)
    _check(folder, file, space, asked)
    tables = tables_like(latency, measured)
    if given is not None and network is None and getattr(given, "network", None) is not None:
        asked = Asked(given, weights, data, reader, links, device, SCORE)
    trials = _trials(given)
    if (
        trials is None
        and folder is not None
        and storage is None
        and study is None
        and not (folder / DATABASE).is_file()
    ):
        training = read_training(folder)
        if training is not None:
            known = _space(folder, given, space)
            images, shown, why = _examples(folder, asked)
            write_output(file, training_page(with_measures(known, tables), training, images, _found(folder)))
            return Report(file, shown, why)
    if trials is None:
        if folder is None:
            raise RunError("nothing was kept of how it went", "name a folder with `run` when it begins")
        url = database_url(folder, storage)
        known = _space(folder, given, space)
        trials = read_study(url, study)
    else:
        known = _space(folder, given, space)
    if not trials.records:
        raise RunError(f"the study `{trials.name}` has no trials yet")
    images, shown, why = _examples(folder, asked)
    write_output(file, page(with_measures(known, tables), trials, pictures, images))
    return Report(file, f"{len(trials.records):,} trials, {len(trials.front):,} on the front, {shown}", why)


def _found(run: Path) -> Space | None:
    """The architecture that came of a search; None while there is none, or where its file is not what it was."""
    from nasdsl.compiler.parse import read
    from nasdsl.compiler.pipeline import elaborate
    from nasdsl.runtime.provenance import read_result

    try:
        written = read_result(run)
        return None if written is None or written.file is None else elaborate(read(Path(written.file)))
    except NasdslError:
        return None


def _check(folder: Path | None, file: Path, space: SpaceLike | None, asked: Asked) -> None:
    """That the page takes the place of nothing that is read."""
    own: list[Path] = []
    if folder is not None:
        refuse_links(folder)
        own = [] if not folder.is_dir() else [one for one in own_files(folder) if one.name != "report.html"]
    if space is not None:
        own += inputs_of(space_like(space))
    others = (asked.network, asked.weights, asked.data)
    own += [Path(one) for one in others if isinstance(one, str | PathLike)]
    check_output(file, own, streams=True)


def _space(folder: Path | None, given: Found | Trained | Asking | None, space: SpaceLike | None) -> Space:
    if space is not None:
        return space_like(space)
    if given is not None:
        return getattr(given, "searched", None) or given.space
    assert folder is not None
    return read_origin(folder)


def _trials(given: Found | Trained | Asking | None) -> Study | None:
    """Of trials that are in memory."""
    objectives: Objectives | None = getattr(given, "objectives", None)
    trials: Sequence[Trial] | None = getattr(given, "trials", None)
    if objectives is None or not trials:
        return None
    skipped: Sequence[Trial] = getattr(given, "skipped", None) or ()
    every = sorted({one.index: one for one in (*skipped, *trials)}.values(), key=lambda one: one.index)
    aims = tuple(Objective(name, up) for name, up in objectives.directions.items())
    return Study(_space(None, given, None).name, aims, [_record(one) for one in every])


def _record(trial: Trial) -> Record:
    proposal = trial.proposal
    return Record(
        number=trial.index,
        state=trial.state,
        objectives=trial.objectives,
        costs=proposal.costs,
        decisions=proposal.architecture,
        seconds=trial.seconds,
        parents=proposal.parents,
        seed=proposal.seed,
        metrics=trial.metrics,
        error=trial.error,
    )


def _examples(run: Path | None, asked: Asked) -> tuple[str, str, str | None]:
    """The part of the page with what a network finds in images; how many there are, in words; and, if they were asked
    for, why there are none. The rest of the page does not depend on it.
    """
    try:
        found = examples_of(run, asked)
    except NasdslError as problem:
        told = asked.network or asked.weights or asked.data or (run is not None and (run / RESULT).is_file())
        return examples_section(problem, SCORE), "no images", why_none(problem) if told else None
    return examples_section(found, SCORE), f"{len(found.shown)} images", None
