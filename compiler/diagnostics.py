"""What the compiler says to its user: an error is a value with a code, a place, a reason and a way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from nasdsl.compiler.source import Span

Severity = Literal["error", "warning"]

MOST = 8
"""Pieces of advice that a traceback shows."""


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

    def __str__(self) -> str:
        """`file.space:3:14: message`"""
        kind = "" if self.severity == "error" else f"{self.severity}: "
        return f"{'' if self.span is None else f'{self.span}: '}{kind}{self.message}"

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


class NasdslError(Exception):
    """What went wrong, in the user's words: the root of all exceptions that nasdsl raises.

    Attributes:
        code: a stable, readable slug; subclasses have their own.
        message: stands alone on one line.
        help: what to do about it; may be empty.
        span: the place in a file, where there is one.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, help: str = "", span: Span | None = None):
        super().__init__(message)
        self.message, self.help, self.span = message, help, span
        if help:
            self.add_note(f"help: {help}")  # which a traceback shows under the message

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """What is shown of it."""
        return (Diagnostic(self.code, self.message, self.span, help=self.help),)

    def __str__(self) -> str:
        return "\n".join(map(str, self.diagnostics))

    def __reduce__(self) -> tuple[Any, ...]:
        # To another process: what it holds, and not what some `__init__` would take.
        return _revived, (type(self), self.args), self.__dict__


def _revived(kind: type[NasdslError], args: tuple[Any, ...]) -> NasdslError:
    return kind.__new__(kind, *args)


class CompileError(NasdslError):
    """The mistakes in a file: diagnostics of which at least one is an error. `message`, `help` and `span` are those of
    the first error.

    Inside the compiler there may be none: work cannot go on because of a mistake that is told elsewhere.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic]):
        errors = [one for one in diagnostics if one.severity == "error"]
        first = errors[0] if errors else Diagnostic("", "")
        super().__init__(first.message, first.help, first.span)
        self._diagnostics = tuple(diagnostics)
        for advice in list(dict.fromkeys(one.help for one in errors[1:] if one.help not in ("", first.help)))[:MOST]:
            self.add_note(f"help: {advice}")

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return self._diagnostics


class ArgumentError(NasdslError, ValueError):
    """A Python function was given what it does not take."""

    code = "argument"


def error(
    code: str, message: str, span: Span | None, label: str = "", *, others: Iterable[Label] = (), help: str = ""
) -> CompileError:
    """A CompileError with one diagnostic, to raise where work cannot go on."""
    return CompileError([Diagnostic(code, message, span, label, tuple(others), help)])


def cause(problem: BaseException) -> str:
    """What an exception of somebody else's code says, on one line: `KeyError: 'a'`."""
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


def shortened(text: str, most: int) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def suggest(word: str, candidates: Iterable[str]) -> str:
    """`did you mean ...?` for the nearest candidate, or the empty string."""
    import difflib  # takes a while, and most files have no mistake

    near = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""
