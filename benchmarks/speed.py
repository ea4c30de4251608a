"""Training steps: the compiled supernet against one written by hand, and what is left of it after a search.

    python -m benchmarks speed

All rivals of a table take turns in one process on one thread, with the same weights and data. What counts is the ratio,
the median over all rounds. On a CPU the clock is that of the process, which leaves out what other processes take.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import random
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import nasdsl
from benchmarks.handwritten import HRNAS, Layout, copy_weights
from benchmarks.measure import RESULTS, interleaved, ratio, report, table
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.sample import sample
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet, key_of

SPACES = Path(nasdsl.__file__).resolve().parent / "spaces"
CASES = (("small_cifar", 64, 32), ("hrnas_small", 16, 64), ("hrnas_small", 8, 96))
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
Call = Callable[[], object]


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Training steps of supernets, hand-written ones, shrunk ones and extracted networks."
    parser.add_argument("--repeats", type=int, default=15, help="rounds of each table (default: 15)")
    parser.add_argument("--device", default="cpu", help="`cpu` (the default) or `cuda`")
    parser.add_argument("--share", type=float, default=0.3, help="the share of the MACs left after shrinking")
    parser.add_argument("--quick", action="store_true", help="the first case only, with a few images")
    parser.add_argument("--no-write", action="store_true", help="print the tables only")


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    cases = ((CASES[0][0], 4, 32),) if args.quick else CASES
    device = torch.device(args.device)
    sections = [
        ("Supernet against a hand-written one", against_handwritten(cases, device, args.repeats)),
        (f"Shrunk to {args.share:.0%} of the MACs", after_shrinking(cases, device, args.repeats, args.share)),
        ("A sampled part of the supernet", sampled(cases, device, args.repeats)),
        ("Depthwise convolutions", depthwise(device, args.repeats, args.quick)),
    ]
    report("speed", "Speed of training steps", sections, None if args.no_write else RESULTS)


# --- Networks ---------------------------------------------------------------------------------------------------------


def layout_of(space: Space) -> Layout:
    """The hand-written network's layout for a space of the HR-NAS family.

    Raises:
        ValueError: nobody wrote that form by hand.
    """
    p = {name: getattr(value, "word", value) for name, value in space.params.items()}
    dense = p["task"] == "segmentation"
    if p["task"] not in ("segmentation", "classification") or (p["ending"] == "deep" and not dense):
        raise ValueError(f"no hand-written network for {p['task']} with a {p['ending']} ending")
    paper = (p["project"], p["position"], p["bias"], p["decoder_residual"]) == ("before", "unit", True, "query")
    code = (p["project"], p["position"], p["bias"], p["decoder_residual"]) == ("after", "centred", False, "encoder")
    if not paper and not code:
        raise ValueError("the hand-written transformer has the paper's form or the code's")
    return Layout(
        classes=p["classes"],
        stem=p["stem_width"],
        entry=p["entry"],
        base=p["base"],
        finest=int(1 / p["finest"]),
        blocks=p["blocks"],
        stages=p["stages"],
        expand=p["expand"],
        tokens=p["tokens"],
        widen=p["widen"],
        shortcut=p["shortcut"],
        momentum=float(p["momentum"]),
        enter=p["enter"],
        everywhere=p["attention"] == "all",
        paper=paper,
        joint=p["joint"] if p["ending"] == "deep" else 0,
        dense=dense,
        eps=float(p["eps"]),
    )


def by_hand(supernet: Supernet, space: Space) -> HRNAS:
    """The hand-written twin of a supernet, with its weights."""
    network = HRNAS(layout_of(space))
    nodes = supernet.graph.nodes
    copy_weights({name: supernet.layers[key_of(nodes[name].weight)] for name in supernet.settings}, network)
    return network


def load(name: str, file: str = "hrnas_small") -> Space:
    return nasdsl.load(SPACES / f"{file}.space", name)


def kept_units(space: Space, share: float, seed: int = 0) -> dict[str, tuple[int, ...]]:
    """Random units of every decision, so many that the MACs are that share of the supernet's."""
    generator = random.Random(seed)
    orders = {}
    for path, decision in space.graph.decisions.items():
        if decision.kind == "units":
            order = list(range(decision.n))
            generator.shuffle(order)
            orders[path] = order
    whole = largest_values(space.graph)
    aim = share * cost_of(space.graph, whole)["macs"]

    def kept(part: float) -> dict[str, tuple[int, ...]]:
        return {path: tuple(sorted(order[: max(1, round(part * len(order)))])) for path, order in orders.items()}

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if cost_of(space.graph, {**whole, **kept(middle)})["macs"] > aim:
            high = middle
        else:
            low = middle
    return kept(low)


def exported(network: Supernet) -> nn.Module:
    """The network as `nasdsl export` writes it: a Python file that knows torch only, read back."""
    from nasdsl.runtime.export import export_python

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.py"
        export_python(network, path)
        spec = importlib.util.spec_from_file_location("exported", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.load()


# --- Steps ------------------------------------------------------------------------------------------------------------


def batch(space: Space, images: int, size: int, network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images (B C H W) and labels in the shape of what the network gives."""
    x_BCHW = torch.randn(images, 3, size, size)
    with torch.no_grad():
        shape = network(x_BCHW[:1].to(next(network.parameters()).device)).shape
    return x_BCHW, torch.randint(0, shape[1], (images, *shape[2:]))


def stepper(network: nn.Module, x_BCHW: torch.Tensor, labels: torch.Tensor, layout: str, device: torch.device) -> Call:
    """One training step: forward, loss, backward, AdamW."""
    network = network.to(device).to(memory_format=FORMATS[layout]).train()  # type: ignore[call-overload]
    x, y = x_BCHW.to(device).contiguous(memory_format=FORMATS[layout]), labels.to(device)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4, foreach=True)

    def step() -> None:
        loss = F.cross_entropy(network(x), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def activations(network: nn.Module, x_BCHW: torch.Tensor) -> int:
    """Bytes that one forward pass keeps for its backward pass, parameters aside; each piece of memory counts once."""
    held: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(x_BCHW)
    del out
    return sum(held.values())


def weights(network: nn.Module) -> int:
    return sum(p.nbytes for p in network.parameters())


def mebibytes(size: int) -> str:
    return f"{size / 2**20:.2f}"


def milliseconds(times: list[float]) -> str:
    return f"{1000 * statistics.median(times):.1f}"


Cases = tuple[tuple[str, int, int], ...]


# --- Tables -----------------------------------------------------------------------------------------------------------


def against_handwritten(cases: Cases, device: torch.device, repeats: int) -> str:
    rows = []
    for name, images, size in cases:
        space = load(name)
        supernet = nasdsl.supernet(space)
        hand = by_hand(supernet, space)
        x_BCHW, labels = batch(space, images, size, supernet)
        for layout, form in FORMATS.items():
            networks = {"nasdsl": copy.deepcopy(supernet), "hand": copy.deepcopy(hand)}
            steps = {key: stepper(network, x_BCHW, labels, layout, device) for key, network in networks.items()}
            times = interleaved(steps, repeats, cpu=device.type == "cpu")
            x = x_BCHW.to(device).contiguous(memory_format=form)
            held = {key: activations(network, x) for key, network in networks.items()}
            rows.append(
                (
                    name,
                    f"{images} x {size} x {size}",
                    layout,
                    milliseconds(times["nasdsl"]),
                    milliseconds(times["hand"]),
                    f"{ratio(times, 'nasdsl', 'hand'):.3f}",
                    mebibytes(held["nasdsl"]),
                    mebibytes(held["hand"]),
                )
            )
    head = ("space", "batch", "layout", "nasdsl, ms", "by hand, ms", "ratio", "activations, MiB", "by hand, MiB")
    return table(head, rows) + "\n\nGoal: a ratio of at most 1.0."


def after_shrinking(cases: Cases, device: torch.device, repeats: int, share: float) -> str:
    rows = []
    for name, images, size in cases:
        space = load(name)
        supernet = nasdsl.supernet(space)
        whole, kept = largest_values(space.graph), kept_units(space, share)
        values = {**whole, **kept}
        part = cost_of(space.graph, values)["macs"] / cost_of(space.graph, whole)["macs"]
        shrunk = copy.deepcopy(supernet)
        shrunk.shrink(kept)
        alone = supernet.extract(values)
        plain = exported(alone)
        x_BCHW, labels = batch(space, images, size, supernet)
        networks = {"supernet": supernet, "shrunk": shrunk, "extracted": alone, "exported": plain}
        steps = {key: stepper(network, x_BCHW, labels, "channels_last", device) for key, network in networks.items()}
        times = interleaved(steps, repeats, cpu=device.type == "cpu")
        x = x_BCHW.to(device).contiguous(memory_format=torch.channels_last)
        for key, network in networks.items():
            rows.append(
                (
                    name,
                    f"{images} x {size} x {size}",
                    key,
                    f"{1 if key == 'supernet' else part:.3f}",
                    milliseconds(times[key]),
                    f"{ratio(times, key, 'extracted'):.3f}",
                    mebibytes(weights(network)),
                    mebibytes(activations(network, x)),
                )
            )
    head = ("space", "batch", "network", "MACs", "ms", "by extracted", "weights, MiB", "activations, MiB")
    return table(head, rows) + "\n\nGoal: the shrunk supernet takes at most 1.05 times what the networks alone take."


def sampled(cases: Cases, device: torch.device, repeats: int) -> str:
    rows = []
    for name, images, size in cases:
        space = load(name)
        supernet = nasdsl.supernet(space)
        values = sample(space.graph, 1, 0)[0]
        alone = supernet.extract(values)
        supernet.activate(values)
        x_BCHW, labels = batch(space, images, size, supernet)
        networks = {"part": supernet, "alone": alone}
        steps = {key: stepper(network, x_BCHW, labels, "channels_last", device) for key, network in networks.items()}
        times = interleaved(steps, repeats, cpu=device.type == "cpu")
        both = (milliseconds(times["part"]), milliseconds(times["alone"]), f"{ratio(times, 'part', 'alone'):.3f}")
        rows.append((name, f"{images} x {size} x {size}", *both))
    return table(("space", "batch", "activated, ms", "extracted, ms", "ratio"), rows)


def depthwise(device: torch.device, repeats: int, quick: bool) -> str:
    """Forward and backward pass of depthwise convolutions, torch's and the one that the layers use."""
    from nasdsl.compiler.layers.conv import Depthwise

    rows = []
    sizes = ((64, 16, 8, 1), (64, 32, 4, 1), (64, 64, 2, 1), (16, 16, 16, 1), (16, 16, 16, 2), (8, 72, 32, 1))
    for images, channels, size, stride in sizes[:1] if quick else sizes:
        for kernel in (3, 5, 7):
            cells = [f"{images} x {channels} x {size} x {size}", f"{kernel}", f"{stride}"]
            for layout in FORMATS:
                form = FORMATS[layout]
                ours = Depthwise(channels, kernel, stride).to(device).to(memory_format=form)  # type: ignore[call-overload]
                theirs = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
                theirs = theirs.to(device).to(memory_format=form)  # type: ignore[call-overload]
                x = torch.randn(images, channels, size, size, device=device).contiguous(memory_format=form)
                x.requires_grad_()
                rivals: dict[str, Call] = {"ours": passes(ours, x), "torch": passes(theirs, x)}
                times = interleaved(rivals, repeats, cpu=device.type == "cpu")
                cells += [f"{1000 * statistics.median(times[key]):.2f}" for key in rivals]
                cells.append(f"{ratio(times, 'ours', 'torch'):.2f}")
            rows.append(cells)
    heads = [f"{word}, {layout}" for layout in FORMATS for word in ("ms", "torch", "ratio")]
    return table(["input", "kernel", "stride", *heads], rows)


def passes(layer: nn.Module, x_BCHW: torch.Tensor) -> Call:
    """A layer's forward and backward pass."""

    def run() -> None:
        y_BCHW = layer(x_BCHW)
        y_BCHW.backward(torch.ones_like(y_BCHW))
        if x_BCHW.is_cuda:
            torch.cuda.synchronize()

    return run
