"""Augmentation of images with boxes."""

from __future__ import annotations

from typing import Any

from nasdsl.runtime.tasks.task import Augmentation, TaskError


def augmentation(preset: str, size: Any = None, **options: Any) -> Augmentation:
    """A preset by name."""
    raise TaskError(f"there is no preset {preset}")
