"""What functions that give an architecture its worth are held to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nasdsl.api.given import SpaceLike
from nasdsl.compiler.diagnostics import cause
from nasdsl.runtime.evaluators import numbers
from nasdsl.runtime.evolution.objectives import EvaluationError
from nasdsl.runtime.functions import FUNCTIONS, find_function
from nasdsl.testing.contract import ContractError, require
from nasdsl.testing.spaces import some_of, space_or_small


def check_function(
    function: str | Callable[[Any, Any], Any],
    space: SpaceLike | None = None,
    *,
    architectures: int = 3,
    same: bool = True,
) -> None:
    """Holds a function of `--function` to what a search asks of it: called with architectures of a space and with the
    space, it gives a finite number, or such numbers by name, the same names each time.

    Args:
        function: or its name, as `--function` takes it.
        architectures: how many it is called with.
        same: whether it gives the same for the same architecture.

    Raises:
        ContractError: something does not hold.
    """
    called = find_function(function, FUNCTIONS) if isinstance(function, str) else function
    name = function if isinstance(function, str) else getattr(function, "__name__", repr(function))
    given = space_or_small(space)
    names = None
    for one in some_of(given, architectures):
        found = []
        for _ in range(2 if same else 1):
            try:
                found.append(numbers(called(one, given), f"`{name}`"))
            except EvaluationError as problem:
                raise ContractError(problem.message) from None
            except Exception as problem:  # the user's
                raise ContractError(f"`{name}` raised {cause(problem)} for {one!r}") from problem
        finite = all(math.isfinite(value) for value in found[0].values())
        require(finite, f"`{name}` gave {found[0]} for {one!r}, and a search needs finite numbers")
        require(names in (None, set(found[0])), f"`{name}` gave {sorted(found[0])}, and before {sorted(names or ())}")
        names = set(found[0])
        require(found[0] == found[-1], f"`{name}` gave {found[0]}, and then {found[-1]} for the same architecture")
