"""Options that a search does not use are mistakes: who gives one believes that it does something."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nasdsl.compiler import measures
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.space import Space
from nasdsl.runtime.limits import names_told

if TYPE_CHECKING:
    from pydantic import BaseModel

    from nasdsl.runtime.search import Options


def refuse_unused(options: Options, search: str, settings: BaseModel, space: Space, reads_data: bool) -> None:
    """
    Args:
        search: its name.
        reads_data: whether it trains or measures networks on data.

    Raises:
        CompileError: an option, of the command line's name, that this search has no use for.
    """
    asked = {*_words(settings.model_dump()), *names_told(space.graph)}
    asked |= {measures.base(name)[1] for name in asked if measures.lookup(name) is not None}
    for name in options.tables:
        if name not in asked:
            option = "--latency" if name == "latency" else f"--measured {name}=..."
            raise error(
                "unused-table",
                f"`{option}` names a table, and nothing that `search {search}` is told asks for `{name}`",
                None,
                help=f"bound or weigh it, such as by `require {name} <= 5` in the space, or leave the table out",
            )
    if reads_data:
        return
    given = {
        "--data": options.data is not None,
        "--reader": options.reader is not None,
        "--device": options.accelerator != "auto",
        "--workers": options.workers != 0,
    }
    for option, there in given.items():
        if there:
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
