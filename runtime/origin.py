"""Which file a run searches, so that whoever looks at the run later finds its space again."""

from __future__ import annotations

from pathlib import Path

from nasdsl.compiler.elaborate.program import elaborate
from nasdsl.compiler.files import write_text
from nasdsl.compiler.parse import read
from nasdsl.compiler.space import Space
from nasdsl.compiler.stored import Stored
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.stored import read_stored

ORIGIN = "space.json"
"""The file in a run's folder that says so."""


class Origin(Stored):
    """The file, the name and the parameters of the space that a run searches, and the digest that it had then."""

    file: str | None
    space: str
    defines: dict[str, str]
    digest: str


def write_origin(run: Path, space: Space) -> None:
    """Notes the file, the name and the parameters of a space in a run's folder."""
    file = space.source.path
    told = Origin(
        file=None if file is None else str(file.resolve()),
        space=space.name,
        defines=dict(space.overrides),
        digest=space.digest(),
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
    if told.file is None:
        raise RunError(f"{run} searches a space that was in no file", help)
    space = elaborate(read(Path(told.file)), told.space, told.defines)
    if space.digest() != told.digest:
        raise RunError(f"{told.file} has changed since the run in {run} began", help)
    return space
