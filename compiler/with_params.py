"""A space with other values of its parameters: decisions that were set from Python stay set."""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.compiler.architecture import value_of
from nasdsl.compiler.decide import decide
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space


def with_params(space: Space, params: Mapping[str, str], source: Source | None = None) -> Space:
    """The space with more parameters set.

    Args:
        params: by name, in the language.
        source: another one with the same text; by default the space's own.

    Raises:
        CompileError: a parameter that there isn't, or values with which the space does not hold.
        ArchitectureError: with the parameters a decision that was set is not there, or lacks its value.
        ArgumentError: measures were read from files for the space as it is.
    """
    before = space.graph if space.whole is None else space.whole
    if before.given:
        name = next(iter(before.given))
        raise ArgumentError(
            f"`{name}` was read from a file for the space as it is, which has to change for this",
            f'say `{name}="FILE"` here, and leave out `measured`',
        )
    made = elaborate(source or space.source, space.name, {**space.overrides, **params})
    if not space.decided:
        return made
    return decide(made, {path: value_of(before.decisions[path], index) for path, index in space.decided.items()})
