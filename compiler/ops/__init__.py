"""The catalogue of operators.

Each family is a file here and each operator in it one value. Other packages add operators under the entry point group
`nasdsl.operators`; an entry is an `Operator` or a list of them. They are looked for only when a name is not built-in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cache
from types import MappingProxyType
from typing import Any

from nasdsl.compiler.ops import (
    activation,
    attention,
    auxiliary,
    branch,
    conv,
    deform,
    dense,
    detection,
    head,
    merge,
    mixconv,
    proposals,
    rearrange,
    regions,
    resample,
    self_attention,
    tokens,
    transformer,
    transposed,
)
from nasdsl.compiler.ops.operator import REQUIRED, Operator
from nasdsl.compiler.plugins import PluginError, find_plugins, listed

GROUP = "nasdsl.operators"
FAMILIES = (
    conv,
    transposed,
    mixconv,
    transformer,
    attention,
    resample,
    rearrange,
    merge,
    head,
    detection,
    deform,
    proposals,
    regions,
    dense,
    branch,
    tokens,
    self_attention,
    activation,
    auxiliary,
)


def _by_name(operators: Iterable[Operator]) -> Mapping[str, Operator]:
    found: dict[str, Operator] = {}
    for op in operators:
        if op.name in found:
            raise ValueError(f"two operators are named `{op.name}`")
        found[op.name] = op
    return MappingProxyType(found)


CATALOGUE: Mapping[str, Operator] = _by_name(op for family in FAMILIES for op in family.OPERATORS)
"""The built-in operators by name."""


@cache
def plugins() -> Mapping[str, Operator]:
    """The operators of other installed packages by name.

    Raises:
        PluginError: an entry cannot be loaded, is not an operator, or has a name that is taken.
    """
    found: dict[str, Operator] = {}
    for plugin in find_plugins(GROUP):
        package = plugin.package
        for op in listed(plugin, Operator):
            if op.name in CATALOGUE or op.name in found:
                other = found[op.name].where if op.name in found else "nasdsl"
                raise PluginError(f"package `{package}` has an operator named `{op.name}`, but so has {other}")
            found[op.name] = replace(op, where=package)
    return MappingProxyType(found)


def find(name: str) -> Operator | None:
    """The operator of that name, built-in or from another package; None where there is none.

    Raises:
        PluginError: the name is not built-in, and a package that offers operators does not work.
    """
    built_in = CATALOGUE.get(name)
    return built_in if built_in is not None else plugins().get(name)


def written(value: Any) -> str:
    """A default as a file would write it."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(written(v) for v in value) + "]"
    if isinstance(value, float) and not isinstance(value, Fraction):
        return f"{value:g}"
    return str(value)


def signature(op: Operator) -> str:
    """One line for messages: `conv(out, kernel = 1, stride = 1, norm = batch, act = relu)`."""
    params = [p.name if p.default is REQUIRED else f"{p.name} = {written(p.default)}" for p in op.params]
    return f"{op.name}({', '.join(params)})"
