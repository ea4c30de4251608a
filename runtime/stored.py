"""Files that nasdsl reads back: each kind is a model, and whatever does not fit it is told with the file's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from nasdsl.runtime.errors import RunError

OTHER = "it was written by another version of nasdsl, or changed since"


class Stored(BaseModel):
    """What all have in common: every entry of exactly its type, none unknown, no number that is none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


T = TypeVar("T", bound=BaseModel)


def read_stored(model: type[T], path: Path, what: str, help: str = OTHER) -> T:
    """What stands in a JSON file.

    Args:
        what: it should be, `a latency table`.

    Raises:
        RunError: there is no such file, or it holds something else.
    """
    try:
        text = path.read_bytes()
    except OSError as problem:
        raise RunError(f"{path} cannot be read: {problem.strerror}", help) from None
    return parsed(model, text, str(path), what, help)


def parsed(model: type[T], text: bytes | str, where: str, what: str, help: str = OTHER) -> T:
    """What a piece of JSON says.

    Args:
        where: it stands, for messages.

    Raises:
        RunError: it is not JSON, or not of the model.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as problem:
        raise RunError(f"{where} is not {what}: {fault(problem)}", help) from None


def checked(model: type[T], found: Mapping[str, Any], where: str, what: str, help: str = OTHER) -> T:
    """As `parsed`, for what a library has read already.

    Raises:
        RunError: it is not of the model.
    """
    try:
        return model.model_validate(found)
    except ValidationError as problem:
        raise RunError(f"{where} is not {what}: {fault(problem)}", help) from None


def fault(problem: ValidationError) -> str:
    """The first thing that is wrong, and where: `` `settings.train.batch` should be a valid integer ``."""
    first = problem.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it lacks `{place}`"
    if first["type"] == "extra_forbidden":
        return f"it has `{place}`, which is not known"
    text = first["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("Invalid JSON: ")
    return f"`{place}` {text}" if place else text
