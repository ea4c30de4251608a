"""A trained architecture, however it is given."""

from __future__ import annotations

from nasdsl.api.given import SpaceLike, WeightsLike, space_like, weights_like
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.trained import trained_space


def trained_like(space: SpaceLike, weights: WeightsLike) -> tuple[Space, Supernet, AboutWeights]:
    """An architecture, its network, and what is known of its weights."""
    given, made = weights_like(space, weights), space_like(space)
    if not isinstance(given, Supernet):
        return trained_space(made, given)
    task, data = getattr(space, "task", None), getattr(space, "data", None)
    if task is None or data is None:
        return made, given, AboutWeights()
    from nasdsl.runtime.results import about_result

    return made, given, about_result(task, data)
