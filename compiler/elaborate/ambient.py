"""Words that mean something of the place where they stand: `in`, `at`, `inputs`, `earlier` and the like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nasdsl.compiler import bound
from nasdsl.compiler.diagnostics import CompileError, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.source import Span


def ambient(node: bound.Ambient, frame: Frame, path: str) -> Any:
    """What the word means here."""
    return _AMBIENT[node.word](node, frame)


def _earlier(node: bound.Ambient, frame: Frame) -> v.Guarded:
    if frame.labels.lost:
        raise CompileError([])
    return v.Guarded(tuple((tensor, tensor.present) for tensor in frame.labels.tensors))


def _inputs(node: bound.Ambient, frame: Frame) -> Any:
    """The tensors that come into the operator, path or branch around this."""
    if isinstance(frame.incoming, v.Branches):
        tensors = frame.incoming.tensors
        if any(tensor.lost for tensor in tensors):
            raise CompileError([])
    else:
        tensors = (_incoming_tensor(node.span, frame),)
    if all(tensor.present is True for tensor in tensors):
        return tensors
    return v.Guarded(tuple((tensor, tensor.present) for tensor in tensors))


def _unused(node: bound.Ambient, frame: Frame) -> v.Unused:
    if frame.labels.lost:
        raise CompileError([])
    return v.Unused(frame.builder.unread(frame.labels.tensors))


def _regions(node: bound.Ambient, frame: Frame) -> Any:
    """What a detector's proposals gave. Where some choice leaves them out, that the head is not used then is proven."""
    regions = frame.regions
    if v.is_lost(regions):
        raise CompileError([])
    missing = error(
        "no-regions",
        "this needs regions, and the detector proposes none",
        node.span,
        help="fill the slot `proposals`, for example with `proposals: rpn()`",
    )
    if not isinstance(regions, v.Tensor):
        raise missing
    frame.builder.prove(regions.present, frame, missing.diagnostics[0])
    return replace(regions, present=True)


def _incoming_value(what: str, span: Span, frame: Frame) -> Any:
    """`in` or `at`. In the network itself they are the image's: said where the step gets something else."""
    tensor = _incoming_tensor(span, frame)
    part = "channels" if what == "width" else "scale"
    value, flow = getattr(tensor.shape, part), frame.builder.flow
    tensors = flow.tensors if isinstance(flow, v.Branches) else (flow,) if isinstance(flow, v.Tensor) else ()
    others = [getattr(t.shape, part) for t in tensors if not t.lost and getattr(t.shape, part) != value]
    if others and tensor.node == "input" and not frame.operator:
        word, shown = span.text, v.show(value)
        message = f"`{word}` is the {what} of the image here, {shown}, and not that of what comes into this step"
        help = f"`{word}` means what comes in inside an `operator`; here give the {what} a name with `let`"
        found = error("image-for-step", message, span, f"what comes in has {v.show(others[0])}", help=help)
        frame.builder.report([replace(found.diagnostics[0], severity="warning")])
    return value


def _incoming_branches(span: Span, frame: Frame) -> int:
    """How many branches come in, those counted that a choice leaves out."""
    if isinstance(frame.incoming, v.Branches):
        return len(frame.incoming.tensors)
    _incoming_tensor(span, frame)
    return 1


def _incoming_tensor(span: Span, frame: Frame) -> v.Tensor:
    if isinstance(frame.incoming, v.Tensor):
        if frame.incoming.lost:
            raise CompileError([])
        return frame.incoming
    if isinstance(frame.incoming, v.Branches):
        raise error(
            "several-branches",
            "several branches come in here, each with its own width and scale",
            span,
            help="use `parallel { ... }`",
        )
    raise error("nothing-incoming", f"nothing comes in here, so `{span.text}` has no value", span)


_AMBIENT: Mapping[str, Callable[[bound.Ambient, Frame], Any]] = {
    "in": lambda node, frame: _incoming_value("width", node.span, frame),
    "at": lambda node, frame: _incoming_value("scale", node.span, frame),
    "inputs": _inputs,
    "branches": lambda node, frame: _incoming_branches(node.span, frame),
    "earlier": _earlier,
    "unused": _unused,
    "regions": _regions,
}
