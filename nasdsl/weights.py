"""What a file of weights says of itself, for whoever looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasdsl.terminal import printable

MOST = 12
"""Names that are shown."""


def weights_facts(path: Path) -> dict[str, Any]:
    """By name: version, space and its hash, decisions, task, names, input, normalisation, metrics.

    Raises:
        CompileError: the file says something that cannot be so.
    """
    from nasdsl.runtime.checkpoint import CHECKSUM, AboutWeights
    from nasdsl.runtime.self_told import metadata_of
    from nasdsl.runtime.stored import checked

    metadata = metadata_of(path)
    about = checked(AboutWeights, metadata, str(path), "a file of weights that can be used")
    named = {name: getattr(about, name) for name in AboutWeights.model_fields}
    figures = {name: text for name, text in metadata.items() if name not in named and name != CHECKSUM}
    hidden = ("text", "architecture", "body", "units", "layers")
    told = {name: value for name, value in named.items() if value is not None and name not in hidden}
    if about.input is not None:
        told["input"] = about.input.model_dump()
    if about.joints is not None:
        told["joints"] = about.joints.names
    return {**told, **figures}


def weights_text(facts: Mapping[str, Any]) -> str:
    """The same in lines."""
    lines = []
    for name, value in facts.items():
        if name == "values":
            shown = f"{len(value):,} decisions"
        elif name == "input":
            shown = " x ".join(str(side) for side in value.values())
        elif isinstance(value, tuple | list):
            more = f", … {len(value) - MOST:,} more" if len(value) > MOST else ""
            shown = ", ".join(str(one) for one in value[:MOST]) + more
        else:
            shown = str(value)
        lines.append(printable(f"{name:>10}  {shown}"))
    return "\n".join(lines)
