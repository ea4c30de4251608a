"""Options that a search does not use are mistakes: who gives one believes that it does something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from nasdsl.compiler import measures
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.space import Space
from nasdsl.runtime.limits import names_told


def refuse_unused(
    search: str, settings: BaseModel, space: Space, tables: Iterable[str], of_networks: Iterable[str]
) -> None:
    """
    Args:
        search: its name.
        tables: measures of which tables are given.
        of_networks: options that are given and say how networks are trained or measured on data; none where the search
            does that.

    Raises:
        CompileError: an option, of the command line's name, that this search has no use for.
    """
    asked = {*_words(settings.model_dump()), *names_told(space.graph)}
    asked |= {measures.base(name)[1] for name in asked if measures.lookup(name) is not None}
    for name in tables:
        if name not in asked:
            option = "--latency" if name == "latency" else f"--measured {name}=..."
            raise error(
                "unused-table",
                f"`{option}` names a table, and nothing that `search {search}` is told asks for `{name}`",
                None,
                help=f"bound or weigh it, such as by `require {name} <= 5` in the space, or leave the table out",
            )
    for option in of_networks:
        message = f"`{option}` is of no use to this `search {search}`, which trains and measures no network"
        raise error("unused-option", message, None, help="leave it out")


def _words(value: Any) -> Iterator[str]:
    """All names in settings: keys, and words that are values, with the parts of such as `expected latency`."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from (str(key), *_words(one))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _words(one)
    elif isinstance(value, str):
        yield from (value, *value.split())
