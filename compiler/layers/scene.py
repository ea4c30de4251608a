"""What the layers of a detector are told of a batch beside its maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch


class Truth(NamedTuple):
    """What is on one image: boxes M 4 and their classes M; crowds K 4 neither teach nor count against."""

    boxes_M4: torch.Tensor
    labels_M: torch.Tensor
    crowds_K4: torch.Tensor


class Scene:
    """A batch of images of a detector. Layers with `reads_scene` get it as `scene`, and put their losses into it.

    Attributes:
        sizes_B2: height and width of the part of each image that is no padding.
        targets: `boxes` (B M 4) in pixels, `labels` (B M; -1 where there is no box) and `crowd` (B M) of a batch to
            learn from; None where nothing is to be learnt.
        losses: by name, numbers.
    """

    def __init__(self, sizes_B2: torch.Tensor, targets: Mapping[str, torch.Tensor] | None = None) -> None:
        self.sizes_B2 = sizes_B2
        self.targets = targets
        self.losses: dict[str, torch.Tensor] = {}

    @staticmethod
    def of(images_BCHW: torch.Tensor, targets: Mapping[str, torch.Tensor] | None, training: bool) -> Scene:
        """The scene of a batch, to learn from in training where the targets have boxes."""
        if targets is not None and "size" in targets:
            sizes_B2 = targets["size"].to(images_BCHW.device, torch.float32)
        else:
            height, width = images_BCHW.shape[2:]
            sizes_B2 = torch.tensor([[height, width]], device=images_BCHW.device).float().expand(len(images_BCHW), 2)
        return Scene(sizes_B2, targets if training and targets is not None and "boxes" in targets else None)

    @property
    def learns(self) -> bool:
        """Whether layers are to add their losses."""
        return self.targets is not None

    def truth(self, image: int) -> Truth:
        """What is on one image of the batch."""
        assert self.targets is not None
        boxes_M4, labels_M = self.targets["boxes"][image], self.targets["labels"][image]
        there_M = labels_M >= 0
        crowd_M = self.targets["crowd"][image] if "crowd" in self.targets else torch.zeros_like(there_M)
        taught_M = there_M & ~crowd_M
        return Truth(boxes_M4[taught_M], labels_M[taught_M], boxes_M4[there_M & crowd_M])

    def lose(self, name: str, loss: torch.Tensor) -> None:
        """Adds a loss; those of one name are summed."""
        self.losses[name] = self.losses[name] + loss if name in self.losses else loss
