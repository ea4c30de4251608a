"""Pins as text: for a file, and as a command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nasdsl import spaces
from nasdsl.compiler.space import Space
from nasdsl.compiler.write import absent, pinned

NAME = "pinned"


def texts(space: Space, pins: Mapping[str, Any], budgets: Sequence[str], command: Sequence[str]) -> dict[str, str]:
    """What the page copies and saves.

    Args:
        pins: values by path, as `pin` takes them.
        budgets: conditions that are to be required.
        command: the words after `nasdsl pin` that name the space.

    Returns:
        `file`: a file with the smaller space, `with`: its block alone, `command`: what writes the same file but for the
        budgets; the latter two are empty where nothing is pinned, or required.
    """
    there = {path: value for path, value in pins.items() if not absent(space.graph.decisions[path], pins)}
    text = pinned(space, there, NAME, _path(space))
    head, _, block = text.rpartition(" with {")
    inside = block.rstrip().removesuffix("}").strip("\n")
    lines = [*([inside] if inside.strip() else []), *(f"  require {budget}" for budget in budgets)]
    block = "with {\n" + "\n".join(lines) + "\n}" if lines else ""
    words = [f"{path}={space.graph.decisions[path].describe(value)}" for path, value in there.items()]
    return {
        "file": f"{head} {block or 'with {}'}\n",
        "with": block if there or budgets else "",
        "command": shlex.join(["nasdsl", "pin", *command, *words, "-o", f"{NAME}.space"]) if words else "",
    }


def _path(space: Space) -> str:
    """How a file anywhere names that of the space: one that ships by its name, others by the whole path."""
    path = space.source.path
    if path is None:
        return f"{space.name}.space"
    whole = path.parent.resolve() / path.name
    if whole.parent == spaces.FOLDER.resolve():
        return path.name
    return str(whole).replace(os.sep, "/")
