"""`nasdsl.export`: an architecture with its weights as something that does not need nasdsl."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from nasdsl.api.given import CallError, SpaceLike, WeightsLike, space_like
from nasdsl.api.trained import trained_like
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.export import ENDINGS, Exported, export_network
from nasdsl.runtime.results import weights_path

__all__ = ["Exported", "export"]

ONLY = {"opset": ("onnx",), "fixed_size": ("onnx", "torch"), "padded": ("onnx", "torch")}
"""Arguments that are for some forms alone."""


def export(
    space: SpaceLike | Supernet,
    out: str | PathLike[str] | None = None,
    *,
    to: str = "python",
    weights: WeightsLike = None,
    opset: int | None = None,
    fixed_size: bool = False,
    padded: bool = False,
) -> Exported:
    """Writes an architecture with its weights so that nasdsl is not needed, as `nasdsl export` does, and proves that it
    gives the same numbers.

        nasdsl.export("found.space")
        nasdsl.export(found, "found.py")
        nasdsl.export(supernet.extract(architecture), "found.py")

    Args:
        space: what a search or a training gave, with its weights; an architecture; or a network of one, as
            `Supernet.extract` gives it, whatever trained it.
        out: the file; by default `NAME.py`, `NAME.pt2` or `NAME.onnx` beside the space's.
        to: `python`, a readable module that imports torch alone, with its weights in safetensors; `torch`, a program
            for `torch.export.load`; `onnx`, a model for onnxruntime and others.
        weights: a file, or a network; by default the file beside the space's.
        opset: the version of ONNX's operators, 18 to 23; 20 by default.
        fixed_size: of `onnx` and `torch`: whether images have the size of the space's input alone. Otherwise any number
            of them is taken, and of any size that is a multiple of the network's stride, where the network allows it.
        padded: of `onnx` and `torch`: whether a detector reads a second input, `sizes` (B 2), height and width of each
            image without its padding.

    Raises:
        CompileError: a mistake in the file, the space has decisions, or its weights are missing or of another network.
        OutputError: the file cannot be written, or something else is there.
        ExportError: the network cannot be written, or gives other numbers.
    """
    if to not in ENDINGS:
        raise CallError(f"`to` is {', '.join(ENDINGS)}, and not {to}")
    for name, given in (("opset", opset is not None), ("fixed_size", fixed_size), ("padded", padded)):
        if given and to not in ONLY[name]:
            raise CallError(f"`{name}` is for {' and '.join(ONLY[name])}, and not for {to}")
    made, network, about, file = _given(space, weights)
    if out is None and (made is None or made.source.path is None):
        raise CallError("export reads a file, and not standard input" if made else "`out` names the file")
    where = None if out is None else Path(out)
    return export_network(
        made, network, about, to, where, weights=file, opset=opset, fixed_size=fixed_size, padded=padded
    )


def _given(
    space: SpaceLike | Supernet, weights: WeightsLike
) -> tuple[Space | None, Supernet, AboutWeights, Path | None]:
    if isinstance(space, Supernet):
        if weights is not None:
            raise CallError("a network has its own `weights`")
        return None, space, AboutWeights(), None
    own = space_like(space)
    made, network, about = trained_like(space, weights)
    if weights is not None:
        return made, network, about, None if isinstance(weights, Supernet) else Path(weights)
    return made, network, about, None if own.source.path is None else weights_path(own.source.path)
