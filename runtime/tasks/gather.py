"""What metrics have in common that evaluate all samples together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch

Row = TypeVar("Row")


def gathered(rows: Mapping[int, Row]) -> list[Row]:
    """Rows of all processes by number, each once, in an order that does not depend on the processes."""
    parts: list[Mapping[int, Row] | None] = [rows]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, rows)
    once = {number: row for part in parts for number, row in (part or {}).items()}
    return [once[number] for number in sorted(once)]


def silent(*words: object) -> None:
    """The tables of an evaluation are not printed: its numbers are returned."""
