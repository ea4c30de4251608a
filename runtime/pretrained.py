"""First weights: drawn anew, or for parts of a network read from files.

A file has the names that nasdsl writes, or those that torchvision and timm give to the networks that the library's
`resnet`, `resnext` and `mobilenet_v2` make. A supernet holds the largest architecture, so it takes a file of that;
smaller ones use their parts of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nasdsl.compiler.diagnostics import NasdslError, error
from nasdsl.compiler.source import Span
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet, key_of
from nasdsl.runtime.checkpoint import load_checkpoint, load_weights
from nasdsl.runtime.files import known_file
from nasdsl.runtime.optim import initialise
from nasdsl.runtime.parts import WHOLE, check_path, layers_under
from nasdsl.runtime.settings import MATCHING, REST, WAYS, Init, Train

COUNTER = "num_batches_tracked"
"""A number of batch norms that no forward pass in evaluation reads, and that old files lack."""
MOST_TOLD = 3
"""Tensors that a message names."""
NESTED = ("state_dict", "model")
"""Entries of a .pth file that may hold the weights."""


def begin(network: Supernet, init: Init, space: Space) -> list[str]:
    """Gives a network its first weights.

    Returns:
        What is to be told of each file: how much of the network is from it, and what in it has no place.

    Raises:
        CompileError: a file cannot be read, or does not fit the part that it is for.
    """
    initialise(network, init if isinstance(init, str) and init in WAYS else rest_of(init))
    notes = []
    for part, name in files_of(init).items():
        file = init_file(name, space)
        if part == MATCHING:
            notes.append(fill_matching(network, weights_in(file), file.name))
        elif layers_under(network, part):
            notes.append(fill(network, part, weights_in(file), file.name))
        else:  # other choices have it
            notes.append(f"`{part}` is not in this network, so {file.name} is not read")
    return notes


def rest_of(init: Init) -> str:
    """How the parts start that no file is for."""
    return init.get(REST, WAYS[0]) if isinstance(init, Mapping) else WAYS[0]


def files_of(init: Init) -> dict[str, str]:
    """The file of each part, the one for what matches first; the whole network is the part without a name."""
    if isinstance(init, str):
        return {} if init in WAYS else {WHOLE: init}
    return {part: init[part] for part in sorted(init, key=lambda part: part != MATCHING) if part != REST}


def init_file(name: str, space: Space) -> Path:
    return known_file(name, None if space.source.path is None else space.source.path.parent)


def check_start(space: Space, train: Train, spans: Mapping[str, Span], inside: str = "") -> None:
    """That the parts and the files that `init` and `freeze` name are there.

    Args:
        inside: what stands before the names of settings in `spans`.

    Raises:
        CompileError: one is not.
    """
    whole = space.graph if space.whole is None else space.whole
    for part, name in files_of(train.init).items():
        span = spans.get(f"{inside}init")
        if part != MATCHING:
            check_path(whole, part, "init", span)
        file = init_file(name, space)
        if not file.is_file():
            raise error("no-weights", f"the weights {file} are missing", span, help=f"`init` names {name}")
    for path in train.freeze:
        check_path(whole, path, "freeze", spans.get(f"{inside}freeze"))


# --- files ------------------------------------------------------------------------------------------------------------


def weights_in(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of one that `torch.save` wrote, of which no code is run.

    Raises:
        CompileError: it holds something else.
    """
    if file.suffix == ".safetensors":
        return load_weights(file)[0]
    try:
        found = load_checkpoint(file)
    except NasdslError as problem:
        raise error("bad-weights", f"{file} {problem.message}", None, help=problem.help) from None
    for name in NESTED:
        if isinstance(found.get(name), Mapping):
            found = found[name]
            break
    other = next((name for name, value in found.items() if not isinstance(value, Tensor)), None)
    if other is not None or not found:
        what = f"`{other}` is none" if other is not None else "it is empty"
        raise error("bad-weights", f"{file} holds no tensors by name: {what}", None)
    return found


# --- names ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Names:
    """What a file calls the two modules of a layer: of a convolution or a linear map, and of its norm."""

    weights: str
    norm: str = ""

    def of(self, own: str) -> str:
        """The name of a tensor that a layer calls `conv.weight` or `norm.bias`."""
        module, _, tensor = own.rpartition(".")
        return f"{self.norm if module == 'norm' else self.weights}.{tensor}"


_RESNET = re.compile(
    r"(?P<root>.*?)\.for\[(?P<stage>\d+)\]\.c\.resne(?:t|xt)_stage\[(?P<block>\d+)\]"
    r"\.(?P<kind>basic|bottleneck)\.(?:conv\[(?P<conv>\d)\]|shortcut)"
)
_MOBILENET = re.compile(
    r"(?P<root>.*?)\.for\[(?P<stage>\d)\]\.c\.mobilenet_v2_stage\.for\[(?P<row>\d)\]\.repeat\[(?P<block>\d+)\]"
    r"\.inverted_residual\.(?P<layer>conv\[0\]|depthwise|conv\[1\])"
)
_ROWS = {(0, 0): (2, 1), (1, 0): (4, 2), (2, 0): (7, 3), (2, 1): (11, 4), (3, 0): (14, 5), (3, 1): (17, 6)}
"""MobileNetV2: by stage and row, the number of the first block in torchvision and the number of the row in timm."""

_TORCHVISION_FIRST = (
    Names("features.0.0", "features.0.1"),
    Names("features.1.conv.0.0", "features.1.conv.0.1"),
    Names("features.1.conv.1", "features.1.conv.2"),
)
_TIMM_FIRST = (
    Names("conv_stem", "bn1"),
    Names("blocks.0.0.conv_dw", "blocks.0.0.bn1"),
    Names("blocks.0.0.conv_pw", "blocks.0.0.bn2"),
)


def resnet_names(nodes: Iterable[str]) -> dict[str, Names]:
    """What torchvision and timm call the layers of ResNet and ResNeXt.

    Where a choice of depth leaves both kinds of block in a network, the names are those of both.
    """
    found: dict[str, Names] = {}
    nodes = list(nodes)
    for node in nodes:
        place = _RESNET.fullmatch(node)
        if place is None:
            continue
        if f"{place['root']}.conv" in nodes:
            found[f"{place['root']}.conv"] = Names("conv1", "bn1")
        block = f"layer{int(place['stage']) + 1}.{place['block']}"
        if place["conv"] is None:
            found[node] = Names(f"{block}.downsample.0", f"{block}.downsample.1")
        else:
            number = int(place["conv"]) + 1
            found[node] = Names(f"{block}.conv{number}", f"{block}.bn{number}")
    return found


def mobilenet_names(nodes: Iterable[str], timm: bool) -> dict[str, Names]:
    """What torchvision, or timm, calls the layers of MobileNetV2."""
    found: dict[str, Names] = {}
    nodes = list(nodes)
    for node in nodes:
        place = _MOBILENET.fullmatch(node)
        if place is None:
            continue
        root = place["root"]
        first = f"{root}.inverted_residual"
        stem, wide, thin = _TIMM_FIRST if timm else _TORCHVISION_FIRST
        begins = {f"{root}.conv": stem, f"{first}.depthwise": wide, f"{first}.conv[1]": thin}
        found.update({name: names for name, names in begins.items() if name in nodes})
        start, row = _ROWS[int(place["stage"]), int(place["row"])]
        step = ("conv[0]", "depthwise", "conv[1]").index(place["layer"])
        if timm:
            block = f"blocks.{row}.{place['block']}"
            found[node] = Names(f"{block}.{('conv_pw', 'conv_dw', 'conv_pwl')[step]}", f"{block}.bn{step + 1}")
        else:
            block = f"features.{start + int(place['block'])}.conv"
            pairs = ((f"{block}.0.0", f"{block}.0.1"), (f"{block}.1.0", f"{block}.1.1"), (f"{block}.2", f"{block}.3"))
            found[node] = Names(*pairs[step])
    return found


CLASSIFIERS = ("fc", "classifier", "classifier.1")
"""What files call the last layer of a classifier."""


def is_of_a_classifier(name: str) -> bool:
    """Whether a tensor of a file is of its last layer."""
    return re.search(r"(^|\.)(fc|classifier(\.\d)?)\.(weight|bias)$", name) is not None


# --- filling a part ---------------------------------------------------------------------------------------------------

Key = tuple[str, str]
"""A tensor of a network: the node that first uses it, and its name in that node's layer."""


def fill(network: Supernet, part: str, tensors: Mapping[str, Tensor], file: str) -> str:
    """Copies a file's tensors into all of a part of a network; what there is to tell of it.

    Where a choice leaves both kinds of ResNet's block in the part, the file is for those of its own kind.

    Raises:
        CompileError: a tensor of the part is not in the file, or has another shape there.
    """
    wanted = tensors_under(network, part)
    best: dict[Key, str] = {}
    tried, most = wanted, -1
    for nodes in kinds_of({node for node, _ in wanted}):
        mine = {key: tensor for key, tensor in wanted.items() if key[0] in nodes}
        sources = matched(network, part, mine, tensors)
        fit = sum(mine[key].shape == tensors[source].shape for key, source in sources.items())
        if fit > most:
            best, tried, most = sources, mine, fit
    return _filled(network, part, tried, best, tensors, file)


def fill_matching(network: Supernet, tensors: Mapping[str, Tensor], file: str) -> str:
    """Copies those of a file's tensors whose names and shapes a network has, too; what there is to tell of it.

    Raises:
        CompileError: there is none.
    """
    wanted = tensors_under(network, WHOLE)
    found = matched(network, WHOLE, wanted, tensors)
    sources = {key: source for key, source in found.items() if wanted[key].shape == tensors[source].shape}
    if not sources:
        why = "names" if not found else "shapes"
        help = "`nasdsl inspect` shows what a network's parts are called" if not found else ""
        raise error("bad-weights", f"{file} has nothing of the network: all {why} differ", None, help=help)
    _copy(wanted, sources, tensors)
    text = f"the network: {_count(len(sources), len(wanted))} are from {file}"
    wrong = _differing(wanted, found, tensors)
    if wrong:
        text += f"; not taken {_some(wrong)}"
    return text + _without_place(_unused(found, tensors), tensors)


def _copy(wanted: Mapping[Key, Tensor], sources: Mapping[Key, str], tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, source in sources.items():
            wanted[key].copy_(tensors[source])


def _differing(wanted: Mapping[Key, Tensor], sources: Mapping[Key, str], tensors: Mapping[str, Tensor]) -> list[str]:
    """What is told of the tensors whose shapes are others in the file."""
    return [
        f"`{node}` ({name}) has {_shape(wanted[node, name])}, and `{source}` {_shape(tensors[source])}"
        for (node, name), source in sources.items()
        if wanted[node, name].shape != tensors[source].shape
    ]


def _unused(sources: Mapping[Key, str], tensors: Mapping[str, Tensor]) -> list[str]:
    """The names in the file that no tensor of the network has."""
    used = set(sources.values())
    return [name for name in tensors if name not in used and not is_counter(name)]


def _without_place(names: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    return f"; {_count(len(names), len(tensors))} of it have no place here: {_some(names)}" if names else ""


def tensors_under(network: Supernet, part: str) -> dict[Key, Tensor]:
    """Weights and statistics of a part that some architecture reads."""
    return {
        (node, name): tensor
        for node, module in layers_under(network, part).items()
        if network.graph.nodes[node].reached is not False
        for name, tensor in module.state_dict(keep_vars=True).items()
    }


def kinds_of(nodes: set[str]) -> list[set[str]]:
    """The nodes, or where there are blocks of both kinds, the nodes without those of each."""
    blocks: dict[str, set[str]] = {}
    for node in nodes:
        place = _RESNET.fullmatch(node)
        if place is not None:
            blocks.setdefault(place["kind"], set()).add(node)
    return [nodes - other for other in blocks.values()] if len(blocks) > 1 else [nodes]


def _filled(
    network: Supernet,
    part: str,
    wanted: Mapping[Key, Tensor],
    sources: Mapping[Key, str],
    tensors: Mapping[str, Tensor],
    file: str,
) -> str:
    where = f"`{part}`" if part else "the network"
    missing = [k for k in wanted if k not in sources and not is_counter(k[1]) and not _is_head(network, k, part)]
    if missing:
        shown = _some([f"`{node}` ({name}, {_shape(wanted[node, name])})" for node, name in missing])
        known = "files have names for `resnet`, `resnext` and `mobilenet_v2` of the library"
        message = f"{file} lacks {_count(len(missing), len(wanted))} of {where}: {shown}"
        parts = f'`init: {{ backbone: "{file}" }}`, or take what there is, `init: {{ matching: "{file}" }}`'
        help = f"name the part that it is of, as in {parts}; {known}"
        raise error("bad-weights", message, None, help=help)
    wrong = _differing(wanted, sources, tensors)
    modules = {name.rpartition(".")[0] for name in sources.values()}
    left = _unused(sources, tensors)
    beside = [name for name in left if name.rpartition(".")[0] in modules]
    wrong += [f"`{name}` ({_shape(tensors[name])}) has no place in its layer" for name in beside]
    if wrong:
        message = f"{file} does not fit {where}: {_count(len(wrong), len(wanted))} differ: {_some(wrong)}"
        help = "a supernet takes a file of its largest architecture, with the same kind of norm"
        raise error("bad-weights", message, None, help=help)
    _copy(wanted, sources, tensors)
    text = f"{where}: {_count(len(sources), len(wanted))} are from {file}"
    fresh = [f"`{node}` ({name})" for node, name in wanted if (node, name) not in sources and not is_counter(name)]
    if fresh:
        text += f"; fresh stay {_some(fresh)}"
    other = [name for name in left if not is_of_a_classifier(name)]
    if len(other) < len(left):
        text += f"; its classifier ({len(left) - len(other)} tensors) is not used"
    return text + _without_place(other, tensors)


def matched(
    network: Supernet, part: str, wanted: Mapping[Key, Tensor], tensors: Mapping[str, Tensor]
) -> dict[Key, str]:
    """The name in the file of each tensor of a part, in the scheme of names that finds most of them."""
    nodes = list(dict.fromkeys(node for node, _ in wanted))
    heads = {key: _head(key, wanted, tensors) for key in wanted if _is_head(network, key, part)}
    schemes = (resnet_names(nodes), mobilenet_names(nodes, False), mobilenet_names(nodes, True))
    calls = [{key: names[key[0]].of(key[1]) for key in wanted if key[0] in names} for names in schemes]
    own = {(node, name): f"layers.{key_of(network.graph.nodes[node].weight)}.{name}" for node, name in wanted}
    best: dict[Key, str] = {}
    for names, more in [*((one, heads) for one in calls), (own, {})]:
        for prefix in prefixes(names.values(), tensors):
            found = {key: prefix + name for key, name in names.items() if prefix + name in tensors}
            if found:
                found |= {key: head for key, head in more.items() if head}
            if len(found) > len(best):
                best = found
    return best


def prefixes(wanted: Iterable[str], tensors: Mapping[str, Tensor]) -> Sequence[str]:
    """What may stand before the names in a file: nothing, or as in a detector of torchvision `backbone.body.`."""
    first = next(iter(wanted), None)
    if first is None:
        return ()
    return ("", *sorted((name.removesuffix(first) for name in tensors if name.endswith(f".{first}")), key=len))


def _is_head(network: Supernet, key: Key, part: str) -> bool:
    """Whether a tensor is of the last layer of a whole classifier, which need not be in a file."""
    return part == WHOLE and network.graph.nodes[key[0]].op == "classify"


def _head(key: Key, wanted: Mapping[Key, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """The same tensor of the file's last layer, where that has as many classes; else nothing."""
    names = [f"{head}.{key[1].removeprefix('linear.')}" for head in CLASSIFIERS]
    return next((name for name in names if name in tensors and tensors[name].shape == wanted[key].shape), "")


def is_counter(name: str) -> bool:
    return name.endswith(COUNTER)


def _count(some: int, whole: int) -> str:
    return f"{some:,} of {whole:,} tensors"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST_TOLD:,} more" if len(texts) > MOST_TOLD else ""
    return ", ".join(texts[:MOST_TOLD]) + more


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
