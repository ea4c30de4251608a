"""Detectors of torchvision, written with the library's operators: the same layers, of the same sizes."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.unparse import unparse
from tests.parity.common import batch, drawn, taken_over

HERE = Path(__file__).parent
NETWORKS = int(os.environ.get("NASDSL_NETWORKS", "2"))
FILE = HERE / "parity" / "torchvision_detectors.space"
PARAMETERS = {
    "fasterrcnn_resnet50_fpn": 41_808_406,
    "fasterrcnn_resnet50_fpn_v2": 43_712_278,
    "retinanet_resnet50_fpn": 34_068_119,
    "retinanet_resnet50_fpn_v2": 38_198_935,
}
"""As torchvision makes them without weights; those of the first versions that it prints are with frozen norms."""
PARTS = {
    "backbone": "backbone.body",
    "neck": "backbone.fpn",
    "proposals": "rpn",
    "head": "roi_heads|head",
}


def graph(name: str, **defines: str) -> Graph:
    return elaborate(read(FILE), name, defines).graph


def shapes(name: str, buffers: bool = False) -> dict[str, tuple[int, ...]]:
    """The sizes of torchvision's parameters by name, and of the statistics of its norms."""
    found = {}
    for line in (HERE / "names" / f"torchvision_{name}.txt").read_text().splitlines():
        key, *sizes = line.split()
        statistic = key.endswith(("running_mean", "running_var"))
        if not key.endswith("num_batches_tracked") and (buffers or not statistic):
            found[key] = tuple(map(int, sizes))
    return found


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_torchvision(name: str) -> None:
    """Part by part, tensor by tensor."""
    space = graph(name)
    assert cost_of(space, {})["params"] == PARAMETERS[name]
    with torch.device("meta"):
        network = Supernet(space)
    mine = {key: tuple(p.shape) for key, p in network.named_parameters()}
    theirs = shapes(name)
    for part, prefixes in PARTS.items():
        ours = Counter(shape for key, shape in mine.items() if key.startswith(f"layers.{part}"))
        starts = tuple(f"{prefix}." for prefix in prefixes.split("|"))
        assert ours == Counter(shape for key, shape in theirs.items() if key.startswith(starts)), part
    assert len(mine) == len(theirs)


LOSSES = {
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal_boxes",
    "loss_classifier": "classes",
    "loss_box_reg": "boxes",
    "classification": "classes",
    "bbox_regression": "boxes",
}
"""Ours by theirs."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS if NETWORKS >= 10 else [name for name in PARAMETERS if "v2" not in name])
def test_losses_and_detections_are_those_of_torchvision(name: str) -> None:
    """With the same weights and the same samples; `parity/make.py` has asked torchvision."""
    expected = json.loads((HERE / "parity" / "torchvision.json").read_text())[name]
    network = Supernet(graph(name))
    theirs = {key: drawn(key, sizes) for key, sizes in shapes(name, buffers=True).items()}
    images, targets = batch(name)
    network.load_state_dict(taken_over(network, theirs, 3), strict=False)
    network.train()
    torch.manual_seed(0)
    losses = {key: float(loss.detach()) for key, loss in network(images, targets).items()}
    for key, loss in expected["losses"].items():
        assert losses[LOSSES[key]] == pytest.approx(loss, rel=1e-4), key
    network.load_state_dict(taken_over(network, theirs, 3), strict=False)
    network.eval()
    with torch.no_grad():
        found = network(images, {"size": targets["size"]})
    shift = 0 if name.startswith("retinanet") else 1
    for image, one in enumerate(expected["found"]):
        number = len(one["scores"])
        assert int((found["labels"][image] >= 0).sum()) == number > 50
        torch.testing.assert_close(found["scores"][image, :number], torch.tensor(one["scores"]), rtol=0, atol=1e-4)
        same = (found["boxes"][image, :number] - torch.tensor(one["boxes"])).abs().amax(1) < 1e-2
        same &= found["labels"][image, :number] + shift == torch.tensor(one["labels"])
        assert same.float().mean() > 0.98  # of equal scores either may come first


@pytest.mark.parametrize(
    ("name", "published"), [("fasterrcnn_resnet50_fpn", 41_755_286), ("retinanet_resnet50_fpn", 34_014_999)]
)
def test_with_weights_norms_are_frozen_and_do_not_count(name: str, published: int) -> None:
    space = graph(name, norm="frozen")
    assert cost_of(space, {})["params"] == published
    with torch.device("meta"):
        assert sum(p.numel() for p in Supernet(space).parameters()) == published


def test_the_layout_is_canonical() -> None:
    source = read(FILE)
    assert unparse(parse(source)) == source.text
