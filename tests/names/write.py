"""Writes the names and shapes of the weights of published networks, which the tests compare with, beside this file.

It needs torchvision and timm, which the tests do not: `python tests/names/write.py` in an environment that has them.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torchvision
from torch import nn

TORCHVISION = ("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2")
DETECTORS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
)
TIMM = ("resnet18", "resnext50_32x4d", "mobilenetv2_100")


def lines(network: nn.Module) -> str:
    """A line for each tensor: its name and its sizes. A number has none."""
    return "".join(" ".join([name, *map(str, t.shape)]) + "\n" for name, t in network.state_dict().items())


def write() -> None:
    here = Path(__file__).parent
    for name in TORCHVISION:
        (here / f"torchvision_{name}.txt").write_text(lines(getattr(torchvision.models, name)()), encoding="utf-8")
    for name in DETECTORS:
        network = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None)
        (here / f"torchvision_{name}.txt").write_text(lines(network), encoding="utf-8")
    for name in TIMM:
        (here / f"timm_{name}.txt").write_text(lines(timm.create_model(name)), encoding="utf-8")


if __name__ == "__main__":
    write()
