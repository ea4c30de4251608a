"""A network as a program of torch's that `torch.export.load` reads, held to the network before it is written."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nasdsl.compiler.files import write_whole
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export.compare import Agreement, compared
from nasdsl.runtime.export.record import Recording, quiet

ABOUT = "nasdsl.json"
"""The extra file of a program that says what it is: `torch.export.load(file, extra_files={"nasdsl.json": ""})`."""


def export_torch(
    network: Supernet,
    recording: Recording,
    path: Path,
    *,
    padded: bool = False,
    facts: Mapping[str, str] | None = None,
) -> Agreement:
    """Writes a recorded network once it has been read back and has given the network's numbers.

    Raises:
        ExportError: its numbers differ.
    """
    file = io.BytesIO()
    recording.program.example_inputs = None  # images that a file would carry beside the weights
    for node in recording.program.graph.nodes:  # and places in files of this machine
        node.meta.pop("stack_trace", None)
    with quiet():
        torch.export.save(recording.program, file, extra_files={ABOUT: json.dumps(dict(facts or {}), indent=2)})
        file.seek(0)
        module = torch.export.load(file).module()

    def run(inputs: Mapping[str, torch.Tensor]) -> Sequence[torch.Tensor]:
        with torch.inference_mode():
            made: Sequence[torch.Tensor] = module(*inputs.values())
        return made

    agreement = compared(network, recording, run, padded)
    agreement.check("the program")
    data = file.getvalue()
    write_whole(path, lambda stream: stream.write(data))
    return agreement
