"""Losses, metrics, heatmaps and augmentation against slower code that cannot be wrong in the same way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nasdsl
from nasdsl.compiler.plugins import PluginError
from nasdsl.runtime.data import DataSplits, KeypointLayout, Loader, open_data, to_crop, to_image
from nasdsl.runtime.data.layouts import COCO_17
from nasdsl.runtime.data.loader import step_generator
from nasdsl.runtime.tasks import (
    Classification,
    Keypoints,
    Normalise,
    Segmentation,
    Task,
    TaskError,
    find_task,
    find_tasks,
)
from nasdsl.runtime.tasks.heatmaps import decode, encode
from nasdsl.runtime.tasks.oks import similarity
from nasdsl.testing import check_task

BODY = KeypointLayout.of(COCO_17)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def digits() -> DataSplits:
    return open_data(None, "keypoints", scenes=(20, 12))


# Classification -----------------------------------------------------------------------------------------------------


def test_accuracy_counts():
    logits, labels = torch.randn(50, 8), torch.randint(8, (50,))
    metric = Classification(8).metric()
    metric.update(logits[:20], labels[:20])
    metric.update(logits[20:], labels[20:])
    ranks = (logits > logits[torch.arange(50), labels][:, None]).sum(dim=1)
    result = metric.compute()
    assert list(result) == ["top1", "top5"]
    assert result == pytest.approx(
        {"top1": float((ranks < 1).float().mean()), "top5": float((ranks < 5).float().mean())}
    )
    metric.reset()
    metric.update(nn.functional.one_hot(labels, 8).float(), labels)
    assert metric.compute()["top1"] == 1.0
    assert list(Classification(5).metric().__class__(5, None)._metrics) == ["top1"]


def test_label_smoothing_by_hand():
    logits, labels = torch.randn(6, 4), torch.randint(4, (6,))
    wanted = nn.functional.one_hot(labels, 4) * 0.9 + 0.1 / 4
    by_hand = -(wanted * logits.log_softmax(dim=1)).sum(dim=1).mean()
    assert torch.allclose(Classification(4, label_smoothing=0.1).loss(logits, labels), by_hand)


# Segmentation -------------------------------------------------------------------------------------------------------


def slow_overlap(predicted: np.ndarray, true: np.ndarray, classes: int) -> dict[str, float]:
    ious, recalls, right, total = [], [], 0, 0
    for c in range(classes):
        both = union = positives = 0
        for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True):
            if t == 255:
                continue
            both += p == c and t == c
            union += p == c or t == c
            positives += t == c
        right += both
        total += positives
        if union:
            ious.append(both / union)
        if positives:
            recalls.append(both / positives)
    return {"mIoU": float(np.mean(ious)), "mAcc": float(np.mean(recalls)), "aAcc": right / total}


@pytest.mark.parametrize("missing", [(), (2,), (0, 4)])
def test_overlap_against_a_slow_loop(missing):
    classes = 6
    true = torch.randint(classes, (5, 9, 7))
    logits = torch.randn(5, classes, 9, 7) + 2 * nn.functional.one_hot(true, classes).movedim(-1, 1)
    for c in missing:
        true[true == c] = 255  # not in the masks...
    if missing:
        logits[:, missing[0]] = -99  # ...and one of them is never predicted either
    true[0, 0] = 255
    metric = Segmentation(classes).metric()
    for part in (slice(0, 2), slice(2, 5)):
        metric.update(logits[part], true[part])
    result = metric.compute()
    assert next(iter(result)) == Segmentation.headline
    assert result == pytest.approx(slow_overlap(logits.argmax(1).numpy(), true.numpy(), classes))


def test_overlap_of_nothing_is_zero():
    metric = Segmentation(3).metric()
    metric.update(torch.randn(1, 3, 4, 4), torch.full((1, 4, 4), 255))
    assert metric.compute() == {"mIoU": 0.0, "mAcc": 0.0, "aAcc": 0.0}


def test_segmentation_loss_resizes_and_ignores():
    logits, true = torch.randn(2, 4, 5, 6, dtype=torch.float64), torch.randint(4, (2, 10, 12))
    true[0, :7] = 255
    large = nn.functional.interpolate(logits, size=(10, 12), mode="bilinear", align_corners=False).log_softmax(dim=1)
    by_hand = [
        -float(large[b, true[b, y, x], y, x])
        for b in range(2) for y in range(10) for x in range(12) if true[b, y, x] != 255
    ]  # fmt: skip
    assert float(Segmentation(4).loss(logits, true)) == pytest.approx(np.mean(by_hand))
    over_all = Segmentation(4, average_over_all_pixels=True).loss(logits, true)
    assert float(over_all) == pytest.approx(sum(by_hand) / 240)
    nothing = Segmentation(4).loss(logits.requires_grad_(), torch.full((2, 10, 12), 255))
    nothing.backward()
    assert float(nothing.detach()) == 0 and logits.grad is not None and not logits.grad.any()


# Heatmaps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_joints_survive_heatmaps(stride):
    height, width = 128, 96
    joints = torch.rand(7, 5, 3) * torch.tensor([width - 17, height - 17, 1]) + torch.tensor([8, 8, 1])
    size = torch.tensor([[height, width]]).expand(7, 2)
    maps, weights = encode(joints, size, (height // stride, width // stride), 2.0)
    assert torch.all(weights == 1) and maps.shape == (7, 5, height // stride, width // stride)
    points, peaks = decode(maps, size)
    assert (points - joints[..., :2]).abs().max() <= 0.2501 * stride + 1e-3
    assert peaks.min() > 0.9


def test_heatmaps_by_hand_and_weights():
    joints = torch.tensor([[[10.0, 5.0, 2.0], [-30.0, 5.0, 2.0], [3.0, 3.0, 0.0], [-2.0, 5.0, 1.0]]])
    maps, weights = encode(joints, torch.tensor([[16, 24]]), (8, 12), 1.5)
    assert weights.tolist() == [[1, 0, 0, 1]]
    for y in range(8):
        for x in range(12):
            # Cell x covers pixels 2x and 2x + 1, so its middle is at 2x + 0.5.
            distance = ((2 * x + 0.5 - 10) / 2) ** 2 + ((2 * y + 0.5 - 5) / 2) ** 2
            assert float(maps[0, 0, y, x]) == pytest.approx(math.exp(-distance / (2 * 1.5**2)), rel=1e-4)


def test_keypoint_loss_by_hand():
    task = Keypoints(BODY)
    joints = torch.rand(2, 17, 3) * 30
    joints[..., 2] = (torch.rand(2, 17) > 0.3).float() * 2
    targets = {"joints": joints, "size": torch.tensor([[32, 32]] * 2)}
    outputs = torch.randn(2, 17, 8, 8)
    maps, _ = encode(joints, targets["size"], (8, 8), 2.0)
    per_joint = [
        0.5 * np.mean([((outputs[b, k] - maps[b, k]) ** 2).numpy() * float(joints[b, k, 2] > 0) for b in range(2)])
        for k in range(17)
    ]
    assert float(task.loss(outputs, targets)) == pytest.approx(np.mean(per_joint), rel=1e-5)


def test_a_mirrored_map_is_the_map_of_the_mirrored_image():
    joints = torch.rand(3, 17, 3) * 40 + 8
    size = torch.tensor([[64, 64]] * 3)
    other = joints.clone()
    other[..., 0] = 63 - joints[..., 0]
    other = other[:, list(BODY.flip)]
    maps, _ = encode(joints, size, (16, 16), 2.0)
    mirrored, _ = encode(other, size, (16, 16), 2.0)
    assert torch.allclose(maps, mirrored.flip(-1)[:, list(BODY.flip)], atol=1e-5)


def test_the_flip_test_undoes_its_mirror():
    class Pick(nn.Module):
        """Channels that swap like joints under a mirror: what a perfect network does."""

        def forward(self, images):
            return images

    layout = KeypointLayout.of(("nose", "left_eye", "right_eye"))
    task = Keypoints(layout, flip_test=True)
    images = torch.rand(2, 3, 8, 8)
    expected = (images + images[:, [0, 2, 1]]) / 2
    assert torch.allclose(task.infer(Pick(), images), expected)


# Object keypoint similarity -----------------------------------------------------------------------------------------


def measured(data: DataSplits, off: float, **options: object) -> dict[str, float]:
    """The metric of predictions that are `off` pixels of the crop from the truth, in a random direction."""
    task = Keypoints.from_data(data, **options)
    metric = task.metric()
    generator = torch.Generator().manual_seed(1)
    for images, targets in Loader(data.val, 16).epoch():
        joints = targets["joints"].clone()
        angle = torch.rand(joints.shape[:2], generator=generator) * 2 * math.pi
        joints[..., 0] += off * angle.cos()
        joints[..., 1] += off * angle.sin()
        height, width = images.shape[-2:]
        metric.update(encode(joints, targets["size"], (height, width), 2.0)[0], targets)
    return metric.compute()


def test_precision_is_one_when_right_and_falls_with_distance(digits):
    perfect, near, far = measured(digits, 0.0), measured(digits, 6.0), measured(digits, 40.0)
    assert next(iter(perfect)) == Keypoints.headline
    assert perfect["AP"] == pytest.approx(1.0) and perfect["AR"] == pytest.approx(1.0)
    assert 0.05 < near["AP"] < 0.95 and far["AP"] < 0.05
    assert near["AP50"] >= near["AP75"] and near["AP50"] >= near["AP"]


def test_precision_against_similarities_by_hand(digits):
    """With one instance an image and equal scores, AP at a threshold follows from the sorted similarities alone."""
    task = Keypoints.from_data(digits)
    metric = task.metric()
    targets = {key: value[:30].clone() for key, value in digits.val.batch(list(range(30)))[1].items()}
    targets["image_id"] = torch.arange(30)
    joints = targets["joints"].clone()
    joints[..., :2] += torch.randn(joints[..., :2].shape) * torch.linspace(0, 10, 30)[:, None, None]
    maps = encode(joints, targets["size"], (64, 64), 1.0)[0]
    metric.update(maps, targets)
    points, _ = decode(maps, targets["size"])
    found, true = to_image(points, targets).numpy(), to_image(targets["joints"][..., :2], targets).numpy()
    sigmas = np.array(task.layout.sigmas)
    values = np.zeros(30)
    for i in range(30):
        terms = []
        for k in range(5):
            if targets["joints"][i, k, 2] > 0:
                square = float((found[i, k, 0] - true[i, k, 0]) ** 2 + (found[i, k, 1] - true[i, k, 1]) ** 2)
                terms.append(math.exp(-square / (2 * float(targets["area"][i]) * (2 * sigmas[k]) ** 2)))
        values[i] = np.mean(terms)
    assert metric.compute()["AR"] == pytest.approx(np.mean([(values >= t).mean() for t in np.arange(0.5, 1, 0.05)]))


def test_similarity_by_hand():
    one = np.array([[0.0, 0.0], [3.0, 4.0]])
    other = np.zeros((2, 2))
    got = similarity(one, other, np.array([True, True]), 100.0, np.array([0.1, 0.1]))
    assert got == pytest.approx((1 + math.exp(-25 / (2 * 100 * 0.04))) / 2)


def test_an_instance_seen_twice_counts_once(digits):
    metric = Keypoints.from_data(digits).metric()
    _, targets = next(Loader(digits.val, 8).epoch())
    for _ in range(2):
        metric.update(encode(targets["joints"], targets["size"], (64, 64), 2.0)[0], targets)
    assert metric.compute()["AP"] == pytest.approx(1.0)
    metric.reset()
    assert metric.compute()["AP"] == 0.0


def test_of_two_equal_predictions_in_an_image_one_is_dropped(digits):
    metric = Keypoints.from_data(digits).metric()
    targets = {key: value[:1].expand(2, *value.shape[1:]).clone() for key, value in digits.val.batch([0])[1].items()}
    targets["ann_id"] = torch.tensor([1, 2])
    metric.update(encode(targets["joints"], targets["size"], (64, 64), 2.0)[0], targets)
    assert metric.compute()["AR"] == pytest.approx(0.5)
    targets["image_id"] = torch.tensor([1, 2])
    metric.reset()
    metric.update(encode(targets["joints"], targets["size"], (64, 64), 2.0)[0], targets)
    assert metric.compute()["AR"] == pytest.approx(1.0)


def test_metrics_of_nothing_are_zero(digits):
    for metric in (Classification(9).metric(), Segmentation(3).metric(), Keypoints.from_data(digits).metric()):
        assert set(metric.compute().values()) == {0.0}


# Augmentation -------------------------------------------------------------------------------------------------------


def blobs(joints: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """One channel for each joint, bright where it is: an image in which joints can be found again."""
    return encode(joints, torch.tensor([size]).expand(len(joints), 2), size, 2.0)[0]


def pose_targets(count: int = 6, size: tuple[int, int] = (64, 48)) -> dict[str, torch.Tensor]:
    joints = torch.rand(count, 17, 3) * torch.tensor([size[1] * 0.5, size[0] * 0.5, 1]) + torch.tensor(
        [size[1] / 4, size[0] / 4, 1.0]
    )
    joints[..., 2] = 2
    return {"joints": joints, "size": torch.tensor([size]).expand(count, 2)}


@pytest.mark.parametrize("preset", ["flip", "keypoints"])
@pytest.mark.parametrize("size", [None, (56, 40)])
def test_joints_move_with_the_image(preset, size):
    targets = pose_targets()
    images = blobs(targets["joints"], (64, 48))
    options = {"half_body": 0.5} if preset == "keypoints" else {"flip": 1.0}
    moved, after = Keypoints(BODY).augment(preset, size, **options)(images, targets, step_generator(0, 0, 0))
    height, width = size or (64, 48)
    assert moved.shape == (6, 17, height, width) and after["size"].tolist() == [[height, width]] * 6
    checked = 0
    for i in range(6):
        flipped = None
        for k in range(17):
            x, y, _ = after["joints"][i, k].tolist()
            if not (5 < x < width - 6 and 5 < y < height - 6):
                continue
            # Channel k still shows what was joint k; in a mirrored image that is now the other side's joint.
            near = {channel: float(moved[i, channel, round(y), round(x)]) for channel in (k, BODY.flip[k])}
            assert max(near.values()) > 0.8
            checked += 1
            if near[k] < 0.3 or near[BODY.flip[k]] < 0.3:
                mirrored = near[BODY.flip[k]] > near[k]
                flipped = mirrored if flipped is None and k != BODY.flip[k] else flipped
                assert k == BODY.flip[k] or mirrored == flipped
        if preset == "flip":
            assert flipped
    assert checked > 40


def test_a_mirror_swaps_left_and_right_exactly():
    targets = pose_targets(2)
    images = torch.rand(2, 3, 64, 48)
    moved, after = Keypoints(BODY).augment("flip", flip=1.0)(images, targets, step_generator(0, 0, 0))
    assert torch.equal(moved, images.flip(-1))
    assert torch.allclose(after["joints"][:, 5, 0], 47 - targets["joints"][:, 6, 0], atol=1e-4)
    assert torch.allclose(after["joints"][:, 0, 1], targets["joints"][:, 0, 1], atol=1e-4)
    assert targets["joints"] is not after["joints"]


@pytest.mark.parametrize("preset", ["flip", "cifar", "cityscapes", "ade20k"])
@pytest.mark.parametrize("size", [None, (32, 24), (90, 100)])
def test_masks_move_with_the_image(preset, size):
    classes = torch.nn.functional.interpolate(torch.rand(5, 1, 6, 8), (48, 64))[:, 0].mul(9).floor().long()
    images = ((classes + 1) / 10)[:, None].expand(-1, 3, -1, -1)
    options = {"photometric": False} if preset in ("cityscapes", "ade20k") else {}
    moved, masks = Segmentation(9).augment(preset, size, **options)(images, classes, step_generator(3, 0, 0))
    assert moved.shape[-2:] == masks.shape[-2:] == (size or (48, 64))
    inside = masks != 255
    assert inside.float().mean() > 0.15
    assert torch.all(moved[:, 0][~inside] == 0) or preset in ("cityscapes", "ade20k")
    # Away from the borders between classes the image still has the colour of its class.
    shown = (moved[:, 0] * 10 - 1).round().long()
    assert (shown == masks)[inside].float().mean() > (0.999 if preset in ("flip", "cifar") else 0.8)


def test_crops_avoid_a_single_class():
    classes = torch.zeros(64, 64, 64, dtype=torch.int64)
    classes[:, :, 40:] = 1
    images = torch.zeros(64, 3, 64, 64)

    def shares(**options: float) -> torch.Tensor:
        augment = Segmentation(2).augment("cityscapes", (32, 32), photometric=False, scales=(1.0, 1.0), **options)
        masks = augment(images, classes, step_generator(0, 0, 0))[1]
        return torch.stack([(masks == c).float().mean(dim=(1, 2)) for c in (0, 1)]).amax(dim=0)

    assert (shares() > 0.85).float().mean() < 0.1 < (shares(most_of_one=1.0) > 0.85).float().mean()


def test_resized_crops_have_the_wanted_area_and_aspect():
    images = torch.stack([torch.linspace(0, 1, 64).expand(64, 64), torch.linspace(0, 1, 64)[:, None].expand(64, 64)])
    augment = Classification(2).augment("imagenet", (16, 16), flip=0.0)
    labels = torch.arange(400)
    moved, same = augment(images.expand(400, 2, 64, 64), labels, step_generator(0, 0, 0))
    assert moved.shape == (400, 2, 16, 16) and torch.equal(labels, same)
    # The ramps tell which part of the image each crop shows.
    width = (moved[:, 0, 8, 15] - moved[:, 0, 8, 0]) * 63 / 15 * 16 / 64
    height = (moved[:, 1, 15, 8] - moved[:, 1, 0, 8]) * 63 / 15 * 16 / 64
    area, aspect = width * height, width / height
    assert area.min() > 0.07 and area.max() <= 1.02 and 0.4 < area.mean() < 0.6
    assert aspect.min() > 0.72 and aspect.max() < 1.37


def test_pad_crop_is_a_shift_by_whole_pixels():
    image = torch.arange(1.0, 1025).view(1, 1, 32, 32) / 1025
    moved, _ = Classification(2).augment("cifar", flip=0.0)(image.expand(60, 1, 32, 32), None, step_generator(0, 0, 0))
    padded = nn.functional.pad(image, (4, 4, 4, 4))
    windows = {(y, x): padded[0, :, y : y + 32, x : x + 32] for y in range(9) for x in range(9)}
    found = {next(place for place, window in windows.items() if torch.equal(window, one)) for one in moved}
    assert len(found) > 30


@pytest.mark.parametrize("channels", [1, 3])
def test_photometric_changes_stay_in_range(channels):
    images = torch.rand(32, channels, 8, 8)
    classes = torch.arange(8).repeat(32, 8, 1)
    augment = Segmentation(8).augment("cityscapes", scales=(1.0, 1.0), flip=0.0)
    moved, _ = augment(images, classes, step_generator(0, 0, 0))
    assert moved.min() >= 0 and moved.max() <= 1
    changed = (moved - images).abs().flatten(1).amax(dim=1) > 1e-4
    assert 0.6 < changed.float().mean() <= 1


@pytest.mark.parametrize("task", ["classification", "segmentation", "keypoints"])
def test_augmented_batches_are_a_function_of_the_step(task):
    data = open_data(None, task, scenes=(20, 12))
    one = find_task(task).from_data(data)
    preset = {"classification": "imagenet", "segmentation": "cityscapes", "keypoints": "keypoints"}[task]
    loader = Loader(data.train, 8, shuffle=True, augment=one.augment(preset), normalise=one.normalise, workers=2)
    whole = list(loader.epoch(1))
    torch.rand(5)
    for (a, _), (b, _) in zip(list(loader.epoch(1, 2)), whole[2:], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(whole[0][0], next(loader.epoch(2))[0])


def test_presets_and_options_that_do_not_exist():
    task = Segmentation(3)
    images, targets = torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4)
    same = task.augment("none")(images, targets, step_generator(0, 0, 0))
    assert same[0] is images and same[1] is targets
    mistakes: list[tuple[str, dict[str, Any], str]] = [
        ("cityscape", {}, 'did you mean "cityscapes"'),
        ("imagenet", {}, "it has none, flip"),
        ("flip", {"rotation": 3}, 'no option "rotation"\nhelp: it has flip'),
        ("none", {"flip": 1}, "takes no size or options"),
    ]
    for preset, options, message in mistakes:
        with pytest.raises(TaskError, match=message):
            task.augment(preset, **options)
    with pytest.raises(TaskError, match="joints of bodies"):
        Keypoints(KeypointLayout.unnamed(3)).augment("keypoints", half_body=0.3)


# Tasks as a whole ---------------------------------------------------------------------------------------------------


def test_tasks_are_found_and_fit_their_data(monkeypatch):
    assert list(find_tasks()) == ["classification", "segmentation", "keypoints", "detection", "regression"]
    for name, task in find_tasks().items():
        data = open_data(None, name, scenes=(4, 4), channels=1)
        made = task.from_data(data)
        assert isinstance(made, Task) and made.name == name
        assert made.outputs == {"classification": 10, "segmentation": 11, "keypoints": 5, "detection": 10}.get(name, 1)
        assert len(made.normalise.mean) == (10 if name == "regression" else 1)
    with pytest.raises(TaskError, match='did you mean "keypoints"'):
        find_task("keypoint")
    with pytest.raises(TaskError, match="data for classification, not for segmentation"):
        Segmentation.from_data(open_data(None, "classification"))

    class Point:
        name, value, dist = "keypoints", "package:Task", None

        def load(self):
            return Segmentation

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Point()])
    with pytest.raises(PluginError, match="that name is taken"):
        find_tasks()
    Point.name = "mine"
    assert find_task("mine") is Segmentation


BODIES = {
    "classification": (8, "network { conv(8, kernel: 3) -> classify(10) }", ["none", "flip", "cifar", "imagenet"]),
    "segmentation": (24, "network { conv(8, kernel: 3) -> segment(11) }", ["flip", "cifar", "cityscapes"]),
    "keypoints": (32, "network { conv(8, kernel: 3, stride: 2) -> keypoints(5) }", ["flip"]),
    "detection": (
        48,
        """detector {
          backbone: { conv(8, kernel: 3, stride: 8) -> branches() }
          neck: none
          proposals: none
          head: retina(10, depth: 0, scales: [2, 3], least: 0, most: 20)
        }""",
        ["flip", "scale"],
    ),
    "regression": (1, "network { flatten() -> linear(8) -> relu() -> regress(1) }", []),
}


@pytest.mark.parametrize("name", BODIES)
def test_every_task_keeps_to_its_word(name):
    size, body, presets = BODIES[name]
    data = open_data(None, name, size=(size, size), channels=1, scenes=(8, 8))
    space = nasdsl.loads(f"space one {{\n  input {data.channels} x {size} x {size}\n  {body}\n}}\n")
    check_task(find_task(name), space, data, presets=presets)


def test_normalise_measures_the_data():
    data = open_data(None, "classification")
    normalise = Normalise.of(data.train, most=10_000)
    images = normalise(data.train.batch(list(range(len(data.train))))[0].float() / 255)
    assert torch.allclose(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-3)
    assert torch.allclose(images.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3)
    assert torch.allclose(normalise.undo(normalise(images)), images, atol=1e-5)


def test_crop_coordinates_invert():
    joints = torch.rand(4, 3, 3) * 50 + 1
    centre, scale = torch.rand(4, 2) * 30, torch.rand(4, 2) * 30 + 5
    inside = to_crop(joints, centre, scale, (64, 48))
    targets = {"centre": centre, "scale": scale, "size": torch.tensor([[64, 48]]).expand(4, 2)}
    assert torch.allclose(to_image(inside[..., :2], targets), joints[..., :2], atol=1e-3)


def _one_rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    results = {}
    for name in ("segmentation", "keypoints"):
        data = open_data(None, name, scenes=(4, 7))
        task = find_task(name).from_data(data)
        metric = task.metric()
        for images, targets in Loader(data.val, 3, rank=rank, world=world).epoch():
            metric.update(_guess(task, images, targets), targets)
        results[name] = metric.compute()
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _guess(task: Task, images: torch.Tensor, targets: Any) -> torch.Tensor:
    """Outputs that depend on each sample alone, and are neither right nor wrong throughout."""
    if isinstance(task, Segmentation):
        return torch.cat([images, 1 - images] * 2, dim=1)[:, :11]
    off = torch.remainder(targets["ann_id"], 5)[:, None, None] * torch.tensor([2.0, 0, 0])
    return encode(targets["joints"] + off, targets["size"], (32, 32), 2.0)[0]


@pytest.mark.long
def test_metrics_over_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(_one_rank, (2, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first == second
    for name in ("segmentation", "keypoints"):
        data = open_data(None, name, scenes=(4, 7))
        task = find_task(name).from_data(data)
        metric = task.metric()
        for images, targets in Loader(data.val, 5).epoch():
            metric.update(_guess(task, images, targets), targets)
        assert first[name] == pytest.approx(metric.compute())
        assert 0 < first[name][task.headline] < 1
