"""What the layers of a detector are told of a batch beside its maps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import torch

from nasdsl.compiler.layers.recording import numbers


class Truth(NamedTuple):
    """What is on one image: boxes M 4 and their classes M; crowds K 4 neither teach nor count against."""

    boxes_M4: torch.Tensor
    labels_M: torch.Tensor
    crowds_K4: torch.Tensor


class Scene:
    """A batch of images of a detector. Layers with `reads_scene` get it as `scene`, and put their losses into it.

    Attributes:
        sizes_B2: height and width of the part of each image that is no padding.
        targets: `boxes` (B M 4) in pixels, `labels` (B M; -1 where there is no box) and, where some are, `crowd` (B M)
            of a batch to learn from; None where nothing is to be learnt.
        losses: by name, numbers.
    """

    def __init__(self, sizes_B2: torch.Tensor, targets: Mapping[str, torch.Tensor] | None = None) -> None:
        self.sizes_B2 = sizes_B2
        self.targets = targets
        self.losses: dict[str, torch.Tensor] = {}

    @staticmethod
    def of(images_BCHW: torch.Tensor, targets: Mapping[str, torch.Tensor] | None, training: bool) -> Scene:
        """The scene of a batch, to learn from in training where the targets have boxes; all on the images' device."""
        device, targets = images_BCHW.device, targets or {}
        if "size" in targets:
            sizes_B2 = targets["size"].to(device, torch.float32)
        else:
            height, width = images_BCHW.shape[2:]
            sizes_B2 = numbers((height, width), device).float().expand(images_BCHW.shape[0], 2)
        if not training or "boxes" not in targets:
            return Scene(sizes_B2)
        return Scene(
            sizes_B2, {name: targets[name].to(device) for name in ("boxes", "labels", "crowd") if name in targets}
        )

    @property
    def learns(self) -> bool:
        """Whether layers are to add their losses."""
        return self.targets is not None

    @cached_property
    def truths(self) -> list[Truth]:
        """What is on each image of a batch to learn from."""
        assert self.targets is not None
        boxes_BM4, labels_BM = self.targets["boxes"], self.targets["labels"].long()
        there_BM = labels_BM >= 0
        crowd_BM = self.targets["crowd"].bool() if "crowd" in self.targets else torch.zeros_like(there_BM)
        return [
            Truth(boxes_M4[there_M & ~crowd_M], labels_M[there_M & ~crowd_M], boxes_M4[there_M & crowd_M])
            for boxes_M4, labels_M, there_M, crowd_M in zip(boxes_BM4, labels_BM, there_BM, crowd_BM, strict=True)
        ]

    def lose(self, name: str, loss: torch.Tensor) -> None:
        """Adds a loss; those of one name are summed."""
        self.losses[name] = self.losses[name] + loss if name in self.losses else loss
