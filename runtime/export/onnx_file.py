"""A network as an ONNX model, held to the network by onnxruntime before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nasdsl.compiler.files import write_whole
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export.compare import Agreement, compared
from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.record import Recording, first_line, quiet

if TYPE_CHECKING:
    from onnx import ModelProto

OPSETS = range(18, 24)
"""Versions of the operators that can be asked for: those that torch's exporter has, and the oldest it is written in."""
OPSET = 20
LARGEST = 2**31 - 1
"""Bytes of a protobuf message at most."""


def onnx_model(recording: Recording, opset: int = OPSET, facts: Mapping[str, str] | None = None) -> ModelProto:
    """
    Args:
        recording: of it the model has inputs and outputs by name; what is watched is called `watched_0` and so on.
        facts: what the model's `metadata_props` are to say.

    Raises:
        ExportError: an operation of the network has no form in ONNX.
    """
    from nasdsl.runtime.export.translate import translations

    try:
        with quiet():
            made = torch.onnx.export(
                recording.program,
                dynamo=True,
                opset_version=opset,
                optimize=True,
                verbose=False,
                custom_translation_table=translations(),
            )
            assert made is not None
            model: ModelProto = made.model_proto
    except Exception as problem:  # whatever torch cannot translate
        inner = problem.__cause__ or problem
        raise ExportError(f"torch cannot write the network as ONNX: {first_line(inner)}") from problem
    found = next((one.version for one in model.opset_import if one.domain == ""), 0)
    if found != opset:
        raise ExportError(f"the network cannot be written with opset {opset}", f"opset {found} is possible")
    _name(model, recording)
    model.producer_name, model.graph.name = "nasdsl", "network"
    for name, text in (facts or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, text
    return model


def _name(model: ModelProto, recording: Recording) -> None:
    """Gives inputs, outputs and their open sizes names, and drops what the exporter noted at each node."""
    graph = model.graph
    watched = [f"watched_{number}" for number in range(len(graph.output) - len(recording.outputs))]
    inputs, outputs = recording.inputs, (*recording.outputs, *watched)
    names = dict(zip((one.name for one in (*graph.input, *graph.output)), (*inputs, *outputs), strict=True))
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value, name in zip((*graph.input, *graph.output), (*inputs, *outputs), strict=True):
        value.name = name
        del value.metadata_props[:]
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param == batch:
                dim.dim_param = "batch"
            elif dim.dim_param:
                side = {2: "height", 3: "width"}.get(axis, f"axis_{axis}")
                dim.dim_param = side if name in inputs else f"{name}_{side}"


def session(model: bytes) -> Any:
    """onnxruntime's, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def running(model: bytes) -> Any:
    """A model as a function of inputs by name."""
    runs = session(model)
    known = {one.name for one in runs.get_inputs()}

    def run(inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        given = {name: one.detach().cpu().numpy() for name, one in inputs.items() if name in known}
        return [torch.from_numpy(one) for one in runs.run(None, given)]

    return run


def export_onnx(
    network: Supernet,
    recording: Recording,
    path: Path,
    *,
    opset: int = OPSET,
    padded: bool = False,
    facts: Mapping[str, str] | None = None,
) -> Agreement:
    """Writes an ONNX model once onnxruntime has given the numbers of the network with it.

    Args:
        recording: of the network, `watched` where it is a detector.

    Raises:
        ExportError: an operation has no form in ONNX, the model is too large, or its numbers differ.
    """
    model = onnx_model(recording, opset, facts)
    if model.ByteSize() > LARGEST:
        raise ExportError(f"an ONNX file holds at most 2 GB, and this network takes {model.ByteSize() / 1e9:.1f}")
    agreement = compared(network, recording, running(model.SerializeToString()), padded, watched=True)
    agreement.check("the ONNX model")
    del model.graph.output[len(recording.outputs) :]
    data = model.SerializeToString()
    session(data)
    write_whole(path, lambda file: file.write(data))
    return agreement
