"""Frozen classes for the syntax tree, as `dataclasses` makes them but without generated code.

A `.space` file is checked in a fraction of a second, of which a dataclass for each construct would take a good part:
each compiles its methods when it is imported. These share theirs. To a type checker they are dataclasses.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any, ClassVar, NamedTuple, dataclass_transform

_MISSING: Any = object()


class Field(NamedTuple):
    """One field: whether it counts in equality, stands in `repr`, and is given by keyword only."""

    name: str
    default: Any = _MISSING
    compare: bool = True
    repr: bool = True
    kw_only: bool = False


def field(*, default: Any = _MISSING, compare: bool = True, repr: bool = True, kw_only: bool = False) -> Any:
    """Says more of a field than its annotation does."""
    return Field("", default, compare, repr, kw_only)


def fields(of: Any) -> tuple[Field, ...]:
    """The fields of a frozen class or of one of its values, those of base classes first."""
    return of._fields


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Frozen:
    """A subclass lists its fields as annotations."""

    _fields: ClassVar[tuple[Field, ...]] = ()
    _positional: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    _compared: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        known = list(cls._fields)
        for name in vars(cls).get("__annotations__", {}):
            given = cls.__dict__.get(name, _MISSING)
            known.append(given._replace(name=name) if isinstance(given, Field) else Field(name, given))
            if given is not _MISSING:
                delattr(cls, name)
        cls._fields = tuple(known)
        cls._positional = tuple(f.name for f in known if not f.kw_only)
        cls._defaults = {f.name: f.default for f in known if f.default is not _MISSING}
        cls._compared = tuple(f.name for f in known if f.compare)
        type.__setattr__(cls, "__match_args__", cls._positional)

    def __init__(self, *args: Any, **named: Any) -> None:
        if len(args) > len(self._positional):
            raise TypeError(f"{type(self).__name__} takes {len(self._positional)} positional values, not {len(args)}")
        values = {**self._defaults, **dict(zip(self._positional, args, strict=False)), **named}
        if len(values) != len(self._fields) or any(f.name not in values for f in self._fields):
            raise TypeError(
                f"{type(self).__name__} has the fields {[f.name for f in self._fields]}, not {list(values)}"
            )
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _key(self) -> tuple[Any, ...]:
        values = self.__dict__
        return tuple([values[name] for name in self._compared])

    def __eq__(self, other: object) -> bool:
        return (
            self._key() == other._key() if isinstance(other, Frozen) and type(other) is type(self) else NotImplemented
        )

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in self._fields if f.repr)
        return f"{type(self).__name__}({shown})"
