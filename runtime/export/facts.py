"""What an exported file says of itself: which network it is, and what its images and its answers are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.version import version
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.export.record import Recording


def facts_of(space: Space | None, network: Supernet, about: AboutWeights, recording: Recording) -> Mapping[str, str]:
    """By name, text or JSON: `space`, `hash`, `task`, `classes` and other names, `mean` and `std` of what images (from
    0 to 1) are normalised by, `input` with its sizes, `outputs`, `nasdsl`."""
    shape = network.graph.input.shape
    told = {
        "channels": int(shape.channels),
        "height": int(shape.height),
        "width": int(shape.width),
        "sizes": recording.sizes,
    }
    facts: dict[str, object] = {
        "nasdsl": version(),
        "space": None if space is None else space.name,
        "hash": None if space is None else space.digest(),
        "task": about.task,
        "classes": about.classes,
        "features": about.features,
        "category_ids": about.category_ids,
        "joints": None if about.joints is None else dataclasses.asdict(about.joints),
        "mean": about.mean,
        "std": about.std,
        "input": told,
        "outputs": recording.outputs,
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        for name, value in facts.items()
        if value is not None
    }
