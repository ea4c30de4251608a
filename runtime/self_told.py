"""Files of weights that tell of their network themselves, so that nothing else is needed to use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasdsl.compiler.architecture import Architecture, ArchitectureError, value_of, value_to_json
from nasdsl.compiler.diagnostics import cause, error
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.parse import LARGEST_FILE, parse, read
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.syntax import Use
from nasdsl.compiler.version import version
from nasdsl.compiler.write import expanded

LARGEST_HEADER = 100_000_000
"""Bytes of a header, as the format has it."""


def told_of_network(space: Space, graph: Graph, architecture: Architecture) -> dict[str, str]:
    """What a file of weights says of its network, beside what computes with it: `nasdsl`, the version; `values` of the
    space's decisions by path; `input`, its channels, height and width; `text`, the network written out, but for one
    that is too long for a file.

    Args:
        space: that the architecture is of.
        graph: of the architecture alone.
    """
    shape = graph.input.shape
    text = expanded(replace(space, graph=graph))
    return {
        "nasdsl": version(),
        "values": json.dumps(_values(space, architecture), default=str),
        "input": json.dumps({"channels": shape.channels, "height": shape.height, "width": shape.width}),
        **({"text": text} if len(text) <= LARGEST_FILE else {}),
    }


def _values(space: Space, architecture: Architecture) -> dict[str, Any]:
    """All decisions of an architecture, those too that the space itself has pinned."""
    if space.whole is not None:
        pinned = {path: value_of(space.whole.decisions[path], index) for path, index in space.pins.items()}
        try:
            architecture = Architecture.of(space.whole, {**pinned, **dict(architecture.items())})
        except ArchitectureError:  # options of a list that was made anew have no place in the whole space
            pass
    return {path: value_to_json(architecture.decisions[path], x) for path, x in architecture.items_in_order}


def source_in(path: Path) -> Source:
    """The network that a file of weights is for: what it says itself, or else the `.space` file beside it.

    Raises:
        CompileError: it is no file of weights, or neither is there, or the text has mistakes or needs other files.
    """
    text = metadata_of(path).get("text")
    if text is None:
        beside = path.with_suffix(".space")
        if beside.is_file():
            return read(beside)
        raise error(
            "no-network",
            f"{path} does not say which network its weights are for",
            None,
            help="name the `.space` file of the network, with these as `--weights`",
        )
    if len(text) > LARGEST_FILE:
        raise error("bad-weights", f"{path} tells of its network at greater length than a file may have", None)
    source = Source(text, str(path), path)
    if any(isinstance(item, Use) for item in parse(source).items):
        raise error("bad-weights", f"{path} tells of its network in terms of other files", None)
    return source


def metadata_of(path: Path) -> Mapping[str, str]:
    """What a safetensors file says beside its tensors, which are not read.

    Raises:
        CompileError: there is no such file, or it is none.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > LARGEST_HEADER:
                raise ValueError("its header is too long")
            found = json.loads(file.read(size)).get("__metadata__", {})
            if not all(isinstance(one, str) for entry in found.items() for one in entry):
                raise ValueError("its metadata are no text")
    except FileNotFoundError:
        raise error("no-such-file", f"there is no file `{path}`", None) from None
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as problem:
        raise error("bad-weights", f"{path} is no file of weights: {cause(problem)}", None) from None
    return found
