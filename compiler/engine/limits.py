"""How large a table may grow, and why there is no answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from nasdsl.compiler.diagnostics import NasdslError

WIDEST = 1 << 20  # the largest table that is ever made
EXACT = 1 << 53  # floating point holds every integer up to this one


_ENTRIES_LEFT: ContextVar[list[int] | None] = ContextVar("_ENTRIES_LEFT", default=None)


@contextmanager
def bounded(entries: int) -> Iterator[None]:
    """Inside, eliminations that make more table entries than this in all are TooWide.

    For answers that have to come at once, such as those of a check. Inside another such limit both hold.
    """
    outer = _ENTRIES_LEFT.get()
    allowed = entries if outer is None else min(entries, outer[0])
    left = [allowed, allowed]
    token = _ENTRIES_LEFT.set(left)
    try:
        yield
    finally:
        _ENTRIES_LEFT.reset(token)
        if outer is not None:
            outer[0] -= allowed - left[0]


def spend(entries: int) -> None:
    """Table entries about to be made; TooWide where `bounded` does not allow so many."""
    left = _ENTRIES_LEFT.get()
    if left is not None:
        left[0] -= entries
        if left[0] < 0:
            raise TooWide("the space", left[1] - left[0], left[1])


class TooWide(NasdslError):
    """The exact answer needs tables of more than `limit` entries: up to `width`, over the decisions at `paths`."""

    code = "too-wide"

    def __init__(self, what: str, width: int, limit: int, paths: Sequence[str] = ()):
        self.what, self.width, self.limit, self.paths = what, width, limit, tuple(paths)
        size = f"{width:,}" if width < 10**18 else f"2^{width.bit_length() - 1}"
        super().__init__(
            f"{what} is too tangled for the exact answer: tables of {size} entries, more than {limit:,}",
            "fewer decisions in one requirement keep it exact",
        )


class TooCostly(TooWide):
    """Costs so large that sums over all architectures would not be exact."""

    def __init__(self, cost: int):
        self.cost = cost
        NasdslError.__init__(
            self,
            f"a cost may come to {told(cost)}, and costs of all architectures are exact up to {told(EXACT)}",
            "are all sizes and widths as they are meant?",
        )


def told(number: int) -> str:
    """A number in full, or how large it is."""
    return f"{number:,}" if abs(number) < 10**18 else f"{number:.2e}" if abs(number) < 10**300 else "more than 1e300"


class Infeasible(NasdslError):
    """No architecture meets all requirements."""

    code = "no-architecture"
