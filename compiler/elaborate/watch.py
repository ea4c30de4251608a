"""What an elaboration tells whoever looks on, such as an editor: what each step came to, and what names stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasdsl.compiler.decision import Decision
from nasdsl.compiler.elaborate.values import Flow
from nasdsl.compiler.graph import Node
from nasdsl.compiler.source import Span

MOST_VALUES = 12
"""Values of one name that are kept."""


@dataclass(frozen=True)
class Ran:
    """One run of a step.

    Attributes:
        nodes, made: which nodes, and which times that something was decided, came about in it, by their numbers.
        flow: what came out.
    """

    span: Span
    nodes: range
    made: range
    flow: Flow


@dataclass
class Watch:
    """Filled while a space is elaborated; what there is stays where that ends in mistakes.

    Attributes:
        steps: each step of a body or a pipeline, and each use of an operator, whenever it was run.
        values: by the place of a name where it is declared, what it stood for, each value once.
        nodes, decisions: of the whole space, as far as it came.
        made: the paths of what was decided, each time.
    """

    steps: list[Ran] = field(default_factory=list)
    values: dict[tuple[str, int, int], list[Any]] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def note(self, span: Span | None, value: Any) -> None:
        """That the name declared at a place stands for a value."""
        if span is None:
            return
        known = self.values.setdefault((span.source.name, span.start, span.end), [])
        if len(known) < MOST_VALUES and not any(value is one or value == one for one in known):
            known.append(value)
