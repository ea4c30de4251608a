"""Presets of training settings: the recipes of the papers. A file takes one with `preset: name`; its own go first.

Without one, the defaults of `settings.py` and `settle.py` are the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasdsl.compiler.diagnostics import error, suggest
from nasdsl.compiler.source import Span
from nasdsl.runtime.settings import Train, merged

_HRNAS: Mapping[str, Any] = {"weight_decay": 1e-5, "weight_decay_form": "loss", "ema": {}, "init": "mnas"}

_HRNAS_DENSE: Mapping[str, Any] = {
    **_HRNAS,
    "batch": 32,
    "optimiser": {"name": "adamw", "lr": 0.04, "eps": 1e-3},
    "schedule": {"name": "onecycle", "cycle": (0.95, 0.85)},
}

_SMNAS: Mapping[str, Any] = {
    "weight_decay": 1e-4,  # lost in the paper's text; what is usual with ResNets
    "weight_decay_form": "loss",
    "augment": "flip",
    "recalibrate": 0,
}

_SPINENET: Mapping[str, Any] = {
    "batch": 256,
    "optimiser": {"name": "sgd", "lr": 0.28},
    "weight_decay": 4e-5,
    "weight_decay_form": "loss",
    "clip": 10.0,
    "augment": "scale",
    "recalibrate": 0,
}

RECIPES: Mapping[str, Mapping[str, Any]] = {
    # HR-NAS paper and official code: classification on ImageNet.
    "hrnas_imagenet": {
        **_HRNAS,
        "epochs": 350,
        "batch": 1024,
        "optimiser": {"name": "rmsprop", "lr": 0.016, "lr_batch": 256, "alpha": 0.9, "momentum": 0.9, "eps": 1e-3},
        "schedule": {"name": "exponential", "decay": 0.97, "decay_every": 2.4, "warmup": 5, "warmup_from": 0.25},
        "augment": "imagenet",
        "task": {"label_smoothing": 0.1},
    },
    # HR-NAS official code: semantic segmentation. The loss is averaged over all pixels, ignored ones counting as zero.
    "hrnas_cityscapes": {
        **_HRNAS_DENSE,
        "epochs": 430,
        "augment": "cityscapes",
        "task": {"average_over_all_pixels": True},
    },
    "hrnas_ade20k": {
        **_HRNAS_DENSE,
        "epochs": 200,
        "batch": 64,
        "augment": "ade20k",
        "task": {"average_over_all_pixels": True},
    },
    # HR-NAS official code: keypoints on COCO.
    "hrnas_keypoints": {
        **_HRNAS,
        "epochs": 210,
        "batch": 384,
        "optimiser": {"name": "adamw", "lr": 1e-3, "eps": 1e-8},
        "schedule": {"name": "step", "milestones": [170, 200]},
        "weight_decay": 1e-8,
        "augment": "keypoints",
    },
    # HR-NAS paper: 3-D detection on KITTI.
    "hrnas_kitti": {
        **_HRNAS,
        "epochs": 80,
        "batch": 16,
        "optimiser": {"name": "adamw", "lr": 2e-3},
        "schedule": {"name": "onecycle", "start_div": 10},
        "weight_decay": 1e-2,
        "weight_decay_form": "optimiser",
    },
    # TrioNet paper: the supernet on ImageNet. It does not print the shape of the schedule and the amount of smoothing;
    # they are those of Axial-DeepLab.
    "trionet_imagenet": {
        "epochs": 540,
        "batch": 256,
        "optimiser": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True},
        "schedule": {"name": "cosine", "warmup": 10},
        "weight_decay": 8e-5,
        "weight_decay_form": "loss",
        "ema": None,
        "augment": "imagenet",
        "task": {"label_smoothing": 0.1},
        "init": "torch",
    },
    # SM-NAS paper: the first stage's short training, from initial weights.
    "smnas_structure": {
        **_SMNAS,
        "epochs": 5,
        "batch": 32,
        "optimiser": {"name": "sgd", "lr": 0.04},
        "schedule": {"name": "cosine", "final": 0.0025},
    },
    # SM-NAS paper: the second stage's, from scratch with group norm and standardised filters.
    "smnas_modules": {
        **_SMNAS,
        "epochs": 9,
        "batch": 64,
        "optimiser": {"name": "sgd", "lr": 0.24},
        "schedule": {"name": "cosine", "final": 1 / 2400},
    },
    # SM-NAS paper: the networks that were found, from initial weights, on COCO ("2x").
    "smnas_coco": {
        **_SMNAS,
        "epochs": 24,
        "batch": 32,
        "optimiser": {"name": "sgd", "lr": 0.04},
        "schedule": {"name": "step", "milestones": [16, 22], "warmup": 0.14, "warmup_from": 1 / 3},
        "augment": "scale",
        "augment_options": {"scales": [0.8, 1.2]},
    },
    # SpineNet paper: a sample of its search; detection on COCO from scratch, protocols A and B. C is B for 500 epochs.
    "spinenet_proxy": {**_SPINENET, "epochs": 5, "schedule": {"name": "cosine", "warmup": 0.5}},
    "spinenet_a": {
        **_SPINENET,
        "epochs": 250,
        "schedule": {"name": "step", "milestones": [220, 240], "warmup": 5},
        "augment_options": {"scales": [0.8, 1.2]},
    },
    "spinenet_b": {
        **_SPINENET,
        "epochs": 350,
        "schedule": {"name": "step", "milestones": [320, 340], "warmup": 5},
    },
    # SpineNet paper: classification on ImageNet.
    "spinenet_imagenet": {
        "epochs": 200,
        "batch": 4096,
        "optimiser": {"name": "sgd", "lr": 1.6},
        "schedule": {"name": "cosine", "warmup": 5},
        "weight_decay": 1e-4,
        "weight_decay_form": "loss",
        "augment": "imagenet",
    },
    # Minutes on a laptop, the same whatever the data: small images, few epochs.
    "small": {
        "epochs": 20,
        "batch": 64,
        "optimiser": {"name": "adamw", "lr": 4e-3},
        "schedule": {"name": "onecycle"},
        "weight_decay": 1e-4,
        "weight_decay_form": "optimiser",
        "ema": {"decay": 0.998, "decay_batch": None},
        "init": "torch",
    },
}


def with_recipe(entries: Mapping[str, Any], span: Span | None = None) -> dict[str, Any]:
    """The entries over those of their `preset`.

    Raises:
        CompileError: no preset has that name.
    """
    name = entries.get("preset")
    if name is None:
        return dict(entries)
    if not isinstance(name, str) or name not in RECIPES:
        raise error(
            "unknown-preset",
            f"no training preset named `{name}`",
            span,
            help=suggest(str(name), RECIPES) or ", ".join(RECIPES),
        )
    return merged(RECIPES[name], entries, Train)
