"""Values as JSON, and back."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from nasdsl.compiler.values.function import FUNCTIONS, Value
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Among, Apply, Case, Has, Kept, Slot, Total


def to_json(value: Value) -> Any:
    """A JSON form that `from_json` reads back to an equal value."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, Fraction):
        return {"ratio": [value.numerator, value.denominator]}
    if isinstance(value, Symbol):
        return {"symbol": value.word}
    if isinstance(value, Case):
        return {"case": value.path, "values": [to_json(v) for v in value.values]}
    if isinstance(value, Among):
        return {"among": value.path, "n": value.n, "options": sorted(value.options)}
    if isinstance(value, Kept):
        return {"kept": value.path, "n": value.n}
    if isinstance(value, Has):
        return {"has": value.path, "item": value.item}
    if isinstance(value, Slot):
        return {"slot": value.path, "position": value.position, "values": [to_json(v) for v in value.values]}
    if isinstance(value, Total):
        return {"total": value.measure}
    if isinstance(value, Apply):
        return {"apply": value.function, "args": [to_json(a) for a in value.args]}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {"record": [[to_json(k), to_json(v)] for k, v in value.items()]}
    if hasattr(value, "to_json"):
        return value.to_json()
    raise TypeError(f"no JSON form for {type(value).__name__}")


def from_json(data: Any) -> Value:
    """What `to_json` wrote, lists as tuples. Units, being no expressions, are left as records.

    Raises:
        ValueError: a form that `to_json` does not write.
    """
    if isinstance(data, list):
        return tuple(from_json(item) for item in data)
    if not isinstance(data, dict):
        return data
    match data:
        case {"ratio": [int(above), int(below)]}:
            return Fraction(above, below)
        case {"symbol": str(word)}:
            return Symbol(word)
        case {"case": str(path), "values": values}:
            return Case(path, from_json(values))
        case {"among": str(path), "n": int(n), "options": options}:
            return Among(path, n, frozenset(options))
        case {"kept": str(path), "n": int(n)}:
            return Kept(path, n)
        case {"has": str(path), "item": int(item)}:
            return Has(path, item)
        case {"slot": str(path), "position": int(position), "values": values}:
            return Slot(path, position, from_json(values))
        case {"total": str(measure)}:
            return Total(measure)
        case {"apply": str(function), "args": args} if function in FUNCTIONS:
            return Apply(function, from_json(args))
        case {"record": pairs}:
            return {from_json(key): from_json(value) for key, value in pairs}
        case {"units": _, "n": _} | {"kept": _, "of": _}:
            return data
    raise ValueError(f"not the form of a value: {data!r}")
