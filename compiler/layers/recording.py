"""Whether a call is recorded to run again, and operations that a recording takes as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def recorded(x: torch.Tensor) -> bool:
    """Whether a call on this input becomes a program that runs on others: by `torch.export`, `torch.jit.trace`, ONNX or
    `torch.compile`. No step of it may then hang on the number of images or on the values that are in them. On the meta
    device there are no values either."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return traced or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export() or x.is_meta


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
