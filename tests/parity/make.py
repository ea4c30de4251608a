"""Makes `torchvision.json`: what torchvision's detectors give for the weights and images of `common.py`.

It needs torchvision beside a torch that it fits, and what `nasdsl` needs to compile a space; run it in the project's
folder, with the project on the path. Prints how far ours are from theirs.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision  # type: ignore[import-untyped, import-not-found, unused-ignore]

from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.supernet import Supernet
from tests.parity.common import SIZES, batch, drawn, taken_over

HERE = Path(__file__).parent
MODELS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
)


def theirs(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A detector that takes images as they are, and its weights."""
    model = getattr(torchvision.models.detection, name)(
        weights=None, weights_backbone=None, trainable_backbone_layers=5, image_mean=[0, 0, 0], image_std=[1, 1, 1]
    )
    model.transform.min_size, model.transform.max_size = (128,), 4096
    model.transform.torch_choice = lambda sizes: sizes[0]  # draws a number otherwise
    state = {key: drawn(key, tuple(t.shape)) for key, t in model.state_dict().items() if t.is_floating_point()}
    model.load_state_dict(state, strict=False)
    return model, state


def main() -> None:
    warnings.simplefilter("ignore")
    images, _ = batch("")
    given = [image[:, :height, :width].clone() for image, (height, width) in zip(images, SIZES, strict=True)]
    fixture: dict[str, Any] = {"torchvision": torchvision.__version__, "torch": torch.__version__}
    for name in MODELS:
        model, state = theirs(name)
        images, targets = batch(name)
        shift = 0 if name.startswith("retinanet") else 1  # number 0 is the background
        wanted = []
        for boxes, labels in zip(targets["boxes"], targets["labels"], strict=True):
            wanted.append({"boxes": boxes[labels >= 0], "labels": labels[labels >= 0] + shift})
        model.train()
        torch.manual_seed(0)
        losses = {key: float(value.detach()) for key, value in model(given, wanted).items()}
        model.load_state_dict(state, strict=False)  # norms have counted the batch
        model.eval()
        with torch.no_grad():
            found = [{key: value.tolist() for key, value in one.items()} for one in model(given)]
        fixture[name] = {"losses": losses, "found": found}

        space = elaborate(read(HERE / "torchvision_detectors.space"), name)
        network = Supernet(space.graph)
        network.load_state_dict(taken_over(network, state, 3), strict=False)
        network.train()
        torch.manual_seed(0)
        ours = {key: float(value.detach()) for key, value in network(images, targets).items()}
        network.load_state_dict(taken_over(network, state, 3), strict=False)
        network.eval()
        with torch.no_grad():
            detected = network(images, {"size": targets["size"]})
        print(name, "\n ", losses, "\n ", ours)
        for one, scores, boxes, labels in zip(
            found, detected["scores"], detected["boxes"], detected["labels"], strict=True
        ):
            number = len(one["scores"])
            print(
                "  detections", number, int((scores > 0).sum()),
                "scores", float((torch.tensor(one["scores"]) - scores[:number]).abs().max()) if number else "",
                "boxes", float((torch.tensor(one["boxes"]) - boxes[:number]).abs().max()) if number else "",
                "labels", sum(a != b + shift for a, b in zip(one["labels"], labels.tolist(), strict=False)),
            )  # fmt: skip
    (HERE / "torchvision.json").write_text(json.dumps(fixture) + "\n")


if __name__ == "__main__":
    main()
