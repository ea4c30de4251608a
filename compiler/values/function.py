"""What is known of a function of values. `table.py` has a record for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from nasdsl.compiler.example import Manual
from nasdsl.compiler.values.plain import Kind

Value: TypeAlias = Any
"""A plain value or an expression over decisions (`tree.py`)."""

Interval: TypeAlias = tuple[Any, Any]
"""Plain numbers that a value does not fall below and does not exceed."""


@dataclass(frozen=True)
class Call:
    """How a file calls a function: all arguments by position.

    Attributes:
        least, most: how many arguments it takes.
        example: a call.
        of_items: whether one list may stand for its items.
    """

    least: int
    most: int
    example: str
    of_items: bool = False


@dataclass(frozen=True)
class Function:
    """A function of values: the only place that says what it means.

    Attributes:
        takes: kinds of its arguments, the last of them that of all further ones; None takes any.
        gives: the kind of its value, or how that follows from the arguments' values.
        plain: (*plain values) -> plain value. What lies outside its domain raises one of `plain.FAULTS`.
        fold: (*values) -> value in normal form, where that is more than a table over one choice.
        domain: (*values) -> condition under which there is a value, for arguments of its kinds.
        outside: what is wrong where that is not met, a message of its own; `code` is that of the diagnostic.
        picks: the first argument picks one of the others, and that alone is evaluated.
        decided: one argument of this truth value decides the whole, whatever the others are and whether they have a
            value.
        associative: arguments may be brought together in any groups; an application to one argument is that argument.
        array: name of a kernel in `arrays/columns.py` that works on whole arrays; without one, `plain` is called for
            each combination of arguments that occurs.
        slopes: (arguments, whether one is never negative) -> for each argument 1 where the value never falls as that
            argument rises (-1: never rises), whatever the others are; None where neither is known. False counts as
            less than True.
        whole: (arguments) -> whether the value is a whole number wherever it has one.
        positive: the value is never negative where no argument is.
        bounds: (intervals of the arguments, arguments) -> interval of the value; None where they do not tell.
        call: how a file calls it; None for what only operators of the language and the compiler itself apply.
        manual: what is told of it, where files can call it.
    """

    name: str
    takes: tuple[Kind | None, ...]
    gives: Kind | Callable[[Sequence[Value]], frozenset[Kind | None]]
    plain: Callable[..., Any]
    fold: Callable[..., Value] | None = None
    domain: Callable[..., Value] | None = None
    outside: str = ""
    code: str = "no-value"
    picks: bool = False
    decided: bool | None = None
    associative: bool = False
    array: str = ""
    slopes: Callable[[Sequence[Value], Callable[[Value], bool]], Sequence[int | None]] | None = None
    whole: Callable[[Sequence[Value]], bool] | None = None
    positive: bool = False
    bounds: Callable[[Sequence[Interval], Sequence[Value]], Interval | None] | None = None
    call: Call | None = None
    manual: Manual | None = None

    def kind_taken(self, place: int) -> Kind | None:
        """The kind of the argument at a place."""
        return self.takes[min(place, len(self.takes) - 1)]


FUNCTIONS: dict[str, Function] = {}
"""By name. `table.py` fills it."""
