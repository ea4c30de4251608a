"""Augmented boxes against pixels that are moved with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nasdsl.runtime.data import Loader, Size, open_data
from nasdsl.runtime.data.images import mean_colour
from nasdsl.runtime.data.loader import step_generator
from nasdsl.runtime.tasks import Normalise, TaskError
from nasdsl.runtime.tasks.boxes_augment import (
    SSD,
    BoxPreset,
    Mirror,
    ScaleJitter,
    Views,
    augmentation,
    move_boxes,
    show,
)

Tensors = dict[str, torch.Tensor]
MEAN = torch.tensor(mean_colour(3)) / 255


def made(
    count: int = 8, canvas: tuple[int, int] = (60, 80), most: int = 5, seed: int = 0
) -> tuple[torch.Tensor, Tensors]:
    """Random images smaller than their canvas, the rest of it mean, with boxes of whole pixels and empty rows."""
    rng = np.random.default_rng(seed)
    images = MEAN[:, None, None].repeat(count, 1, *canvas)
    size, boxes, labels = [], torch.zeros(count, most, 4), torch.full((count, most), -1)
    for i in range(count):
        height, width = int(rng.integers(30, canvas[0] + 1)), int(rng.integers(30, canvas[1] + 1))
        images[i, :, :height, :width] = torch.from_numpy(rng.random((3, height, width), dtype=np.float32))
        size.append([height, width])
        for k in range(int(rng.integers(0 if i else 1, most + 1))):
            x, y = np.sort(rng.choice(width + 1, 2, replace=False)), np.sort(rng.choice(height + 1, 2, replace=False))
            boxes[i, k] = torch.tensor([x[0], y[0], x[1], y[1]])
            labels[i, k] = int(rng.integers(9))
    crowd = (torch.from_numpy(rng.random((count, most))) < 0.2) & (labels >= 0)
    return images, {
        "boxes": boxes, "labels": labels, "crowd": crowd, "area": torch.rand(count, most) * (labels >= 0),
        "size": torch.tensor(size), "original": torch.tensor(size) * 2, "image_id": torch.arange(count),
    }  # fmt: skip


def masks_of(targets: Tensors, canvas: Size) -> torch.Tensor:
    """The pixels of each box: (B, M, H, W)."""
    y, x = torch.meshgrid(torch.arange(canvas[0]) + 0.5, torch.arange(canvas[1]) + 0.5, indexing="ij")
    x1, y1, x2, y2 = (side[..., None, None] for side in targets["boxes"].unbind(-1))
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


def slow_boxes(targets: Tensors, views: Views) -> list[list[tuple[int, list[float]]]]:
    """Label and box of what stays, by a loop over the pixels of each output: where in the image does each come from?"""
    masks = masks_of(targets, (200, 200))
    result = []
    for i in range(len(masks)):
        (sx1, sy1, sx2, sy2), (tx1, ty1, tx2, ty2) = views.source[i].tolist(), views.target[i].tolist()
        width = int(views.size[i, 1])
        fine = 8  # so many points a pixel
        xs = (np.arange(tx1 * fine, tx2 * fine) + 0.5) / fine
        ys = (np.arange(ty1 * fine, ty2 * fine) + 0.5) / fine
        from_x = sx1 + (xs - tx1) * (sx2 - sx1) / (tx2 - tx1)
        from_y = sy1 + (ys - ty1) * (sy2 - sy1) / (ty2 - ty1)
        kept = []
        for k in range(masks.shape[1]):
            if targets["labels"][i, k] < 0:
                continue
            shown = masks[i, k].numpy()[np.floor(from_y).astype(int)][:, np.floor(from_x).astype(int)]
            box = targets["boxes"][i, k].tolist()
            centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            inside = sx1 <= centre[0] <= sx2 and sy1 <= centre[1] <= sy2
            if not shown.any() or not (inside or targets["crowd"][i, k]):
                continue
            columns, rows = xs[shown.any(axis=0)], ys[shown.any(axis=1)]
            left, right = columns[0] - 0.5 / fine, columns[-1] + 0.5 / fine
            if views.flipped[i]:
                left, right = width - right, width - left
            kept.append((int(targets["labels"][i, k]), [left, rows[0] - 0.5 / fine, right, rows[-1] + 0.5 / fine]))
        result.append(kept)
    return result


PRESETS: list[Any] = [
    Mirror(), Mirror(size=(96, 64)), ScaleJitter(), ScaleJitter(size=(48, 48)),
    ScaleJitter(size=(90, 120), scales=(0.1, 3.0)), SSD(), SSD(size=(64, 64)), SSD(size=(64, 64), keep_ratio=False),
    SSD(expanded=1.0), SSD(size=(70, 50), scales=(0.5, 2.0)),
]  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_where_their_pixels_are(preset, seed):
    images, targets = made(seed=seed)
    views = preset.draw(images, targets, step_generator(seed, 0, 0))
    after = move_boxes(targets, views)
    expected = slow_boxes(targets, views)
    most = max(1, *(len(one) for one in expected))
    assert after["boxes"].shape == (8, most, 4) and after["boxes"].dtype == torch.float32
    for i, wanted in enumerate(expected):
        there = after["labels"][i] >= 0
        assert after["labels"][i][there].tolist() == [label for label, _ in wanted]
        for box, (_, other) in zip(after["boxes"][i][there].tolist(), wanted, strict=True):
            assert box == pytest.approx(other, abs=0.2)
        assert not after["boxes"][i][~there].any() and not after["crowd"][i][~there].any()
        height, width = after["size"][i].tolist()
        assert 1 <= height <= views.canvas[0] and 1 <= width <= views.canvas[1]
        assert (after["boxes"][i][:, 2] <= width).all() and (after["boxes"][i][:, 3] <= height).all()
    assert after["labels"].dtype == torch.int64 and after["size"].dtype == torch.int64
    assert torch.equal(after["image_id"], targets["image_id"])


@pytest.mark.parametrize("preset", PRESETS)
def test_pixels_are_where_their_views_say(preset):
    """A ramp tells where in its image each pixel of the output is from; what shows nothing has the mean colour."""
    _, targets = made()
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    ramps = torch.stack([x / 80, y / 60, torch.ones(60, 80)]).expand(8, 3, 60, 80)
    views = preset.draw(ramps, targets, step_generator(1, 0, 0))
    moved = show(ramps, views)
    assert moved.shape == (8, 3, *views.canvas)
    for i in range(8):
        (sx1, sy1, sx2, sy2), (tx1, ty1, tx2, ty2) = views.source[i].tolist(), views.target[i].tolist()
        height, width = targets["size"][i].tolist()
        assert 0 <= sx1 < sx2 <= width and 0 <= sy1 < sy2 <= height  # never what lies beside the image
        shown = moved[i]
        if views.flipped[i]:
            wide = int(views.size[i, 1])
            assert torch.equal(
                shown[:, :, wide:], MEAN[:, None, None].expand(3, views.canvas[0], views.canvas[1] - wide)
            )
            shown = torch.cat([shown[:, :, :wide].flip(-1), shown[:, :, wide:]], dim=-1)
        part = shown[:, ty1:ty2, tx1:tx2]
        across = sx1 + (torch.arange(tx2 - tx1) + 0.5) * (sx2 - sx1) / (tx2 - tx1)
        down = sy1 + (torch.arange(ty2 - ty1) + 0.5) * (sy2 - sy1) / (ty2 - ty1)
        # Borders are held, so the outermost pixels of a ramp are off by up to half a pixel of the larger grid.
        edge = max(1.0, (sx2 - sx1) / (tx2 - tx1), (sy2 - sy1) / (ty2 - ty1))
        assert (part[0] * 80 - across[None]).abs().max() <= edge
        assert (part[1] * 60 - down[:, None]).abs().max() <= edge
        assert torch.allclose(part[2], torch.ones(()), atol=1e-5)
        outside = torch.ones(views.canvas, dtype=torch.bool)
        outside[ty1:ty2, tx1:tx2] = False
        assert torch.equal(shown[:, outside], MEAN[:, None].expand(3, int(outside.sum())))


def test_a_mirror_is_exact_and_undoes_itself():
    images, targets = made()
    mirror = augmentation("flip", flip=1.0)
    once = mirror(images, targets, step_generator(0, 0, 0))
    for i, (height, width) in enumerate(targets["size"].tolist()):
        assert torch.equal(once[0][i, :, :height, :width], images[i, :, :height, :width].flip(-1))
    twice = mirror(*once, step_generator(0, 0, 0))
    assert torch.equal(twice[0], images)
    assert all(torch.equal(twice[1][key], targets[key]) for key in targets)
    assert targets["boxes"] is not once[1]["boxes"]


def test_scale_jitter_shows_the_factors_asked_for_and_keeps_the_aspect():
    images, targets = made(64, canvas=(64, 64))
    views = ScaleJitter(scales=(0.5, 2.0)).draw(images, targets, step_generator(0, 0, 0))
    wide = (views.source[:, 2:] - views.source[:, :2]).float()
    factor = (views.target[:, 2:] - views.target[:, :2]) / wide
    assert ((factor[:, 0] / factor[:, 1]).log().abs() < 0.1).all()
    assert 0.45 < factor.min() < 0.7 and 1.7 < factor.max() < 2.1 and 1.1 < factor.mean() < 1.4
    cut = views.source[:, :2].amax(dim=1) > 0
    assert (factor[cut].amax(dim=1) > 1).all() and cut.float().mean() > 0.15


def test_crops_of_ssd_overlap_an_object_as_asked():
    images, targets = made(120, most=3)
    targets["crowd"][:] = False
    preset = SSD(overlaps=(0.5,), expand=1.0, flip=0.0, size=(60, 80))
    views = preset.draw(images, targets, step_generator(0, 0, 0))
    cropped = 0
    for i, (height, width) in enumerate(targets["size"].tolist()):
        x1, y1, x2, y2 = views.source[i].tolist()
        if (x1, y1, x2, y2) == (0, 0, width, height):
            continue
        cropped += 1
        best = 0.0
        for (a1, b1, a2, b2), label in zip(targets["boxes"][i].tolist(), targets["labels"][i].tolist(), strict=True):
            common = max(0.0, min(a2, x2) - max(a1, x1)) * max(0.0, min(b2, y2) - max(b1, y1))
            union = (a2 - a1) * (b2 - b1) + (x2 - x1) * (y2 - y1) - common
            best = max(best, common / union if label >= 0 else 0.0)
        assert best > 0.44  # 0.5, before the crop is brought to whole pixels
        assert 0.45 < (x2 - x1) / (y2 - y1) < 2.2
    assert cropped >= 20


def test_expansion_shows_whole_images_smaller():
    images, targets = made(40)
    views = SSD(overlaps=(), expand=4.0, expanded=1.0, size=(60, 80)).draw(images, targets, step_generator(0, 0, 0))
    assert torch.equal(views.source[:, 2:], targets["size"].flip(-1)) and not views.source[:, :2].any()
    share = ((views.target[:, 2:] - views.target[:, :2]).float() / views.size.flip(-1)).mean(dim=1)
    assert 0.24 < share.min() < 0.35 and share.max() > 0.7
    assert (views.target[:, :2] > 0).any(dim=0).all()


def test_crowds_stay_as_long_as_any_part_is_shown():
    targets = made(1, most=1)[1] | {
        "boxes": torch.tensor([[[0.0, 0.0, 40.0, 40.0]]]), "labels": torch.tensor([[3]]),
        "size": torch.tensor([[40, 40]]),
    }  # fmt: skip
    views = Views(
        torch.tensor([[30, 30, 40, 40]]), torch.tensor([[0, 0, 20, 20]]), torch.tensor([[20, 20]]),
        torch.tensor([False]), (60, 80),
    )  # fmt: skip
    for crowd, label in ((True, 3), (False, -1)):
        after = move_boxes({**targets, "crowd": torch.tensor([[crowd]])}, views)
        assert after["labels"].tolist() == [[label]] and after["crowd"].tolist() == [[crowd]]
        assert after["boxes"].tolist() == [[[0, 0, 20, 20] if crowd else [0, 0, 0, 0]]]


def test_images_without_boxes_are_shown_too():
    images, targets = made()
    targets |= {"boxes": torch.zeros(8, 1, 4), "labels": torch.full((8, 1), -1)}
    targets |= {"crowd": torch.zeros(8, 1, dtype=torch.bool), "area": torch.zeros(8, 1)}
    for name in ("flip", "scale", "ssd"):
        moved, after = augmentation(name)(images, targets, step_generator(0, 0, 0))
        assert moved.shape == images.shape and after["boxes"].shape == (8, 1, 4) and (after["labels"] == -1).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_padding_is_nothing_to_a_network(channels):
    data = open_data(None, "detection", scenes=(16, 4), channels=channels, size=(64, 48), train_size=(80, 80))
    augment = augmentation("ssd", (64, 48))
    loader = Loader(data.train, 8, augment=augment, normalise=Normalise.imagenet(channels))
    images, targets = next(loader.epoch())
    assert images.shape == (8, channels, 64, 48)
    for image, (height, width) in zip(images, targets["size"].tolist(), strict=True):
        assert not (image[:, height:].abs() > 0.01).any() and not (image[:, :, width:].abs() > 0.01).any()
    assert (targets["size"] < torch.tensor([64, 48])).any()


def test_batches_follow_from_the_step_alone():
    data = open_data(None, "detection", scenes=(20, 4))
    for name in ("scale", "ssd"):
        loader = Loader(data.train, 8, shuffle=True, augment=augmentation(name), workers=2)
        whole = list(loader.epoch(1))
        torch.rand(3)
        for (a, x), (b, y) in zip(list(loader.epoch(1, 1)), whole[1:], strict=True):
            assert torch.equal(a, b) and all(torch.equal(x[key], y[key]) for key in x)
        assert not torch.equal(whole[0][0], next(loader.epoch(2))[0])


def test_presets_and_options_that_do_not_exist():
    mistakes: list[tuple[str, dict[str, Any], str]] = [
        ("sdd", {}, 'did you mean "ssd"'),
        ("cifar", {}, "it has none, flip, scale, ssd"),
        ("scale", {"scale": 3}, 'did you mean "scales"'),
        ("scale", {"scales": (2.0, 1.0)}, "option scales of the augmentation is the least and the greatest"),
        ("flip", {"flip": "often"}, "not of its kind"),
        ("scale", {"scales": 0.5}, "not of its kind"),
        ("flip", {"flip": 2}, "option flip .* probability, not 2"),
        ("ssd", {"overlaps": (1.5,)}, "overlaps from 0 to below 1"),
        ("ssd", {"tries": 0}, "whole number"),
        ("ssd", {"expand": 0.5}, "factor from 1 to 16"),
        ("ssd", {"colour": 3}, "true or false"),
        ("none", {"flip": 1}, "takes no size or options"),
    ]
    for preset, options, message in mistakes:
        with pytest.raises(TaskError, match=message):
            augmentation(preset, **options)
    images, targets = made()
    assert augmentation("none")(images, targets, step_generator(0, 0, 0)) == (images, targets)


def test_colours_change_where_asked():
    images, targets = made()
    plain, coloured = (
        augmentation("flip", flip=0.0, colour=colour)(images, targets, step_generator(0, 0, 0))[0]
        for colour in (False, True)
    )
    assert torch.equal(plain, images) and not torch.equal(coloured, images)
    assert coloured.min() >= 0 and coloured.max() <= 1
    assert BoxPreset().colour is False
