"""Checkpoints and weights as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nasdsl.compiler.files import write_whole


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Tensors, numbers, strings and containers of these."""
    write_whole(path, lambda file: torch.save(dict(state), file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote. Nothing in the file is run."""
    return torch.load(path, map_location="cpu", weights_only=True)


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file."""
    from safetensors.torch import save

    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    write_whole(path, lambda file: file.write(save(plain, dict(metadata))))


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
