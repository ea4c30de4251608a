"""Which file a run searches, and which network it gave, so that whoever looks at the run later finds both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from nasdsl.compiler.architecture import value_to_json
from nasdsl.compiler.decide import decide
from nasdsl.compiler.files import quoted, unquoted, write_text
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.stored import Stored
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.stored import read_stored

ORIGIN = "space.json"
"""The file in a run's folder that says so."""
RESULT = "result.json"
"""The file in a run's folder that says which network came of it."""


class Origin(Stored):
    """The file, the name and the parameters of the space that a run searches, and the digest that it had then.

    Attributes:
        text: of a space that was in no file.
        decided: the decisions that were set in Python, by path, as `Architecture.to_json` writes them.
    """

    file: str | None
    space: str
    defines: dict[str, str]
    digest: str
    text: str | None = None
    decided: dict[str, Any] = Field(default_factory=dict)


def write_origin(run: Path, space: Space) -> None:
    """Notes the file, the name and the parameters of a space in a run's folder."""
    file = space.source.path
    whole = space.graph if space.whole is None else space.whole
    told = Origin(
        file=None if file is None else quoted(str(file.parent.resolve() / file.name)),
        space=space.name,
        defines=dict(space.overrides),
        digest=space.digest(),
        text=space.source.text if file is None else None,
        decided={path: value_to_json(whole.decisions[path], index) for path, index in space.decided.items()},
    )
    write_text(run / ORIGIN, told.model_dump_json(indent=2) + "\n")


def read_origin(run: Path) -> Space:
    """The space that a run searches, as its file has it now.

    Raises:
        RunError: the folder does not say, or the file has changed since.
        CompileError: the file has gone or has mistakes.
    """
    help = "name the file that was searched, as it was then, with `--file`"
    if not (run / ORIGIN).is_file():
        raise RunError(f"{run} does not say which space it searches", help)
    told = read_stored(Origin, run / ORIGIN, "what says which space a run searches", help)
    if told.file is None and told.text is None:
        raise RunError(f"{run} searches a space that was in no file", help)
    space = space_of(told)
    if space.digest() != told.digest:
        what = "the space" if told.file is None else told.file
        raise RunError(f"{what} has changed since the run in {run} began", help)
    return space


def space_of(origin: Origin) -> Space:
    """The space that a run searches, as its file, or else its text, has it now.

    Raises:
        CompileError: the file has gone or has mistakes, or no decision is there that was set.
    """
    source = Source(origin.text or "") if origin.file is None else read(Path(unquoted(origin.file)))
    space = elaborate(source, origin.space, origin.defines)
    return decide(space, origin.decided) if origin.decided else space


class Written(Stored):
    """The trained network of a run that has ended, and what it learnt from.

    Attributes:
        file: of the architecture; None where it is what the run's origin names.
        weights: the file of its weights.
        data: a path; None is the embedded data.
        reader: of the data, where it was named; and whether `links` that lead out of it were followed.
        given: whether the data was handed over in Python, so that no file has it.
    """

    file: str | None
    weights: str
    data: str | None
    reader: str | None
    links: bool = False
    given: bool = False


def write_result(
    run: Path, file: Path | None, weights: Path, data: str | None, reader: str | None, links: bool, given: bool = False
) -> None:
    """Notes the network of a run in its folder, in paths that hold from anywhere."""
    told = Written(
        file=None if file is None else quoted(str(file.resolve())),
        weights=quoted(str(weights.resolve())),
        data=None if data is None else quoted(str(Path(data).resolve())),
        reader=reader,
        links=links,
        given=given,
    )
    write_text(run / RESULT, told.model_dump_json(indent=2) + "\n")


def read_result(run: Path) -> Written | None:
    """The network of a run; None where the folder names none.

    Raises:
        RunError: the file that says so cannot be read.
    """
    if not (run / RESULT).is_file():
        return None
    told = read_stored(Written, run / RESULT, "what says which network a run gave")
    paths = {name: getattr(told, name) for name in ("file", "weights", "data")}
    return told.model_copy(update={name: unquoted(path) for name, path in paths.items() if path is not None})
