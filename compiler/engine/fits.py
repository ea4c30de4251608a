"""What fits into a window of costs, asked of the arcs and states of a diagram: by a ceiling, or by tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.engine.budget import Within
from nasdsl.compiler.engine.diagram import Diagram
from nasdsl.compiler.engine.shortest_paths import best_behind


class Ceiling:
    """At most so much of one measure, or (`column` None) no bound at all."""

    def __init__(self, diagram: Diagram, column: int | None, high: int):
        self.layers, self.column = diagram.layers, column
        self.limited = column is not None
        self.high = high if column is None else high - int(diagram.constants[column])
        self.behind = [] if column is None else best_behind(diagram.layers, column)

    def nothing(self, n: int) -> Any:
        return np.zeros(n, np.int64)

    def amount(self, number: int, arc: NDArray[Any]) -> Any:
        """What arcs of a layer use up."""
        return np.zeros(len(arc), np.int64) if self.column is None else self.layers[number].costs[arc, self.column]

    def completes(self, boundary: int, state: NDArray[Any], used: Any) -> NDArray[np.bool_]:
        """Whether something that follows on a state stays inside."""
        if self.column is None:
            return np.ones(len(state), np.bool_)
        fits: NDArray[np.bool_] = used + self.behind[boundary][state] <= self.high
        return fits


class Inside:
    """Any window, by the tables of what fits."""

    limited = True

    def __init__(self, within: Within):
        self.columns, self.low, self.high = (list(part) for part in within.bounds)
        self.room, self.shifts, self.boundaries = within.rooms()

    def nothing(self, n: int) -> Any:
        return np.zeros((n, len(self.columns)), np.int64)

    def amount(self, number: int, arc: NDArray[Any]) -> Any:
        return self.shifts[number][arc]

    def completes(self, boundary: int, state: NDArray[Any], used: Any) -> NDArray[np.bool_]:
        fits: NDArray[np.bool_] = self.room.at(self.boundaries[boundary], state, self.room.left - used) > 0
        return fits
