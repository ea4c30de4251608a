"""What single operations of a recorded network become in ONNX where torch's own exporter has no translation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nasdsl.compiler.layers.boxes import SURVIVORS
from nasdsl.compiler.layers.regions import POOLED

LEAST_RANK = 0.5
"""Boxes that are there have ranks from 1 on, the others 0."""


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """By operation, the function that makes ONNX nodes of its arguments; made of standard operators of opset 18."""
    from onnxscript import opset18

    op: Any = opset18  # to a type checker each of its values could be of any type of number

    def sorted_stably(
        x: Any, stable: bool | None = None, dim: int = -1, descending: bool = False
    ) -> tuple[Any, Any]:  # equal values come out of TopK in the order they went in
        size_1 = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]), axis=0)
        return op.TopK(x, size_1, axis=dim, largest=int(descending), sorted=1)

    def survivors(
        boxes_BN4: Any,
        there_BN: Any,
        threshold: float,
        block: int,
        groups_BN: Any = None,
        most: int | None = None,
        kinds: int = 1,
    ) -> Any:
        """The boxes stand in falling order: a score that falls with the place keeps it, whatever sorts them inside."""
        number = op.Shape(there_BN, start=1, end=2)
        number_N = op.Squeeze(number)
        rank_N = op.Cast(op.Range(number_N, op.Constant(value_int=0), op.Constant(value_int=-1)), to=1)
        none = op.Constant(value_float=0.0)
        scores_BKN = op.Unsqueeze(op.Where(there_BN, rank_N, none), op.Constant(value_ints=[1]))
        if groups_BN is not None and kinds > 1:
            kind_K1 = op.Unsqueeze(op.Constant(value_ints=list(range(kinds))), op.Constant(value_ints=[1]))
            own_BKN = op.Equal(op.Unsqueeze(groups_BN, op.Constant(value_ints=[1])), kind_K1)
            scores_BKN = op.Where(own_BKN, scores_BKN, none)
        kept_S3 = op.NonMaxSuppression(
            op.Cast(boxes_BN4, to=1),
            scores_BKN,
            number if most is None else op.Constant(value_ints=[most]),
            op.Constant(value_floats=[threshold]),
            op.Constant(value_floats=[LEAST_RANK]),
        )
        place_S2 = op.Gather(kept_S3, op.Constant(value_ints=[0, 2]), axis=1)  # image and box
        ones_S = op.Expand(op.Constant(value_int=1), op.Shape(kept_S3, start=0, end=1))
        nothing_BN = op.Expand(op.Constant(value_int=0), op.Shape(there_BN))
        return op.Cast(op.ScatterND(nothing_BN, place_S2, ones_S), to=9)

    def pooled(table_PC: Any, pixel_Rt: Any, share_Rt: Any) -> Any:
        total = None
        for number in range(int(pixel_Rt.shape[1])):  # one after the other: together they take too much memory
            at = op.Constant(value_int=number)
            share_R1 = op.Unsqueeze(op.Gather(share_Rt, at, axis=1), op.Constant(value_ints=[1]))
            part_RC = op.Mul(op.Gather(table_PC, op.Gather(pixel_Rt, at, axis=1), axis=0), share_R1)
            total = part_RC if total is None else op.Add(total, part_RC)
        return total

    return {torch.ops.aten.sort.stable: sorted_stably, SURVIVORS: survivors, POOLED: pooled}
