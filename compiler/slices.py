"""Parts of weights, and layers that run with part of a larger layer's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

from nasdsl.compiler.ops.operator import Index, Made


def take(tensor: torch.Tensor, index: Sequence[Index]) -> torch.Tensor:
    """The entries of a weight along each axis: a view where slices do, else a copy that gradients flow through."""
    for axis, part in enumerate(index):
        if part is None:
            continue
        if isinstance(part, slice):
            tensor = tensor[(slice(None),) * axis + (part,)]
        else:
            tensor = tensor.index_select(axis, torch.tensor(part, device=tensor.device, dtype=torch.long))
    return tensor


def shared(module: nn.Module, name: str, index: Sequence[Index]) -> torch.Tensor:
    """What a module's smaller setting has as a tensor: entries of the module's own, or what is made of them."""
    path, _, last = name.rpartition(".")
    part = take(getattr(module.get_submodule(path), last), index)
    return module.made(name, part, index.to) if isinstance(index, Made) else part  # type: ignore[operator]


def copy_weights(source: nn.Module, target: nn.Module, shares: Mapping[str, tuple[Index, ...]]) -> None:
    """Copies parameters and buffers into a module of a smaller setting."""
    for name, tensor in target.state_dict(keep_vars=True).items():
        tensor.copy_(shared(source, name, shares.get(name, ())))


class Slice:
    """A layer run with part of a larger layer's weights: the code of a stand-alone module, over slices instead of its
    own tensors.

    Between calls the shell holds no tensors. Its modes, momenta and dropout are those of the larger layer at each call.
    """

    def __init__(self, full: nn.Module, make: Callable[[], nn.Module], shares: Mapping[str, tuple[Index, ...]]) -> None:
        """
        Args:
            make: gives a new module of the smaller setting.
        """
        self.full = full
        with torch.device("meta"):
            self.shell = make()
        self.parts: list[tuple[dict[str, Any], str, nn.Module, tuple[Any, ...], bool]] = []
        self.made: dict[tuple[nn.Module, str], tuple[str, Any]] = {}  # by owner and name: what the module is asked for
        self.followed: list[tuple[nn.Module, nn.Module, tuple[str, ...]]] = []
        owners = dict(full.named_modules())
        for path, module in self.shell.named_modules():
            owner = owners[path]
            self.followed.append(
                (module, owner, tuple(name for name in ("training", "momentum", "p") if hasattr(owner, name)))
            )
            for table, is_buffer in ((module._parameters, False), (module._buffers, True)):
                for name, tensor in table.items():
                    if tensor is not None:
                        whole = f"{path}.{name}" if path else name
                        index = tuple(self._as_tensor(part, full) for part in shares.get(whole, ()))
                        self.parts.append((table, name, owner, index, is_buffer))
                        share = shares.get(whole)
                        if isinstance(share, Made):
                            self.made[owner, name] = (whole, share.to)

    @staticmethod
    def _as_tensor(part: Index, full: nn.Module) -> Any:
        if part is None or isinstance(part, slice):
            return part
        device = next(chain(full.parameters(), full.buffers())).device
        return torch.tensor(part, dtype=torch.long, device=device)

    def __call__(self, *inputs: torch.Tensor, **told: Any) -> Any:
        for module, owner, names in self.followed:
            for name in names:
                module.__dict__[name] = getattr(owner, name)  # none of them is a parameter, a buffer or a module
        written: list[tuple[torch.Tensor, torch.Tensor, tuple[Any, ...]]] = []
        for table, name, owner, index, is_buffer in self.parts:
            whole = getattr(owner, name)
            part = whole
            copied = False
            for axis, entries in enumerate(index):
                if entries is None:
                    continue
                if isinstance(entries, slice):
                    part = part[(slice(None),) * axis + (entries,)]
                else:
                    part = part.index_select(axis, entries)
                    copied = True
            asked = self.made.get((owner, name))
            table[name] = part if asked is None else self.full.made(asked[0], part, asked[1])  # type: ignore[operator]
            if is_buffer and copied and owner.training:
                written.append((whole, part, index))
        try:
            out = self.shell(*inputs, **told)
        finally:
            for table, name, _, _, _ in self.parts:
                table[name] = None
        for whole, part, index in written:  # running statistics of a copied part go back to where they came from
            whole.index_copy_(0, index[0], part)
        return out
