"""The words of the language, by what they mean to a reader: taken from the compiler's own tables, so that whatever
colours a text knows every operator that the compiler knows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from nasdsl.compiler import ops
from nasdsl.compiler.bind import library
from nasdsl.compiler.bind.base import AMBIENT
from nasdsl.compiler.bind.binder import SECTIONS
from nasdsl.compiler.elaborate.vocabulary import VOCABULARY
from nasdsl.compiler.tables import tables

CONTROL = ("for", "repeat", "match", "if", "else")
"""Keywords that say which text is run, and how often."""

INFIX = ("and", "or", "not", "in", "implies", "x", "step")
"""Keywords that stand between (or before) values. `in`, `x` and `step` are names, too, where no operator can stand."""


@cache
def words() -> Mapping[str, tuple[str, ...]]:
    """The words of each kind. A word may be of two kinds: `sum` is an operator, a form and a function.

    Returns:
        `declaration` (keywords that begin a declaration), `control`, `infix`, `section` (`network`, `search`, ...),
        `constant` (`true`, `none`), `measure` (`macs`, ...), `ambient` (words that mean something of the place where
        they stand), `form`, `function`, and `operator` (of the catalogue, of installed packages, and of the library).
    """
    truth = tuple(word for word, value in VOCABULARY.values.items() if isinstance(value, bool))
    return {
        "declaration": tuple(word for word in tables().words if word not in (*CONTROL, *INFIX)),
        "control": CONTROL,
        "infix": INFIX,
        "section": SECTIONS,
        "constant": (*truth, "none"),
        "measure": tuple(word for word in VOCABULARY.values if word not in truth),
        "ambient": ("in", *AMBIENT),
        "form": tuple(VOCABULARY.forms),
        "function": tuple(VOCABULARY.functions),
        "operator": tuple(dict.fromkeys((*ops.CATALOGUE, *library.OPERATORS))),
    }


@cache
def kind_of_call(word: str) -> str:
    """`form`, `function` or `operator`: what a word names where it is called; empty for one that the language does not
    have."""
    return next((kind for kind in ("form", "function", "operator") if word in words()[kind]), "")
