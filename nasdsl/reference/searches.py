"""What a section `search` or `train` can say, from the records of the runtimes: these need torch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from nasdsl.reference.entry import Entry, Row
from nasdsl.reference.settings import rows, told, written
from nasdsl.runtime.data.open import find_readers
from nasdsl.runtime.data.plugins import with_entry_points
from nasdsl.runtime.evaluators import find_evaluators
from nasdsl.runtime.evolution.registry import find_methods
from nasdsl.runtime.recipes import RECIPES
from nasdsl.runtime.settings import Train
from nasdsl.runtime.strategies import STRATEGIES
from nasdsl.runtime.tasks import find_tasks


def entries() -> Iterator[Entry]:
    """Everything, in the order of the reference.

    Raises:
        PluginError: a package that offers something does not work.
    """
    known = with_entry_points("nasdsl.runtimes", dict(STRATEGIES), lambda value: hasattr(value, "search"))
    yield from (_of_search(name, strategy) for name, strategy in known.items())
    yield _of_training()
    yield from (_of_method(name, method) for name, method in find_methods().items())
    yield from (_of_evaluator(name, one) for name, one in find_evaluators().items())
    yield from (_of_task(name, task) for name, task in find_tasks().items())
    yield from (_of_preset(name, recipe) for name, recipe in RECIPES.items())
    yield from (Entry(one.name, "reader", one.task, one.expects, f"reads data for {one.task}")
                for one in find_readers().values())  # fmt: skip


_SENTENCE = re.compile(r"(?<!et al)\.(?: (?=[A-Z])|$)")


def _first(text: str) -> tuple[str, str]:
    """The first sentence of a docstring, and the rest."""
    paragraph, _, rest = text.strip().partition("\n\n")
    first, *more = _SENTENCE.split(" ".join(paragraph.split()), maxsplit=1)
    return first, "\n\n".join(filter(None, [*more, rest]))


def _of_search(name: str, strategy: Any) -> Entry:
    module = sys.modules[strategy.__module__]
    doc, text = _first(told(module.__doc__))
    text = "\n\n".join(filter(None, [text, _first(told(strategy.__doc__))[1]]))
    evaluators = find_evaluators() if name == "evolve" else {}
    used = getattr(strategy, "uses", None)
    settings = []
    for row in _settings(strategy.settings, {Train: "train"}):
        first, _, inner = row.name.partition(".")
        if first in evaluators:
            if not inner:
                settings.append(replace(row, doc=f"what evaluates: see the evaluator `{first}`"))
        elif used is None or first in used:
            settings.append(row)
    return Entry(name, "search", "", f"search {name} {{ setting: value }}", doc, text, tuple(settings))


def _settings(model: Any, apart: Mapping[type, str]) -> tuple[Row, ...]:
    if isinstance(model, type) and issubclass(model, BaseModel):
        return tuple(rows(model, apart))
    return ()


def _of_training() -> Entry:
    doc, text = _first(told(Train.__doc__))
    return Entry("train", "settings", "", "train: { setting: value }", doc, text, _settings(Train, {}))


def _of_method(name: str, method: Any) -> Entry:
    doc, text = _first(told(method.__doc__))
    return Entry(name, "method", "", f"method: {name}", doc, text, _settings(method, {}))


def _of_evaluator(name: str, one: Any) -> Entry:
    doc, text = _first(told(one.__doc__))
    settings = () if one.settings is Train else _settings(one.settings, {})
    more = "Its settings are those of `train`." if one.settings is Train else ""
    return Entry(name, "evaluator", "", f"{name}: ...", doc, "\n\n".join(filter(None, [text, more])), settings)


def _of_task(name: str, task: Any) -> Entry:
    doc, text = _first(told(task.__doc__))
    heads = ", ".join(f"`{head}`" for head in getattr(task, "heads", ()))
    more = f"Networks for it end in {heads}. The metric that counts is `{getattr(task, 'headline', '')}`."
    return Entry(name, "task", "", name, doc, "\n\n".join(filter(None, [text, more])))


def _of_preset(name: str, recipe: Mapping[str, Any]) -> Entry:
    said = ", ".join(f"{key}: {_recipe(value)}" for key, value in recipe.items())
    return Entry(name, "preset", "", f"train: {{ preset: {name} }}", "settings of training", f"`{{ {said} }}`")


def _recipe(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key}: {_recipe(one)}" for key, one in value.items()) + " }" if value else "{}"
    return written(value) or "none"
