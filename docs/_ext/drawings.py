"""Pictures of a page: `<!-- draw: FILE [options of nasdsl draw] -> picture.svg -->` above `![...](picture.svg)`.

They are drawn while the site is built, from a file of the page (a block with a caption) or a space that ships, so that
none can be older than the compiler. `pictures` is what the build and the tests share.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from docs._ext.blocks import Block, blocks

FOLDER = "_drawn"
"""Beside the pages; made by the build, and no part of the repository."""


def pictures(text: str) -> list[Block]:
    """The pictures that a page asks for."""
    return [block for block in blocks(text) if block.kind == "draw"]


def draw(block: Block, folder: Path, target: Path) -> None:
    """Draws one.

    Args:
        folder: where the page's files lie.

    Raises:
        NasdslError: it can't be drawn.
    """
    from nasdsl.cli import _parser
    from nasdsl.commands import draw as command

    argv = ["draw", *shlex.split(block.text), "-o", str(target)]
    with contextlib.chdir(folder), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        command.run(_parser(argv).parse_args(argv))


def write_files(found: Iterator[Block], folder: Path) -> None:
    """The files of a page, from its blocks with captions."""
    for block in found:
        if block.caption and block.kind != "draw" and not Path(block.caption).is_absolute():
            file = folder / block.caption
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")


def draw_page(app: Sphinx, docname: str, content: list[str]) -> None:
    """Draws the pictures of a page that is about to be read, and lets its images lead to them."""
    text = content[0]
    wanted = pictures(text)
    if not wanted:
        return
    made = Path(app.srcdir) / FOLDER / docname
    made.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        write_files(blocks(text), Path(scratch))
        for block in wanted:
            try:
                draw(block, Path(scratch), made / block.caption)
            except Exception as problem:  # whatever it is, it belongs to this line of the page
                raise ExtensionError(f"{docname}.md:{block.line}: {block.text} cannot be drawn: {problem}") from problem
            here = re.compile(rf"(!\[[^]]*\]\(){re.escape(block.caption)}\)")
            text = here.sub(rf"\g<1>/{FOLDER}/{docname}/{block.caption})", text)
    content[0] = text


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", draw_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
