"""The form of files that nasdsl writes and reads back, and words for what does not fit it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError


class Stored(BaseModel):
    """What all have in common: every entry of exactly its type, none unknown, no number that is none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
