"""Words that people bring along from elsewhere, and what the language calls them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nasdsl.compiler.diagnostics import suggest

OPERATORS: Mapping[str, str] = {
    "Conv2d": "write `conv(out, kernel: 3)`",
    "Conv2D": "write `conv(out, kernel: 3)`",
    "conv2d": "write `conv(out, kernel: 3)`",
    "convolution": "write `conv(out, kernel: 3)`",
    "conv1x1": "write `conv(out)`: the kernel is 1 by default",
    "conv3x3": "write `conv(out, kernel: 3)`",
    "BatchNorm2d": "write `norm()`; `conv` has one of its own",
    "GroupNorm": "write `norm(group)`; `conv` has one of its own with `norm: group`",
    "FrozenBatchNorm2d": "write `norm(frozen)`; `conv` has one of its own with `norm: frozen`",
    "BatchNorm": "write `norm()`; `conv` has one of its own",
    "batch_norm": "write `norm()`; `conv` has one of its own",
    "bn": "write `norm()`; `conv` has one of its own",
    "LayerNorm": "write `layer_norm()`",
    "LayerScale": "write `layer_scale()`",
    "DropPath": "write `drop_path(1/10)` at the end of a residual branch",
    "StochasticDepth": "write `drop_path(1/10)` at the end of a residual branch",
    "stochastic_depth": "write `drop_path(1/10)` at the end of a residual branch",
    "MultiheadAttention": "write `global_attention(heads: 8)`",
    "multi_head_attention": "write `global_attention(heads: 8)`",
    "self_attention": "write `global_attention(heads: 8)`, or `window_attention`, `local_attention`, `axial_attention`",
    "attention": "write `global_attention(heads: 8)`, or `window_attention`, `local_attention`, `axial_attention`",
    "PatchEmbed": "write `patches(out, size: 16)`, and behind it `to_tokens()`",
    "patch_embed": "write `patches(out, size: 16)`, and behind it `to_tokens()`",
    "patch_embedding": "write `patches(out, size: 16)`, and behind it `to_tokens()`",
    "PatchMerging": "write `merge_patches()`",
    "patch_merging": "write `merge_patches()`",
    "cls_token": "write `class_token()`",
    "pos_embed": "write `position_embedding()`",
    "ConvTranspose2d": "write `conv_transpose(out, kernel: 2, stride: 2)`",
    "deconv": "write `conv_transpose(out, kernel: 2, stride: 2)`",
    "upconv": "write `conv_transpose(out, kernel: 2, stride: 2)`",
    "PixelShuffle": "write `depth_to_space(2)`",
    "pixel_shuffle": "write `depth_to_space(2)`",
    "PixelUnshuffle": "write `space_to_depth(2)`",
    "pixel_unshuffle": "write `space_to_depth(2)`",
    "ChannelShuffle": "write `shuffle(groups: 2)`",
    "channel_shuffle": "write `shuffle(groups: 2)`",
    "chunk": "write `channels(8)` for the first eight, `channels(8, skip: 8)` for the next",
    "slice": "write `channels(8)` for the first eight, `channels(8, skip: 8)` for the next",
    "split": "write `channels(8)` for the first eight, `channels(8, skip: 8)` for the next",
    "crop": "write `shift(1)`, which leaves out the first row and column and keeps the size",
    "FactorizedReduce": "write `factorized_reduce(out)`",
    "MaxPool2d": "write `max_pool(3, stride: 2)`",
    "AvgPool2d": "write `avg_pool(3, stride: 2)`",
    "AdaptiveAvgPool2d": "write `global_pool()`, or `adaptive_pool(6)` for a grid of 6 x 6",
    "GlobalAveragePooling2D": "write `global_pool()`",
    "Linear": "write `linear(out)` on a vector, or `classify(classes: 10)` at the end",
    "Dense": "write `linear(out)` on a vector, or `classify(classes: 10)` at the end",
    "fc": "write `linear(out)` on a vector, or `classify(classes: 10)` at the end",
    "Flatten": "write `global_pool()`; `classify` does it by itself",
    "flatten": "write `global_pool()`; `classify` does it by itself",
    "Sequential": "steps stand one after the other: `a() -> b()`, or on a line each in braces",
    "sequential": "steps stand one after the other: `a() -> b()`, or on a line each in braces",
    "Identity": "write `identity()`",
    "Interpolate": "write `resize(to: 1/4)`",
    "interpolate": "write `resize(to: 1/4)`",
    "cat": "write `concat(a, b)`",
    "stack": "write `concat(a, b)`",
    "add": "write `a() + b()`, or `sum()` for branches",
    "mul": "write `branches(a, b) -> product()`",
    "multiply": "write `branches(a, b) -> product()`",
    "ASPP": "write `aspp(256)`",
    "regression": "write `regress(targets: 1)`",
    "softmax": "`classify` and `segment` give class scores; the loss takes the softmax",
    "Softmax": "`classify` and `segment` give class scores; the loss takes the softmax",
    "range": "write `0..2` for 0, 1 and 2",
    "len": "write `length(list)`",
    "int": "write `floor(x)`",
    "choice": "write `oneof(a, b)`",
    "choose": "write `oneof(a, b)`",
    "choices": "write `oneof(a, b)`",
    "select": "write `oneof(a, b)`",
    "switch": "write `oneof(a, b)` for a choice of the search, `match` for what depends on one",
    "Choice": "write `oneof(a, b)`",
    "LayerChoice": "write `oneof(a(), b())`",
    "InputChoice": "write `manyof(k, earlier)`",
    "ValueChoice": "write `oneof(a, b)`",
    "Input": "write `input 3 x 224 x 224` in the space",
    "output": "the last step is the output",
    "print": "`nasdsl draw` and `nasdsl count` show what a file means",
}

ARGUMENTS: Mapping[str, str] = {
    "channels": "out",
    "out_channels": "out",
    "filters": "out",
    "features": "out",
    "out_features": "out",
    "width": "out",
    "dim": "out",
    "planes": "out",
    "output": "out",
    "kernel_size": "kernel",
    "ksize": "kernel",
    "k": "kernel",
    "window": "kernel",
    "strides": "stride",
    "s": "stride",
    "activation": "act",
    "act_layer": "act",
    "nonlinearity": "act",
    "normalization": "norm",
    "normalisation": "norm",
    "norm_layer": "norm",
    "num_classes": "classes",
    "n_classes": "classes",
    "scale_factor": "to",
    "scale": "to",
    "size": "to",
    "rate": "p",
    "dilations": "dilation",
    "heads_num": "heads",
    "num_heads": "heads",
    "num_joints": "joints",
    "source": "from",
    "sources": "from",
    "inputs": "from",
    "target": "to",
    "targets": "to",
    "fusion": "rule",
}

VALUES: Mapping[str, str] = {
    "scale": "the scale of what comes in is `at`, that of a tensor `x.scale`; `scale` is for fusions and `parallel`",
    "width": "the width of what comes in is `in`, that of a tensor `x.width`; `width` is for fusions and `parallel`",
    "channels": "the width of what comes in is `in`, and that of a tensor `x.width`",
    "True": "write `true`",
    "False": "write `false`",
    "None": "write `none`",
}

NEEDLESS: Mapping[str, str] = {
    "padding": "leave it out: an output has ceil(size / stride) pixels, and the padding follows",
    "pad": "leave it out: an output has ceil(size / stride) pixels, and the padding follows",
    "in_channels": "leave it out: the incoming width is known (and is called `in`)",
    "in_features": "leave it out: the incoming width is known (and is called `in`)",
    "inplace": "leave it out",
}


def near(word: str, candidates: Iterable[str]) -> str:
    """`did you mean ...?`, also where only capitals or underscores differ; the empty string where nothing is near."""
    names = list(dict.fromkeys(candidates))
    plain = _plain(word)
    for name in names:
        if _plain(name) == plain:
            return f"did you mean `{name}`?"
    return suggest(word, names)


def near_operator(word: str, candidates: Iterable[str]) -> str:
    return OPERATORS.get(word) or near(word, candidates)


def near_argument(word: str, names: Iterable[str]) -> str:
    names = list(names)
    known = ARGUMENTS.get(word)
    if known in names:
        return f"write `{known}`"
    return near(word, names) or NEEDLESS.get(word, "")


def _plain(word: str) -> str:
    return word.replace("_", "").lower()
