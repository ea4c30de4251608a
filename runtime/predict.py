"""A trained network on images that nothing is known of: prepared as for evaluation, answers in their own pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from nasdsl.compiler.diagnostics import NasdslError, error
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.data import DataError, Files, KeypointLayout, Size, to_image
from nasdsl.runtime.data.crops import ENLARGED, with_aspect
from nasdsl.runtime.data.files import IMAGE_ENDINGS, is_image, open_files
from nasdsl.runtime.data.images import (
    Bytes,
    centre_cut,
    coloured,
    crop_box,
    decode,
    fit_inside,
    inner_size,
    mean_colour,
    planes,
    resized_to,
    upright,
)
from nasdsl.runtime.data.labels import IGNORE
from nasdsl.runtime.found import Found, FoundBoxes, FoundClasses, FoundJoints, FoundMask, Names
from nasdsl.runtime.problem import head_of, task_of
from nasdsl.runtime.tasks import Classification, Detection, Keypoints, Normalise, Segmentation
from nasdsl.runtime.tasks.heatmaps import decode as decode_maps

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS_AT_ONCE = 50_000_000
"""Originals of a batch that are in memory together, but for the last of them."""
LARGEST_LOGITS = 1 << 26
"""Numbers of an image's logits at its own size that are computed together."""


# --- Images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Photo:
    """An image of the user's: its name among those that were given, and where it lies."""

    name: str
    files: Files
    member: str

    @property
    def where(self) -> str:
        """How a message names it."""
        return self.files.at(self.member)

    def read(self) -> Image:
        """The image, upright, as its camera noted.

        Raises:
            DataError: it cannot be read.
        """
        return upright(decode(self.files.read(self.member), self.where))


@dataclass(frozen=True)
class Shown:
    """An image that was handed over, under a name."""

    name: str
    image: Image

    @property
    def where(self) -> str:
        """How a message names it."""
        return self.name

    def read(self) -> Image:
        """The image, upright, as its camera noted."""
        return upright(self.image)


def photos_in(
    paths: Sequence[Path | Shown], out: Path | None = None, links: bool = False, left_out: list[str] | None = None
) -> list[Photo | Shown]:
    """The images that paths name: files, and folders and zips with all that is below them. What was handed over is
    among them.

    Args:
        out: a folder whose own images are left out: an earlier result in the folder of the images.
        links: follow links that lead out of the folders.
        left_out: gets what is left out, and why.

    Raises:
        DataError: a path leads nowhere or has no image; two images have one name.
    """
    found: dict[str, Photo | Shown] = {}
    for path in paths:
        if isinstance(path, Shown):
            found[path.name] = path
            continue
        single = path.is_file() and path.suffix.lower() != ".zip"
        files = Files(path.parent, chosen=path, flat=True) if single else open_files(path, links)
        members = [files.chosen or path.name] if single else [name for name in files.names if is_image(name)]
        if out is not None and path.resolve() in out.resolve().parents:
            inside = out.resolve()
            members = [name for name in members if inside not in Path(files.at(name)).resolve().parents]
        if left_out is not None and not single:
            left_out += [f"{files.at(name)}: {why}" for name, why in files.left_out]
        if not members:
            raise DataError(f"{path} has no image", help=f"the names of images end in {', '.join(IMAGE_ENDINGS)}")
        for name in members:
            photo = Photo(PurePosixPath(name).as_posix(), files, name)
            before = found.get(name)
            if before is not None and before.where != photo.where:
                raise DataError(
                    f"two images are called {name}: {before.where} and {photo.where}",
                    help="give them to two commands, or lay them into folders of one folder",
                )
            found[name] = photo
    return list(found.values())


# --- Predictors -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predictor:
    """What is done around a network of one task.

    Attributes:
        size: height and width of the network's input.
        score: below it a detection is none (detection only).
        most: classes (classification) or detections (detection) of an image; None is all.
    """

    size: Size
    channels: int
    normalise: Normalise
    names: Names
    score: float = 0.0
    most: int | None = None

    task: ClassVar[str]

    def prepared(self, image: Image) -> Bytes:
        """The network's input (C, H, W), as for evaluation."""
        raise NotImplementedError

    def found(self, network: Supernet, images: Tensor, originals: Sequence[Size]) -> list[Found]:
        """What the network finds in a batch of images (B, C, H, W), normalised, of such original sizes."""
        raise NotImplementedError


class PredictClasses(Predictor):
    task = Classification.name

    def prepared(self, image: Image) -> Bytes:
        return planes(centre_cut(coloured(image, self.channels), self.size))

    def found(self, network: Supernet, images: Tensor, originals: Sequence[Size]) -> list[Found]:
        logits_BC = Classification(len(self.names.classes)).infer(network, images)
        chance_BC = logits_BC.float().softmax(1).cpu()
        scores_Bm, labels_Bm = chance_BC.sort(dim=1, descending=True, stable=True)
        return [
            FoundClasses(labels[: self.most].numpy(), scores[: self.most].double().numpy())
            for scores, labels in zip(scores_Bm, labels_Bm, strict=True)
        ]


class PredictMask(Predictor):
    task = Segmentation.name

    def prepared(self, image: Image) -> Bytes:
        return planes(fit_inside(coloured(image, self.channels), self.size, 0, "smooth"))

    def found(self, network: Supernet, images: Tensor, originals: Sequence[Size]) -> list[Found]:
        logits_BCHW = Segmentation(len(self.names.classes)).infer(network, images).float()
        found: list[Found] = []
        for logits_CHW, original in zip(logits_BCHW, originals, strict=True):
            whole_1CHW = torch.nn.functional.interpolate(logits_CHW[None], self.size, mode="bilinear")
            height, width = inner_size(original, self.size)
            labels_HW = labels_at(whole_1CHW[:, :, :height, :width], original)
            found.append(FoundMask(labels_HW.to(torch.uint8).cpu().numpy()))
        return found


def labels_at(logits_1CHW: Tensor, size: Size) -> Tensor:
    """The greatest class (H, W) of logits that are resized (bilinear) to another size, some classes at a time."""
    each = max(1, LARGEST_LOGITS // (size[0] * size[1]))
    best = torch.full(size, -torch.inf, device=logits_1CHW.device)
    labels = torch.zeros(size, dtype=torch.long, device=logits_1CHW.device)
    for start in range(0, logits_1CHW.shape[1], each):
        part = torch.nn.functional.interpolate(logits_1CHW[:, start : start + each], size, mode="bilinear")
        value, label = part[0].max(dim=0)
        labels = torch.where(value > best, label + start, labels)
        best = torch.maximum(value, best)
    return labels


class PredictJoints(Predictor):
    """The whole image is taken as the box of one instance, which is shown as in evaluation: with surroundings."""

    task = Keypoints.name

    def window(self, original: Size) -> tuple[Tensor, Tensor]:
        """Middle, and width and height, of what of an image is shown, in its pixels."""
        extent = np.array([original[::-1]], dtype=np.float32)
        scale = with_aspect(extent, self.size[1] / self.size[0]) * ENLARGED
        return torch.from_numpy(extent / 2), torch.from_numpy(scale)

    def prepared(self, image: Image) -> Bytes:
        centre, scale = self.window((image.height, image.width))
        left, top, right, bottom = torch.cat([centre - scale / 2, centre + scale / 2], 1)[0].tolist()
        return planes(crop_box(coloured(image, self.channels), (left, top, right, bottom), self.size))

    def found(self, network: Supernet, images: Tensor, originals: Sequence[Size]) -> list[Found]:
        assert self.names.joints is not None
        maps = Keypoints(self.names.joints).infer(network, images).float().cpu()
        size = torch.tensor([self.size]).expand(len(images), 2)
        points, peaks = decode_maps(maps, size)
        centre, scale = (torch.cat(parts) for parts in zip(*map(self.window, originals), strict=True))
        points = to_image(points, {"centre": centre, "scale": scale, "size": size})
        return [FoundJoints(at.double().numpy(), peak.double().numpy()) for at, peak in zip(points, peaks, strict=True)]


class PredictBoxes(Predictor):
    task = Detection.name

    def prepared(self, image: Image) -> Bytes:
        shown = resized_to(coloured(image, self.channels), inner_size((image.height, image.width), self.size))
        fill = mean_colour(self.channels)
        canvas: Bytes = np.empty((self.channels, *self.size), dtype=np.uint8)
        canvas[:] = np.array(fill, dtype=np.uint8)[:, None, None]
        canvas[:, : shown.height, : shown.width] = planes(shown)
        return canvas

    def found(self, network: Supernet, images: Tensor, originals: Sequence[Size]) -> list[Found]:
        size_B2 = torch.tensor([inner_size(original, self.size) for original in originals])
        answer = Detection(self.names.classes).infer(network, images, {"size": size_B2.to(images.device)})
        return [*self.kept(answer, torch.tensor([tuple(original) for original in originals]) / size_B2)]

    def kept(self, answer: Mapping[str, Tensor], per_pixel_B2: Tensor) -> list[FoundBoxes]:
        """Of a detector's answer what is sure enough, and no padding.

        Args:
            per_pixel_B2: pixels of the images, down and across, for each of the network's input.
        """
        boxes_BD4, scores_BD, labels_BD = (answer[name].detach().cpu() for name in ("boxes", "scores", "labels"))
        boxes_BD4 = boxes_BD4.double() * per_pixel_B2.flip(-1).repeat(1, 2)[:, None]
        found: list[FoundBoxes] = []
        for boxes_D4, scores_D, labels_D in zip(boxes_BD4, scores_BD.double(), labels_BD, strict=True):
            there = (labels_D >= 0) & (scores_D >= self.score) & boxes_D4.isfinite().all(1)
            kept = there.nonzero()[:, 0][: self.most]
            found.append(FoundBoxes(boxes_D4[kept].numpy(), labels_D[kept].numpy(), scores_D[kept].numpy()))
        return found


PREDICTORS: dict[str, type[Predictor]] = {
    kind.task: kind for kind in (PredictClasses, PredictMask, PredictJoints, PredictBoxes)
}


def predictor_for(space: Space, about: AboutWeights) -> Predictor:
    """What prepares images for an architecture with its weights, and reads its answers.

    Raises:
        CompileError: its task has no predictions, its weights are for another, or name other classes.
    """
    task = task_of(space)
    if about.task is not None and about.task != task:
        raise error("wrong-task", f"the weights are for {about.task}, and the network for {task}", None)
    if task not in PREDICTORS:
        known = ", ".join(PREDICTORS)
        raise error("no-predictions", f"no predictions are known for the task {task}", None, help=f"there are {known}")
    shape, head = space.graph.input.shape, head_of(space)
    outputs = (Detection if task == Detection.name else Classification).outputs_of(head)
    classes = about.classes or tuple(f"class {i}" for i in range(1 if task == Keypoints.name else outputs))
    joints = about.joints
    if task == Keypoints.name and joints is None:
        joints = KeypointLayout.of(tuple(f"joint {i + 1}" for i in range(outputs)))
    named = len(joints.names) if joints is not None else len(classes)
    if named != outputs or len(about.category_ids or classes) != len(classes):
        raise error("bad-weights", f"the weights name {named} outputs, and the network has {outputs}", None)
    if task == Segmentation.name and outputs > IGNORE:
        raise error("too-many-classes", f"a mask can have {IGNORE} classes, and the network has {outputs}", None)
    if about.normalised is not None:
        raise error(
            "unknown-normalisation",
            "the network learnt from images that had been normalised, and its weights do not say how",
            None,
            help="train it on `nasdsl.Data(..., normalised=(mean, std))`",
        )
    known_range = about.mean is not None and about.std is not None
    normalise = Normalise(about.mean, about.std) if known_range else Normalise.imagenet(shape.channels)  # type: ignore[arg-type]
    return PREDICTORS[task]((shape.height, shape.width), shape.channels, normalise, Names(classes, joints))


# --- The work ---------------------------------------------------------------------------------------------------------

Skip = Callable[[Photo | Shown, NasdslError], None]


@torch.inference_mode()
def predict(
    network: Supernet,
    predictor: Predictor,
    photos: Sequence[Photo | Shown],
    batch: int,
    skip: Skip,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Photo | Shown, Image, Found]]:
    """Each image, in its own colours, and what is found in it, in order.

    Args:
        skip: is told of images that cannot be read.
    """
    network.to(device).eval()
    waiting: list[tuple[Photo | Shown, Image, Bytes]] = []
    for photo in photos:
        try:
            image = photo.read()
            waiting.append((photo, image, predictor.prepared(image)))
        except NasdslError as problem:
            skip(photo, problem)
            continue
        if len(waiting) == batch or sum(one.width * one.height for _, one, _ in waiting) > MOST_PIXELS_AT_ONCE:
            yield from _answered(network, predictor, waiting, device)
            waiting = []
    if waiting:
        yield from _answered(network, predictor, waiting, device)


def _answered(
    network: Supernet,
    predictor: Predictor,
    waiting: list[tuple[Photo | Shown, Image, Any]],
    device: torch.device | str,
) -> Iterator[tuple[Photo | Shown, Image, Found]]:
    pixels = torch.from_numpy(np.stack([one for _, _, one in waiting])).to(device)
    images = predictor.normalise(pixels.float().div_(255))
    originals = [(image.height, image.width) for _, image, _ in waiting]
    found = predictor.found(network, images, originals)
    for (photo, image, _), one in zip(waiting, found, strict=True):
        yield photo, image, one
