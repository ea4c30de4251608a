"""What the page may ask, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.explorer.session import Session
from nasdsl.explorer.texts import texts


def answers(session: Session, words: Sequence[str]) -> Mapping[str, Callable[[Any], Any]]:
    """The answer to each kind of question.

    Args:
        words: by which `nasdsl pin` finds the space.
    """

    def draw(told: Any) -> Any:
        asked = session.read(told)
        seed = told.get("seed", 0)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 64:
            raise ArgumentError("a seed is a whole number")
        return session.draw(asked, seed)

    def text(told: Any) -> Any:
        asked = session.read(told)
        return texts(session.space, asked.pins, [budget.text for budget in asked.budgets], words)

    return {
        "view": lambda told: session.view(session.read(told)),
        "count": lambda told: session.count(session.read(told)),
        "draw": draw,
        "texts": text,
    }
