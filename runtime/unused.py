"""Options that a search does not use are mistakes: who gives one believes that it does something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nasdsl.compiler import measures
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.space import Space
from nasdsl.runtime.limits import names_told

if TYPE_CHECKING:
    from nasdsl.runtime.problem import Strategy


def refuse_unused(
    strategy: type[Strategy],
    settings: BaseModel,
    space: Space,
    typed: Iterable[str],
    tables: Iterable[str],
    of_networks: Iterable[str],
) -> None:
    """
    Args:
        typed: settings of the command line. A section of the file may be another search's, too, and have what that one
            uses.
        tables: measures of which tables are given.
        of_networks: options that are given and say how networks are trained or measured on data; none where the search
            does that.

    Raises:
        CompileError: an option, of the command line's name, that this search has no use for.
    """
    search, uses = strategy.name, getattr(strategy, "uses", None)
    for name in typed:
        if uses is not None and name not in uses:
            message = f"`search {search}` does not use `{name}`"
            raise error("unused-option", message, None, help=f"leave it out; what it uses are {', '.join(uses)}")
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
