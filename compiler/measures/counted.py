"""Measures that are counted from shapes and from the operators' own rules, without a file."""

from __future__ import annotations

from nasdsl.compiler.measures.measure import Measure, Place
from nasdsl.compiler.ops.transformer import TRANSFORMER, profiled_macs
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value

BYTES = 4
"""Of a number in float32."""


def _made(place: Place) -> Value:
    return place.made


MACS = Measure(
    "macs",
    "MACs",
    "Multiply-accumulates for one image of the declared size.",
    term=lambda place: place.cost.macs,
)

FLOPS = Measure("flops", "FLOPs", "Floating-point operations for one image: two for each MAC.", of=(2, "macs"))

PARAMS = Measure(
    "params",
    "parameters",
    "Parameters of the modules, shared ones once; the scale and the shift of batch norm count, running statistics not.",
    term=lambda place: place.cost.params,
    shared="once",
)

MEMORY = Measure(
    "memory",
    "bytes of activations",
    "What training keeps of one image for the backward pass, operator by operator: the outputs of all operators, sums "
    "and concatenations, each once, in float32. The image itself and what stays inside an operator are left out.",
    unit="bytes",
    term=lambda place: expr.multiply(BYTES, place.written),
    when=_made,
)

ACCESS = Measure(
    "access",
    "memory accesses",
    "Numbers that go to and from memory for one image: of every operator, sum and concatenation its inputs, its "
    "weights and its output, each once (MAC of ShuffleNet V2, Ma et al. 2018). Shared weights are read by each.",
    term=lambda place: expr.add(place.read, place.cost.params, place.written),
    when=_made,
)


def _profiled(place: Place) -> Value:
    node = place.node
    if node.op != TRANSFORMER.name:
        return place.cost.macs
    inputs = [place.graph.nodes[edge.source].shape for edge in node.inputs]
    return expr.multiply(profiled_macs(inputs, node.shape, node.attrs), node.shape.items)


PROFILER_MACS = Measure(
    "profiler_macs",
    "MACs by the profiler of HR-NAS",
    "What the profiler of the published HR-NAS code tells for one image of the declared size: MACs; of transformers, "
    "though, not the decoder's attention, and of a linear layer in their feed-forward networks one MAC for each token.",
    term=_profiled,
)

MEASURES = (MACS, FLOPS, PARAMS, MEMORY, ACCESS, PROFILER_MACS)
