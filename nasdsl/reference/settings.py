"""Settings of searches, trainings and methods, from their models."""

from __future__ import annotations

import collections.abc
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nasdsl.reference.entry import Row

_ATTRIBUTES = re.compile(r"^Attributes:\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_SECTIONS = re.compile(r"^(?:Attributes|Args|Raises|Returns):\n", re.MULTILINE)
_ONE = re.compile(r"^    (\w+(?:, \w+)*): (.*?)(?=^    \w+(?:, \w+)*: |\Z)", re.MULTILINE | re.DOTALL)


def told(text: str | None) -> str:
    """What a docstring says but for its sections, as paragraphs."""
    return _SECTIONS.split(inspect.cleandoc(text or ""))[0].strip()


def docs(model: type) -> dict[str, str]:
    """What the docstrings of a class and of those that it is made of say of each attribute."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        text = inspect.cleandoc(vars(one).get("__doc__") or "")
        for part in _ATTRIBUTES.findall(text):
            for names, said in _ONE.findall(textwrap.dedent(part) if not part.startswith("    ") else part):
                found |= dict.fromkeys(names.split(", "), " ".join(said.split()))
    return found


def rows(model: type[BaseModel], apart: Mapping[type, str] | None = None, before: str = "") -> Iterator[Row]:
    """The settings of a model in their order, those of records inside behind the record's name.

    Args:
        apart: models that have an entry of their own, by its name.
    """
    apart = apart or {}
    said = docs(model)
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        doc = said.get(name, "")
        if inner is not None and inner in apart:
            doc = f"{doc.rstrip('.')}; see `{apart[inner]}`" if doc else f"see `{apart[inner]}`"
        kind = _kind(field.annotation, field)
        yield Row(f"{before}{name}", kind, _default(field), doc.rstrip("."), field.is_required())
        if inner is not None and inner not in apart:
            yield from rows(inner, apart, f"{before}{name}.")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The settings that are a record under a setting, if any are."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


_PLAIN = {bool: "true | false", int: "whole number", float: "number", str: "word", Any: "value"}


def _kind(annotation: Any, field: FieldInfo | None = None) -> str:
    """What a setting may be, in words of the language."""
    origin, given = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(given[0])
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(_kind(one) for one in given if one is not NoneType))
    if origin is Literal:
        return " | ".join(map(str, given))
    if origin is tuple:
        inner = [_kind(one) for one in given if one is not ...]
        several = inner[0] if inner[0].endswith("s") else f"{inner[0]}s"
        return f"list of {several}" if ... in given else f"[{', '.join(inner)}]"
    if origin in (dict, collections.abc.Mapping):
        return "costs" if given and _is_cost(given[0]) else "record"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "record"
    return _PLAIN.get(annotation, "value")


def _is_cost(annotation: Any) -> bool:
    return get_origin(annotation) is Annotated or annotation is not str


def _default(field: FieldInfo) -> str:
    """As a file would write it; empty where nothing stands for it."""
    if field.is_required():
        return ""
    return written(field.get_default(call_default_factory=True))


def written(value: Any) -> str:
    """A setting as a file would write it."""
    if value is None or isinstance(value, BaseModel) or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        if all(isinstance(number, float) for number in value.values()):
            return " + ".join(f"{number:g} * {name}" for name, number in value.items())
        return "{ " + ", ".join(f"{name}: {written(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
