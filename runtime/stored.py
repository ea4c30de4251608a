"""Files that nasdsl reads back: each kind is a model, and whatever does not fit it is told with the file's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nasdsl.compiler.stored import fault
from nasdsl.runtime.errors import RunError

OTHER = "it was written by another version of nasdsl, or changed since"


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
