"""Which file a run searches, so that whoever looks at the run later finds its space again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nasdsl.compiler.elaborate.program import elaborate
from nasdsl.compiler.files import write_text
from nasdsl.compiler.parse import read
from nasdsl.compiler.space import Space
from nasdsl.runtime.runs import RunError

ORIGIN = "space.json"
"""The file in a run's folder that says so."""


def write_origin(run: Path, space: Space) -> None:
    """Notes the file, the name and the parameters of a space in a run's folder."""
    file = space.source.path
    told = {
        "file": None if file is None else str(file.resolve()),
        "space": space.name,
        "defines": dict(space.overrides),
        "digest": space.digest(),
    }
    write_text(run / ORIGIN, json.dumps(told, indent=2) + "\n")


def read_origin(run: Path) -> Space:
    """The space that a run searches, as its file has it now.

    Raises:
        RunError: the folder does not say, or the file has changed since.
        CompileError: the file has gone or has mistakes.
    """
    help = "name the file that was searched, as it was then, with `--file`"
    try:
        told: dict[str, Any] = json.loads((run / ORIGIN).read_text(encoding="utf-8"))
        file, name, defines, digest = (told[key] for key in ("file", "space", "defines", "digest"))
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{run} does not say which space it searches", help) from None
    if file is None:
        raise RunError(f"{run} searches a space that was in no file", help)
    space = elaborate(read(Path(file)), name, defines)
    if space.digest() != digest:
        raise RunError(f"{file} has changed since the run in {run} began", help)
    return space
