"""Values over decisions as people read them: `stage.depth in [2, 3] and op == conv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasdsl.compiler.decision import Decision, Units
from nasdsl.compiler.elaborate.values import show
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import same
from nasdsl.compiler.values.tree import Among, Apply, Case, Expr, Has, Kept, Slot, Total

LONGEST = 2000
"""Characters of a text; a running width is made of those before it, and so on down."""

_OR, _AND, _NOT, _COMPARED, _SUM, _PRODUCT, _POWER, _WHOLE = range(8)
_SIGNS = {
    "or": (" or ", _OR),
    "and": (" and ", _AND),
    "eq": (" == ", _COMPARED),
    "lt": (" < ", _COMPARED),
    "le": (" <= ", _COMPARED),
    "add": (" + ", _SUM),
    "mul": (" * ", _PRODUCT),
    "div": (" / ", _PRODUCT),
    "pow": ("^", _POWER),
}
"""What stands between the arguments of a function, and how tightly it binds them."""

_Part = tuple[str, int]
"""A text, and how tightly what it is made of is bound."""


def wording(value: Value, decisions: Mapping[str, Decision]) -> str:
    """A value in the words of the language, as far as it has some: `len(p)` is how many search units are kept at `p`,
    and `match p { ... }` what stands for each option of `p`.

    What would be longer than `LONGEST` characters names some of the decisions that it hangs on.

    Args:
        decisions: that the value speaks of; their labels are what the text calls options.
    """
    return _Wording(decisions).of(value)[0]


class _Wording:
    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        self.decisions = decisions
        self.found: dict[int, _Part] = {}

    def of(self, value: Value) -> _Part:
        """Without recursion into expressions: they are as deep as the network."""
        stack = [value]
        while stack:
            top = stack[-1]
            pending = [arg for arg in top.args if self._is_open(arg)] if isinstance(top, Apply) else []
            if pending and self._is_open(top):
                stack += pending
                continue
            stack.pop()
            if self._is_open(top):
                text, level = self._expression(top)
                self.found[id(top)] = (text, level) if len(text) <= LONGEST else (show(top), _WHOLE)
        return self._part(value)

    def _is_open(self, value: Value) -> bool:
        return isinstance(value, Expr) and id(value) not in self.found

    def _part(self, value: Value) -> _Part:
        if isinstance(value, Expr):
            return self.found[id(value)]
        if isinstance(value, Units):
            return f"units({value.n})", _WHOLE
        if isinstance(value, tuple | list):
            return "[" + ", ".join(self.of(item)[0] for item in value) + "]", _WHOLE
        if isinstance(value, Mapping):
            return "{ " + ", ".join(f"{show(k)}: {self.of(v)[0]}" for k, v in value.items()) + " }", _WHOLE
        return show(value), _WHOLE

    def _expression(self, value: Expr) -> _Part:
        match value:
            case Among():
                names = [self._label(value.path, item) for item in sorted(value.options)]
                if len(names) == 1:
                    return f"{value.path} == {names[0]}", _COMPARED
                return f"{value.path} in [{', '.join(names)}]", _COMPARED
            case Has():
                return f"{self._label(value.path, value.item)} in {value.path}", _COMPARED
            case Kept():
                return f"len({value.path})", _WHOLE
            case Case():
                return self._table(value.path, value.path, value.values), _WHOLE
            case Slot():
                return self._table(value.path, f"{value.path}[{value.position}]", value.values), _WHOLE
            case Total():
                return value.measure, _WHOLE
            case Apply():
                return self._applied(value.function, value.args)
        return show(value), _WHOLE

    def _label(self, path: str, item: int) -> str:
        decision = self.decisions.get(path)
        if decision is None:
            return f"#{item}"
        return decision.labels[item] if decision.labels else show(decision.items[item])

    def _table(self, path: str, name: str, values: Sequence[Any]) -> str:
        """What stands for each option; the decision's name where that is the option itself."""
        decision = self.decisions.get(path)
        if decision is not None and len(decision.items) == len(values) and all(map(same, decision.items, values)):
            return name
        rows = [f"{self._label(path, item)}: {show(value)}" for item, value in enumerate(values)]
        return f"match {name} {{ {', '.join(rows)} }}"

    def _applied(self, function: str, args: Sequence[Value]) -> _Part:
        parts = [self._part(arg) for arg in args]
        if function in _SIGNS:
            sign, level = _SIGNS[function]
            return sign.join(_bracketed(part, level + (level >= _COMPARED)) for part in parts), level
        if function == "not":
            return f"not {_bracketed(parts[0], _COMPARED)}", _NOT
        if function == "if":
            condition, then, otherwise = (_bracketed(part, _SUM) for part in parts)
            return f"({then} if {condition} else {otherwise})", _WHOLE
        if function == "lookup":
            pairs, key = args[0], parts[1][0]
            rows = [f"{show(found)}: {self.of(value)[0]}" for found, value in pairs]
            return f"match {key} {{ {', '.join(rows)} }}", _WHOLE
        return f"{function}({', '.join(text for text, _ in parts)})", _WHOLE


def _bracketed(part: _Part, level: int) -> str:
    text, own = part
    return text if own >= level else f"({text})"
