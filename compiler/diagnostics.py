"""What the compiler says to its user: an error is a value with a code, a place, a reason and a way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nasdsl.compiler.source import Span

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Label:
    """A second place that the message speaks of, with a word on what stands there."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One message. `code` is a stable, readable slug such as `unknown-name`; `message` stands alone on one line.

    `label` is set beside the underlined characters; `others` are further places; `help` is the advice.
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    others: tuple[Label, ...] = ()
    help: str = ""
    severity: Severity = field(default="error")

    def to_json(self) -> dict[str, Any]:
        """The form of `--format json`: 1-based lines and columns, as editors count."""
        out: dict[str, Any] = {"code": self.code, "severity": self.severity, "message": self.message}
        if self.span is not None:
            out |= _place(self.span)
        if self.label:
            out["label"] = self.label
        if self.others:
            out["others"] = [{**_place(other.span), "label": other.text} for other in self.others]
        if self.help:
            out["help"] = self.help
        return out


def _place(span: Span) -> dict[str, Any]:
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(span.end)
    return {"file": span.source.name, "line": line, "column": column, "end_line": end_line, "end_column": end_column}


class CompileError(Exception):
    """One or more diagnostics of which at least one is an error."""

    def __init__(self, diagnostics: Sequence[Diagnostic]):
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(d.message for d in diagnostics))

    def __reduce__(self) -> tuple[Any, ...]:
        return CompileError, (self.diagnostics,)  # to another process


def error(
    code: str, message: str, span: Span | None, label: str = "", *, others: Iterable[Label] = (), help: str = ""
) -> CompileError:
    """A CompileError with one diagnostic, to raise where work cannot go on."""
    return CompileError([Diagnostic(code, message, span, label, tuple(others), help)])


def suggest(word: str, candidates: Iterable[str]) -> str:
    """`did you mean ...?` for the nearest candidate, or the empty string."""
    import difflib  # takes a while, and most files have no mistake

    near = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""
