"""Pictures as files, painted by graphviz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl import graph_files
from nasdsl.compiler.diagnostics import ArgumentError, NasdslError
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.space import Space
from nasdsl.drawing.dot import digraph
from nasdsl.drawing.picture import LEVELS

if TYPE_CHECKING:
    import graphviz

ENGINE = "neato"
FORMATS = ("svg", "pdf", "png", "dot")
PNG_DPI = 200
LARGEST_SIDE = 12_000  # pixels: what graphviz can still paint


class RenderError(NasdslError):
    """A picture could not be made."""

    code = "cannot-draw"


def render(space: Space | Graph, out: Path, level: str = "module", opened: Sequence[str] = ()) -> None:
    """Writes a picture, or the graph itself; the ending of the file says in which form. `digraph` says what is in a
    picture, `write_graph` what in a graph.

    Raises:
        ArgumentError: as `digraph` does; or a graph, which has every node, is to have a level or something opened.
        RenderError: the ending is of no known form, or graphviz is not installed (then the `.dot` file is written).
    """
    form = out.suffix.removeprefix(".").lower()
    if form in graph_files.FORMATS:
        if opened or level != LEVELS[0]:
            raise ArgumentError(f"`{out.name}` has every node of the graph, whatever the level and what is opened")
        graph_files.write_graph(space, out)
        return
    if form not in FORMATS:
        endings = "let the name end in .svg, .pdf, .png or .dot, or of a graph for other programs in .graphml or .json"
        raise RenderError(f"a picture cannot be written as `{out.name}`", endings)
    picture = digraph(space, level, opened)
    if form == "dot":
        out.write_text(picture.source, encoding="utf-8", newline="\n")
        return
    try:
        painted = _paint(picture, form)
    except _Missing:
        instead = out.with_suffix(".dot")
        instead.write_text(picture.source, encoding="utf-8", newline="\n")
        raise RenderError(
            f"graphviz is not installed, so the picture is written as graphviz text: {instead}",
            f"install graphviz (apt-get install graphviz), then: {ENGINE} -n2 -T{form} {instead} -o {out}",
        ) from None
    out.write_bytes(painted)


def svg(space: Space | Graph, level: str = "module") -> str:
    """A picture as the text of an SVG.

    Raises:
        RenderError: graphviz is not installed.
    """
    return _paint(digraph(space, level), "svg").decode()


class _Missing(RenderError):
    """Graphviz's program is not there."""


def _paint(picture: graphviz.Digraph, form: str) -> bytes:
    """What graphviz makes of a picture whose parts have their places.

    Raises:
        _Missing: its program is not there.
        RenderError: it did not make anything of it.
    """
    import graphviz

    options: dict[str, Any] = {"engine": ENGINE, "neato_no_op": 2, "quiet": True}
    if form == "png":
        picture.attr(dpi=str(_dpi(picture.source)))
        options["renderer"] = "cairo"
    try:
        painted: bytes = picture.pipe(format=form, **options)
    except graphviz.ExecutableNotFound:
        raise _Missing("graphviz is not installed", "install graphviz (apt-get install graphviz)") from None
    except graphviz.CalledProcessError as problem:
        raise RenderError(f"graphviz failed: {_said(problem)}") from None
    return painted


def _said(problem: Any) -> str:
    """The first line of what graphviz said."""
    text = problem.stderr.decode(errors="replace") if isinstance(problem.stderr, bytes) else problem.stderr or ""
    return next(iter(text.strip().splitlines()), f"exit status {problem.returncode}")


def _dpi(text: str) -> int:
    """The resolution of a PNG: fine, but no larger than can be painted."""
    widest = max((float(part.split(",")[0]) for part in text.split('pos="')[1:] if part[0] in "-0123456789"), default=1)
    return max(40, min(PNG_DPI, int(LARGEST_SIDE / max(widest, 1) * 72)))
