"""What a search by gradient or a screening keeps in its run's folder of how its choices went, for whoever looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, model_validator

from nasdsl.compiler.declarations import Declaration
from nasdsl.compiler.stored import Stored
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.stored import OTHER, parsed, read_stored

CHOICES = "choices.jsonl"
"""The file of a run with what its choices were at each measurement, one JSON record a line."""
DECODED = "decoded.json"
"""The file of a run with what was taken in the end."""
MOST_SCALARS = 64
"""Options of a declaration that are drawn one by one while a search runs; of longer lists only the entropy is."""


class Probabilities(Stored):
    """The choices of a search by gradient at a measurement.

    Attributes:
        probabilities: by path, of each value of the decision, given that it is there.
    """

    epoch: float
    probabilities: dict[str, list[float]]


class Scores(Stored):
    """The choices of a screening at a measurement.

    Attributes:
        scores: by name of the declaration and label of the option; 0 where the option is gone.
    """

    epoch: float
    scores: dict[str, dict[str, float]]


class Likely(Stored):
    """An architecture, its values by path.

    Attributes:
        score: with the weights that it inherits, by the headline of the task; None where it was not measured.
    """

    architecture: dict[str, Any]
    log_probability: float
    score: float | None = None


class Decoded(Stored):
    """How the choices of a search by gradient ended.

    Attributes:
        alone: of each decision that is there the likeliest value by itself, whatever requirements and budgets say.
        likeliest: the likeliest architectures inside all of them, the likeliest first.
        taken: which of these is the result.
    """

    alone: dict[str, Any]
    likeliest: list[Likely] = Field(min_length=1)
    taken: int = Field(ge=0)

    @model_validator(mode="after")
    def _one_of_them(self) -> Decoded:
        if self.taken >= len(self.likeliest):
            raise ValueError(f"`taken` is {self.taken}, and there are {len(self.likeliest)} architectures")
        return self


T = TypeVar("T", Probabilities, Scores)


def read_choices(run: Path, model: type[T]) -> list[T]:
    """All measurements of a run's choices.

    Raises:
        RunError: the folder has none, or a line is something else.
    """
    file = run / CHOICES
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "it is not text"
        raise RunError(f"{file} cannot be read: {why}", OTHER) from None
    what = "what the choices of a run were"
    return [parsed(model, line, f"line {n} of {file}", what) for n, line in enumerate(lines, 1)]


def read_decoded(run: Path) -> Decoded | None:
    """How the choices of a run ended; None while they have not.

    Raises:
        RunError: the file that says so cannot be read.
    """
    file = run / DECODED
    return read_stored(Decoded, file, "what a search by gradient took in the end") if file.is_file() else None


# --- Summaries --------------------------------------------------------------------------------------------------------


def means(declaration: Declaration, probabilities: Mapping[str, Sequence[float]]) -> list[float]:
    """Of each value the mean probability over all copies of a declaration."""
    columns = zip(*(probabilities[path] for path in declaration.paths), strict=True)
    return [sum(column) / len(declaration.paths) for column in columns]


def entropy(probabilities: Sequence[float]) -> float:
    """As a share of the greatest that there can be; 0 where there is only one value."""
    found = -sum(p * math.log(p) for p in probabilities if p > 0)
    return found / math.log(len(probabilities)) if len(probabilities) > 1 else 0.0


def probabilities_told(
    declarations: Sequence[Declaration], probabilities: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """By declaration the mean entropy of its copies, and by declaration and option the mean probability: curves, by
    name."""
    told = {}
    for one in declarations:
        told[f"entropy/{one.name}"] = sum(entropy(probabilities[path]) for path in one.paths) / len(one.paths)
        if len(one.values) <= MOST_SCALARS:
            shares = means(one, probabilities)
            told |= {f"choices/{one.name}/{value}": p for value, p in zip(one.values, shares, strict=True)}
    return told


def scores_told(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """By declaration and option the score: curves, by name."""
    return {
        f"scores/{name}/{label}": score
        for name, found in scores.items()
        if len(found) <= MOST_SCALARS
        for label, score in found.items()
    }
