"""Pictures as files, painted by graphviz."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.space import Space
from nasdsl.drawing.dot import to_dot

PROGRAM = "neato"
FORMATS = ("svg", "pdf", "png", "dot")
PNG_DPI = 200
LARGEST_SIDE = 12_000  # pixels: what graphviz can still paint


class RenderError(NasdslError):
    """A picture could not be made."""

    code = "cannot-draw"


def render(space: Space | Graph, out: Path, level: str = "module", opened: Sequence[str] = ()) -> None:
    """Writes a picture; the ending of the file says in which form. `to_dot` says what is in it.

    Raises:
        ArgumentError: as `to_dot` does.
        RenderError: the ending is of no known form, or graphviz is not installed (then the `.dot` file is written).
    """
    form = out.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise RenderError(
            f"a picture cannot be written as `{out.name}`", "let the name end in .svg, .pdf, .png or .dot"
        )
    text = to_dot(space, level, opened)
    if form == "dot":
        out.write_text(text, encoding="utf-8", newline="\n")
        return
    if shutil.which(PROGRAM) is None:
        instead = out.with_suffix(".dot")
        instead.write_text(text, encoding="utf-8", newline="\n")
        raise RenderError(
            f"graphviz is not installed, so the picture is written as graphviz text: {instead}",
            f"install graphviz (apt-get install graphviz), then: {PROGRAM} -n2 -T{form} {instead} -o {out}",
        )
    paint(text, form, "-o", str(out))


def svg(space: Space | Graph, level: str = "module") -> str:
    """A picture as the text of an SVG.

    Raises:
        RenderError: graphviz is not installed.
    """
    if shutil.which(PROGRAM) is None:
        raise RenderError("graphviz is not installed", "install graphviz (apt-get install graphviz)")
    return paint(to_dot(space, level), "svg")


def paint(text: str, form: str, *options: str) -> str:
    """What graphviz makes of its language."""
    command = [PROGRAM, "-n2", f"-T{form}:cairo" if form == "png" else f"-T{form}", *options]
    if form == "png":
        command.insert(1, f"-Gdpi={_dpi(text)}")
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise RenderError(f"graphviz failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _dpi(text: str) -> int:
    """The resolution of a PNG: fine, but no larger than can be painted."""
    widest = max((float(part.split(",")[0]) for part in text.split('pos="')[1:] if part[0] in "-0123456789"), default=1)
    return max(40, min(PNG_DPI, int(LARGEST_SIDE / max(widest, 1) * 72)))
