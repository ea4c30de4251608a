"""The settings of searches and of training, as an editor proposes them: from the models that read them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        detail: its kind and what it is where it is left out.
        words: that it may be.
        parts: the settings in it, where it is a record.
    """

    detail: str = ""
    doc: str = ""
    words: tuple[str, ...] = ()
    parts: Mapping[str, Setting] = field(default_factory=dict)


def setting_words() -> dict[str, Setting]:
    """The settings of each search, by its name, and those of `train`. It imports all searches, which takes seconds."""
    from nasdsl.runtime.settings import Train
    from nasdsl.runtime.strategies import STRATEGIES

    found = {name: _of_model(strategy.settings) for name, strategy in STRATEGIES.items()}
    return {**found, "train": _of_model(Train)}


def _of_model(model: Any, depth: int = 0) -> Setting:
    docs = _attributes(inspect.getdoc(model) or "")
    parts = {}
    for name, one in model.model_fields.items():
        default = "" if one.is_required() else _written(one.default)
        words = tuple(_words(one.annotation))
        inner = next(iter(_models(one.annotation)), None) if depth < 4 else None
        kind = " | ".join(words) if words else _kind(one.annotation)
        detail = f"{kind} = {default}" if default else kind
        inside = _of_model(inner, depth + 1).parts if inner is not None else {}
        words = words or _words_for(inner, inside, docs.get(name, ""))
        parts[name] = Setting(detail, docs.get(name, ""), words, inside)
    return Setting(doc=inspect.getdoc(model) or "", parts=parts)


def _words_for(model: Any, inside: Mapping[str, Setting], doc: str) -> tuple[str, ...]:
    """Words that may stand for a whole record, as its model or its description says."""
    word = getattr(model, "word", None) or ("name" if re.search(r"\ba word\b", doc) else "")
    return inside[word].words if word in inside else ()


def _attributes(doc: str) -> dict[str, str]:
    """What a docstring says of each attribute."""
    found: dict[str, str] = {}
    _, _, rest = doc.partition("Attributes:\n")
    for names, text in re.findall(r"^    ([a-z_][\w, ]*): ((?:.|\n(?=        ))*)", rest, re.MULTILINE):
        for name in names.split(","):
            found[name.strip()] = " ".join(text.split())
    return found


def _parts(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _parts(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return tuple(part for one in get_args(annotation) for part in _parts(one))
    return (annotation,)


def _words(annotation: Any) -> list[str]:
    found = [part for part in _parts(annotation) if get_origin(part) is Literal]
    return [str(word) for part in found for word in get_args(part) if isinstance(word, str)]


def _models(annotation: Any) -> list[Any]:
    return [part for part in _parts(annotation) if isinstance(part, type) and hasattr(part, "model_fields")]


def _kind(annotation: Any) -> str:
    names = {int: "whole number", float: "number", bool: "true or false", str: "word", dict: "record", tuple: "list"}
    kinds = [names.get(get_origin(part) or part, "") for part in _parts(annotation)]
    return " | ".join(dict.fromkeys(kind for kind in kinds if kind)) or "record"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float | str | tuple | list | dict) else ""
