"""Operators that are written in the language itself: residual blocks, backbones, necks, proposals and heads.

Their text lies in `compiler/library/`. A file's own operator of the same name goes before them. The text is read and
bound when one of its names is used, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from nasdsl.compiler import syntax
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source, Span

FOLDER = Path(__file__).parents[1] / "library"

FILES: Mapping[str, tuple[str, ...]] = {
    "blocks": (
        "basic",
        "bottleneck",
        "pooled_shortcut",
        "factorized_reduce",
        "inverted_residual",
        "mbconv",
        "separable",
    ),
    "backbones": (
        "resnet",
        "resnet_stage",
        "resnext",
        "resnext_stage",
        "mobilenet_v2",
        "mobilenet_v2_stage",
    ),
    "transformers": ("mlp", "vit_block", "swin_block", "convnext_block"),
    "dense": ("aspp", "pyramid_pool", "attention_gate"),
    "detection": ("fpn", "rpn", "guided_anchor_rpn", "rcnn", "cascade", "retina", "two_layers"),
}
"""The operators of each file that spaces may use."""

OPERATORS: Mapping[str, str] = {name: file for file, names in FILES.items() for name in names}
"""The file of each operator."""

SHARED = "blocks"
"""The file whose functions the others use, too."""


@cache
def items_of(file: str) -> tuple[syntax.Operator | syntax.Fusion | syntax.Let, ...]:
    source = Source((FOLDER / f"{file}.space").read_text(encoding="utf-8"), f"library/{file}.space")
    kinds = (syntax.Operator, syntax.Fusion, syntax.Let)
    return tuple(item for item in parse(source).items if isinstance(item, kinds))


def texts() -> Mapping[str, syntax.Operator]:
    """The text of each operator that spaces may use."""
    found = {item.name.name: item for file in FILES for item in items_of(file) if isinstance(item, syntax.Operator)}
    return {name: found[name] for name in OPERATORS}


def inside(span: Span | None) -> bool:
    """Whether a place lies in the library's text."""
    return span is not None and span.source.path is None and span.source.name.startswith("library/")
