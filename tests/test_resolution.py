"""Spaces whose input has a size that is searched: a supernet shows each architecture the images in its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.largest import largest_sides
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.problem import Exploration, Result
from nasdsl.runtime.search import Options, search
from nasdsl.runtime.trained import load_network
from tests.test_search import run

SPACE = """
space open {
  let side = oneof(8, 12)
  input 1 x side x side
  network { conv(8, kernel: 3, stride: oneof(1, 2)), classify(3) }
  search sample {
    hold_back: 12
    candidates: 2
    train: { epochs: 0.5, batch: 8, recalibrate: 1 }
  }
}
"""


def test_images_are_brought_to_the_size_of_the_architecture() -> None:
    graph = elaborate(Source(SPACE)).graph
    assert largest_sides(graph) == (12, 12)
    network = Supernet(graph).eval()
    images = torch.rand(2, 1, 12, 12)
    for side, stride in ((8, 1), (12, 2), (8, 2)):
        network.activate({"side": side, "conv.stride": stride})
        alone = network.extract()
        small = torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        assert alone.graph.input.shape.height == side
        torch.testing.assert_close(network(images), alone(small))
    assert cost_of(graph, {"side": 0, "conv.stride": 0})["macs"] == 8 * 8 * 9 * 8 + 8 * 3


@pytest.mark.usefixtures("bars")
def test_a_resolution_is_searched(tmp_path: Path) -> None:
    """By sampling, and then by evolution with what was learnt; what is found has a size."""
    file = tmp_path / "open.space"
    file.write_text(SPACE)
    found = run(file)
    assert isinstance(found, Result) and found.architecture.to_json()["side"] in (8, 12)
    network, _ = load_network(elaborate(read(tmp_path / "found.space")))
    assert network.graph.input.shape.height == found.architecture.to_json()["side"]
    options = Options(run=tmp_path / "again", accelerator="cpu", overrides={"supernet": "found", "trials": 3})
    evolved = search(read(file), tmp_path / "best.space", options, runtime="evolve").result
    assert isinstance(evolved, Exploration)
    assert {trial.proposal.architecture["side"] for trial in evolved.trials} <= {8, 12} and len(evolved.trials) == 3


@pytest.mark.usefixtures("bars")
def test_other_searches_ask_for_one_size(tmp_path: Path) -> None:
    file = tmp_path / "open.space"
    file.write_text(SPACE)
    with pytest.raises(CompileError, match="the size of the input is open to choice"):
        run(file, runtime="shrink")
    file.write_text(SPACE.replace("input 1 x side", "input oneof(1, 3) x side"))
    with pytest.raises(CompileError, match="the size of the input is open to choice"):
        run(file)
