"""A text as an editor has it, and what is known of it without evaluating anything: tokens, tree, names, mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import CompileError, Diagnostic
from nasdsl.compiler.parse import LARGEST_FILE, parse, parse_partly, unsaved
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.tokens import Tokens, tokenize
from nasdsl.compiler.unparse import unparse
from nasdsl.editor.lines import Lines
from nasdsl.editor.names import Index, index
from nasdsl.editor.pieces import Piece, pieces


@dataclass
class Document:
    """One version of a text. Nothing in the text makes any of it fail.

    Attributes:
        name: of the file, for messages.
        path: of the file, or None for a text that is in none.
        others: unsaved texts of other files, by resolved path.
    """

    text: str
    name: str = "<text>"
    path: Path | None = None
    encoding: str = "utf-16"
    others: Mapping[Path, str] = field(default_factory=dict)

    def beside(self, others: Mapping[Path, str]) -> Document:
        """The same text with other texts beside it. What does not hang on them is not read again."""
        made = replace(self, others=others)
        kept = ("source", "lines", "tokens", "pieces", "layout", "_read")
        made.__dict__.update({name: self.__dict__[name] for name in kept if name in self.__dict__})
        return made

    @cached_property
    def source(self) -> Source:
        return Source(self.text, self.name, self.path)

    @cached_property
    def lines(self) -> Lines:
        return Lines(self.text, self.encoding)

    @cached_property
    def tokens(self) -> Tokens:
        return tokenize(self.source if len(self.text) <= LARGEST_FILE else Source(self.text[:LARGEST_FILE]))

    @cached_property
    def pieces(self) -> list[Piece]:
        return pieces(self.text[:LARGEST_FILE])

    @cached_property
    def _read(self) -> tuple[syntax.File, tuple[Diagnostic, ...]]:
        try:
            return parse(self.source), ()
        except CompileError as problem:
            nothing = syntax.File((), span=Span(self.source, 0, len(self.text)))
            return parse_partly(self.source) if len(self.text) <= LARGEST_FILE else nothing, problem.diagnostics

    @property
    def tree(self) -> syntax.File:
        """The syntax tree; of a text with mistakes what can be read of it."""
        return self._read[0]

    @property
    def misread(self) -> tuple[Diagnostic, ...]:
        """Why the text can't be read; empty where it can."""
        return self._read[1]

    @cached_property
    def layout(self) -> str:
        """The text in the canonical layout, as `nasdsl fmt` has it; of one that can't be read the text itself."""
        return self.text if self.misread else unparse(self.tree)

    @cached_property
    def names(self) -> Index:
        with unsaved(self.others):
            return index(self.source, self.tree)

    @cached_property
    def mistakes(self) -> tuple[Diagnostic, ...]:
        """What is wrong at first sight: the form; where that is right the files that are used, and then the names."""
        return self.misread or tuple(self.names.problems) or tuple(self.names.found)
