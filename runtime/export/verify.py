"""Runs an exported module where only torch can be imported, and compares its numbers."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export.errors import ExportError

CHILD = """
import importlib.util, json, sys

class OnlyTorch:
    # torch with what it imports itself; numpy is not part of that, as torch runs without
    allowed = {"torch", "functorch", "torchgen", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2",
               "markupsafe", "filelock", "fsspec", "triton", "nvidia"}

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in self.allowed or top in sys.stdlib_module_names or top == "found_network":
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyTorch())
file, data, device, threads = sys.argv[1:]
import warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(int(threads))
spec = importlib.util.spec_from_file_location("found_network", file)
module = sys.modules["found_network"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.load(device=device)

def moved(x, place):
    if isinstance(x, torch.Tensor):
        return x.to(place)
    if isinstance(x, dict):
        return {name: one.to(place) for name, one in x.items()}
    return tuple(moved(one, place) for one in x)

outputs = []
for training, inputs in torch.load(data, weights_only=True):
    model.train(training)
    torch.manual_seed(0)
    with torch.inference_mode():
        outputs.append(moved(model(*moved(inputs, device)), "cpu"))
torch.save(outputs, data)
"""

Targets = Mapping[str, torch.Tensor]
Inputs = torch.Tensor | tuple[torch.Tensor, Targets]
Outputs = torch.Tensor | Mapping[str, torch.Tensor]


def verify_python(path: Path, network: Supernet, inputs: Inputs | Sequence[Inputs]) -> float:
    """The largest difference between a written file and the network.

    The file runs in a process of its own that can import torch, but neither nasdsl nor numpy nor anything else.

    Args:
        inputs: images, or several of such; for a detector pairs of images and targets, of which, where they have boxes,
            the losses in training are compared too, under one seed. Otherwise the network is in evaluation mode.

    Returns:
        the largest absolute difference; in a record, where a number above 1 is a place in pixels or a loss, in
        proportion to it.

    Raises:
        ExportError: the file does not run.
    """
    several = [inputs] if isinstance(inputs, torch.Tensor | tuple) else list(inputs)
    pairs = [one if isinstance(one, tuple) else (one,) for one in several]
    runs: list[tuple[bool, tuple[Any, ...]]] = [(False, pair) for pair in pairs]
    runs += [(True, pair) for pair in pairs if len(pair) > 1 and "boxes" in pair[1]]
    parameter = next(network.parameters(), torch.zeros(0))
    expected = _outputs(network, runs, parameter.device)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "tensors.pt"
        torch.save([(training, _moved(pair, "cpu")) for training, pair in runs], data)
        command = [sys.executable, "-I", "-c", CHILD, str(Path(path).resolve()), str(data), str(parameter.device)]
        done = subprocess.run([*command, str(torch.get_num_threads())], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise ExportError(f"{Path(path).name} does not run by itself: {reason}")
        outputs = torch.load(data, weights_only=True)
    return max((difference(a, b) for a, b in zip(expected, outputs, strict=True)), default=0.0)


def batch_to_compare(network: Supernet, seed: int = 0) -> Inputs:
    """Two random images of the size of a network's input. Where it reads targets they come with boxes to learn from,
    and the second of them is padded."""
    graph = network.graph
    shape = graph.input.shape
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, shape.channels, shape.height, shape.width, generator=generator)
    if not network.reads_scene:
        return images
    size = torch.tensor([[shape.height, shape.width], [-(-shape.height * 3 // 4), shape.width]])
    images[1, :, int(size[1, 0]) :] = 0
    ends = torch.rand(2, 4, 2, 2, generator=generator).sort(dim=2).values * size.flip(-1)[:, None, None]
    boxes = torch.stack([ends[:, :, 0], ends[:, :, 1].maximum(ends[:, :, 0] + 1)], 2).flatten(2)
    head = graph.nodes[graph.nodes[graph.outputs[0]].inputs[0].source]
    labels = torch.randint(int(head.attrs.get("classes", 1)), (2, 4), generator=generator)
    labels[1, 3], boxes[1, 3] = -1, 0.0  # an image of fewer boxes
    crowd = torch.tensor([[False, False, False, True], [False] * 4])
    return images, {"boxes": boxes, "labels": labels, "crowd": crowd, "size": size}


def _outputs(
    network: Supernet, runs: Sequence[tuple[bool, tuple[Any, ...]]], device: torch.device
) -> list[torch.Tensor | dict[str, torch.Tensor]]:
    """What the network gives in training or in evaluation, each time from one seed; it stays as it was."""
    training = network.training
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    found = []
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.inference_mode():
            for trains, pair in runs:
                network.train(trains)
                torch.manual_seed(0)
                found.append(_moved(network(*_moved(pair, device)), "cpu"))
    finally:
        network.train(training)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])
    return found


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to(device)
    if isinstance(value, Mapping):
        return {name: one.detach().to(device) for name, one in value.items()}
    return tuple(_moved(one, device) for one in value)


def difference(a: Outputs, b: Outputs) -> float:
    """The largest difference; infinite where shapes, names, or which values are no numbers, differ."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return _gap(a, b, torch.ones(()))
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor) or a.keys() != b.keys():
        return math.inf
    return max((_gap(a[name], b[name], a[name].abs().clamp(min=1)) for name in a), default=0.0)


def _gap(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> float:
    if a.shape != b.shape or not torch.equal(a.isnan(), b.isnan()):
        return math.inf
    gaps = (a.double() - b.double()).abs() / scale.double()
    gaps[(a == b) | a.isnan()] = 0  # infinite values that agree
    return float(gaps.max()) if gaps.numel() else 0.0
