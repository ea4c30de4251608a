"""Runs an exported module where only torch can be imported, and compares its numbers."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

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
with torch.inference_mode():
    outputs = [model(x.to(device)).cpu() for x in torch.load(data, weights_only=True)]
torch.save(outputs, data)
"""


def verify_python(path: Path, network: Supernet, inputs: torch.Tensor | Sequence[torch.Tensor]) -> float:
    """The largest difference between a written file and the network, in evaluation mode.

    The file runs in a process of its own that can import torch, but neither nasdsl nor numpy nor anything else.

    Raises:
        ExportError: the file does not run.
    """
    inputs = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
    parameter = next(network.parameters(), torch.zeros(0))
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            expected = [network(x.to(parameter.device)).cpu() for x in inputs]
    finally:
        network.train(training)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "tensors.pt"
        torch.save([x.detach().cpu() for x in inputs], data)
        command = [sys.executable, "-I", "-c", CHILD, str(Path(path).resolve()), str(data), str(parameter.device)]
        done = subprocess.run([*command, str(torch.get_num_threads())], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise ExportError(f"{Path(path).name} does not run by itself: {reason}")
        outputs = torch.load(data, weights_only=True)
    return max((difference(a, b) for a, b in zip(expected, outputs, strict=True)), default=0.0)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest absolute difference; infinite where shapes, or which values are no numbers, differ."""
    if a.shape != b.shape or not torch.equal(a.isnan(), b.isnan()):
        return math.inf
    gaps = (a.double() - b.double()).abs()
    gaps[(a == b) | a.isnan()] = 0  # infinite values that agree
    return float(gaps.max()) if gaps.numel() else 0.0
