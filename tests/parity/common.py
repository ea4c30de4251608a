"""What the fixture's maker and the test that reads it have in common: weights that follow from their names alone, two
images with objects, and which of our tensors is which of torchvision's."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch

from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.pretrained import resnet_names

SIZES = ((128, 256), (128, 200))
"""Height and width of the two images; the second is padded. The batch has whole strides of the coarsest level, since
torchvision takes the quotient of sizes for a stride."""
PREFIXES = {"neck": ("backbone.fpn.",), "proposals": ("rpn.",), "head": ("roi_heads.", "head.")}
BACKGROUND_FIRST = ("roi_heads.box_predictor.cls_score.", "roi_heads.box_predictor.bbox_pred.")
PREDICTED = {"rpn.head.cls": 0.1, "rpn.head.bbox": 0.1, "head.cls": 0.2, "head.bbox": 0.1, "box_predictor": 0.5}
PREDICTED |= {"head.classification_head.cls": 0.05, "head.regression_head.bbox": 0.02}
"""Gains of the layers that predict, by a part of their names."""
ANCHORS = ("cls_logits", "bbox_reg")


def drawn(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of a network by its name: of a size that keeps signals about as large as they come in."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = torch.from_numpy(rng.standard_normal(shape))
    if name.endswith("running_var"):
        return (1 + 0.2 * values.abs()).float()
    if name.endswith("running_mean"):
        return (0.1 * values).float()
    if len(shape) == 1 and name.endswith("weight"):
        last = name.endswith("bn3.weight")  # or else the residual sums of fifty layers grow beyond all bounds
        return ((0.3 if last else 1.0) * (1 + 0.1 * values)).float()
    if len(shape) == 1:
        return (0.05 * values).float()
    # Scores that neither all agree nor saturate, so that there is one order of them.
    gain = next((gain for word, gain in PREDICTED.items() if word in name), 1.4)
    return (gain * values / np.sqrt(np.prod(shape[1:]))).float()


def batch(name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Two images, the second with padding, and what is on them, with classes from 0 on; those of RetinaNet from 1 on,
    since it has an output for torchvision's number 0, too."""
    rng = np.random.default_rng(5)
    images = torch.zeros(2, 3, 128, 256)
    for image, (height, width) in zip(images, SIZES, strict=True):
        coarse = torch.from_numpy(rng.standard_normal((1, 3, height // 8, width // 8))).float()
        image[:, :height, :width] = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    boxes = torch.tensor([
        [[10.0, 20, 70, 90], [60, 5, 150, 60], [100, 70, 140, 120]],
        [[5.0, 40, 60, 120], [30, 10, 90, 60], [0, 0, 0, 0]],
    ])  # fmt: skip
    labels = torch.tensor([[3, 17, 3], [88, 0, -1]])
    if name.startswith("retinanet"):
        labels[labels >= 0] += 1
    crowd = torch.zeros(2, 3, dtype=torch.bool)
    return images, {"boxes": boxes, "labels": labels, "crowd": crowd, "size": torch.tensor(SIZES)}


def taken_over(network: Supernet, theirs: Mapping[str, torch.Tensor], anchors: int) -> dict[str, torch.Tensor]:
    """Torchvision's tensors under our names.

    What stands behind the backbone comes in the same order. Classes begin with the background there, and end with it
    here; of the kinds of anchor at a pixel, the ratio is the outer one there, and the inner one here.

    Args:
        anchors: sizes of anchors at a pixel.
    """
    found: dict[str, torch.Tensor] = {}
    own = network.state_dict()
    nodes = [key.replace("/", ".") for key in network.layers]
    for node, names in resnet_names(nodes).items():
        for key in own:
            layer, tensor = key.removeprefix("layers.").replace("/", "."), ""
            if layer.startswith(f"{node}.") and layer[len(node) + 1 :].startswith(("conv.", "norm.")):
                tensor = layer[len(node) + 1 :]
                if tensor in ("conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
                    found[key] = theirs[f"backbone.body.{names.of(tensor)}"]
    for part, prefixes in PREFIXES.items():
        mine = [key for key in own if key.startswith(f"layers.{part}/") and "num_batches" not in key]
        other = [key for key in theirs if key.startswith(prefixes) and "num_batches" not in key]
        for key, name in zip(mine, other, strict=True):
            given = theirs[name]
            if name.startswith(BACKGROUND_FIRST):
                each = len(given) // 91
                given = torch.cat([given[each:], given[:each]])
            elif name.startswith("head.") and any(word in name for word in ANCHORS):
                given = given.unflatten(0, (3, anchors, -1)).transpose(0, 1).flatten(0, 2)
            found[key] = given
    return found
