"""Whether a call is recorded to run again, and operations that a recording takes as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch


def recorded(x: torch.Tensor) -> bool:
    """Whether a call on this input becomes a program that runs on others: by `torch.export`, `torch.jit.trace`, ONNX or
    `torch.compile`. No step of it may then hang on the number of images or on the values that are in them. On the meta
    device there are no values either."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return traced or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export() or x.is_meta


def numbers(values: Sequence[int | float], device: torch.device) -> torch.Tensor:
    """A vector of numbers, such as sides of an image. In a recording with open sizes these are no constants, and the
    vector is made when it runs."""
    if any(isinstance(value, torch.SymInt | torch.SymFloat) for value in values):
        whole = all(isinstance(value, int | torch.SymInt) for value in values)
        dtype = torch.int64 if whole else torch.float32
        return torch.stack([torch.scalar_tensor(value, dtype=dtype, device=device) for value in values])
    return torch.tensor(values, device=device)


def is_open(*sizes: int) -> bool:
    """Whether a recording leaves one of these open: no step of it may then hang on which number it is."""
    return any(isinstance(size, torch.SymInt) for size in sizes)


def always(condition: bool | torch.SymBool) -> bool:
    """Whether a condition on sizes holds whatever those are that a recording leaves open."""
    if isinstance(condition, bool):
        return condition
    shapes = import_module("torch.fx.experimental.symbolic_shapes")  # of torch's compiler: it takes a while
    return bool(shapes.statically_known_true(condition))


def operation(name: str, schema: str, run: Callable[..., torch.Tensor], like: Callable[..., torch.Tensor]) -> Any:
    """A function as an operation of torch, so that a recording calls it whatever it does inside, as torchvision's are.

    A program that was saved needs the operation to be there when it is loaded: whoever loads it imports this file, or
    one that was exported. The first that is imported makes it.

    Args:
        name: with a namespace, `nasdsl::survivors`.
        schema: its arguments and its result, as `torch.library` has them. It changes none and returns none of them.
        like: of the same arguments a tensor of the result's size.
    """
    space, _, short = name.partition("::")
    known = getattr(torch.ops, space)
    if not hasattr(known, short):
        torch.library.custom_op(name, run, mutates_args=(), schema=schema).register_fake(like)
    return getattr(known, short).default
