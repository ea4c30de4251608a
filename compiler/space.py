"""The checked space: its graph, its parameters and its sections."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from nasdsl.compiler import notebook, syntax
from nasdsl.compiler.diagnostics import Diagnostic
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.meaning import meaning
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source, Span


@lru_cache(maxsize=64)
def _tree(source: Source) -> syntax.File:
    return parse(source)


@dataclass(frozen=True)
class SettingsSection:
    """`search shrink { ... }`: its entries as plain values, each with its place in the text, for its reader to
    check."""

    kind: str
    name: str
    entries: Mapping[str, Any]
    spans: Mapping[str, Span] = field(compare=False, repr=False)
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, repr=False)
class Space:
    """A space whose text has been checked as a whole.

    Attributes:
        name: of the `space` in the file.
        sources: every file that it is made of, the one asked for first.
        params: values of the parameters, as set.
        overrides: the parameters that were set from outside the files (`-D`), as written.
        sections: settings by kind, such as `search`.
        warnings: what the compiler found odd but could work with.
        whole: the graph before decisions were pinned, where some were; pictures show what is gone.
        pins: the pinned decisions by path, as indices of `whole`.
        decided: those of them that no file pins, but the caller of `decide`.
    """

    name: str
    graph: Graph
    sources: tuple[Source, ...]
    params: Mapping[str, Any]
    overrides: Mapping[str, str]
    sections: Mapping[str, SettingsSection]
    base: str = ""
    warnings: tuple[Diagnostic, ...] = ()
    whole: Graph | None = field(default=None, compare=False, repr=False)
    pins: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    decided: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    declaration: syntax.Space | syntax.Derived | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        """`Space(tiny: 3 x 16 x 16, 29 layers, 18 decisions)`"""
        shape = self.graph.input.shape
        facts = [f"{shape.channels} x {shape.height} x {shape.width}"]
        for count, word in ((sum(1 for _ in self.graph.operators()), "layer"), (len(self.graph.decisions), "decision")):
            facts.append(f"{count:,} {word}{'' if count == 1 else 's'}")
        return f"Space({self.name}: {', '.join(facts)})"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)

    @property
    def source(self) -> Source:
        return self.sources[0]

    @property
    def meaning(self) -> str:
        """Hash of what all files say, however they are laid out."""
        return meaning(*map(_tree, self.sources))

    def digest(self) -> str:
        """Hash of what all files say, of the space's name and of the parameters and decisions set from outside."""
        text = hashlib.sha256(self.meaning.encode())
        decided = (sorted(self.decided.items()),) if self.decided else ()
        text.update(repr((self.name, sorted(self.overrides.items()), *decided)).encode())
        return text.hexdigest()[:16]
