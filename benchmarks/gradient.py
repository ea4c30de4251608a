"""Steps of the search by gradient: one path against the same network alone, all options against DARTS by hand.

    python -m benchmarks gradient

One path at a time, a step of the weights and a step of the choices, each with the time to set a new path, take turns
with a step of the sampled architecture taken out of the supernet. A hundred other paths were set before, as in a search
after its first steps: by then nearly every layer has been run in each of its settings. The mixture of all options takes
turns with a network of the same layout, weights and data whose selections are `MixedOp` as in the DARTS paper: the sum
of all outputs, each times its weight. The clock is that of the process; what counts is the median of ratios. Memory is
the most that tensors have at once during a step beyond what they have between steps.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

import nasdsl
from benchmarks.measure import RESULTS, interleaved, peak, ratio, report, table
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.relaxed import Relaxed

PATHS = (
    ("nasbench201", 16),
    ("autofpn_small", 2),
    ("autofpn_small", 8),
    ("hitdetector_small", 2),
    ("hitdetector_small", 8),
)
MIXTURES = ((16, 16), (16, 32))
"""Channels of the first stage, images of a batch."""
BEFORE = 100
"""Paths that are set before the clock runs."""
GOAL, MIXED_GOAL, MEMORY_GOAL = 1.15, 1.05, 1.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Steps of searches by gradient against networks alone, and against DARTS by hand."
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default: 9)")
    parser.add_argument("--subnets", type=int, default=6, help="random architectures of each space (default: 6)")
    parser.add_argument("--quick", action="store_true", help="the first case of each table only, with a few images")
    parser.add_argument("--no-write", action="store_true", help="print the tables only")


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    paths = ((PATHS[0][0], 2),) if args.quick else PATHS
    mixtures = ((4, 2),) if args.quick else MIXTURES
    sections = [
        ("One path at a time", one_path(paths, args.subnets, args.repeats)),
        ("All options", all_options(mixtures, args.repeats)),
    ]
    report("gradient", "Steps of searches by gradient", sections, None if args.no_write else RESULTS)


# --- One path ---------------------------------------------------------------------------------------------------------


def one_path(cases: Sequence[tuple[str, int]], subnets: int, repeats: int) -> str:
    """The table."""
    rows = []
    for name, images in cases:
        space = nasdsl.load(name)
        found = [path_times(space, images, one, repeats) for one in nasdsl.sample(space, subnets, seed=0)]
        ratios = {side: [ratio(times, side, "alone") for times in found] for side in ("weights", "choices")}
        rows.append(
            (
                name,
                str(images),
                *(
                    f"{1000 * statistics.median(statistics.median(one[side]) for one in found):.1f}"
                    for side in ("alone", "weights", "choices")
                ),
                *(f"{statistics.median(ratios[side]):.3f}" for side in ("weights", "choices")),
                f"{max(ratios['weights']):.3f}",
            )
        )
    head = ("space", "images", "alone, ms", "weights, ms", "choices, ms", "ratio", "ratio of choices", "largest ratio")
    return table(head, rows) + f"\n\nTimes are medians over architectures. Goal: a ratio of at most {GOAL:.2f}."


def path_times(space: nasdsl.Space, images: int, one: nasdsl.Architecture, repeats: int) -> dict[str, list[float]]:
    """Seconds of the steps of an architecture."""
    torch.manual_seed(0)
    network = Relaxed(space.graph).train()
    alone = network.extract(one)
    logits = {path: torch.zeros(len(values), requires_grad=True) for path, values in network.gates.values.items()}
    everything = list(network.parameters())
    loss = loss_of(space.graph, images)

    def sure_of(some: nasdsl.Architecture) -> dict[str, torch.Tensor]:
        return {
            path: F.one_hot(torch.tensor(values.index(some.indices.get(path, values[0]))), len(values)).float()
            for path, values in network.gates.values.items()
        }

    def weighed() -> dict[str, torch.Tensor]:
        soft = {path: one.softmax(0) for path, one in logits.items()}
        return {path: hard + (soft[path] - soft[path].detach()) for path, hard in sure.items()}

    for other in nasdsl.sample(space, BEFORE, seed=1):
        network.relax(sure_of(other))
    sure = sure_of(one)

    def stepper(model: nn.Module) -> Callable[[], None]:
        optimiser = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

        def step() -> None:
            optimiser.zero_grad(set_to_none=True)
            loss(model).backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        return step

    step = stepper(network)

    def weights() -> None:
        network.relax(sure)
        step()

    def choices() -> None:
        network._programs.clear()  # no path comes again in a large space, though its layers do
        for parameter in everything:
            parameter.requires_grad_(False)
        network.relax(weighed())
        loss(network).backward()  # type: ignore[no-untyped-call]
        for parameter in everything:
            parameter.requires_grad_(True)

    return interleaved({"alone": stepper(alone), "weights": weights, "choices": choices}, repeats, cpu=True)


def loss_of(graph: Graph, images: int) -> Callable[[nn.Module], torch.Tensor]:
    """The loss of a network on random images of a classifier or a detector."""
    shape = graph.input.shape
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(images, shape.channels, shape.height, shape.width, generator=generator)
    if not any(node.op.startswith("detect_") for node in graph.nodes.values()):
        labels_B = torch.randint(10, (images,), generator=generator)
        return lambda network: F.cross_entropy(network(x_BCHW), labels_B)
    corner = torch.rand(images, 4, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 12 + torch.rand(images, 4, 2, generator=generator) * 40], 2)
    targets = {"boxes": boxes, "labels": torch.randint(10, (images, 4), generator=generator)}
    return lambda network: torch.stack(list(network(x_BCHW, targets).values())).sum()


# --- All options ------------------------------------------------------------------------------------------------------


class MixedOp(nn.Module):
    """DARTS paper: the outputs of all candidates of an edge, each times its weight. The candidates are those of
    NAS-Bench-201: none, skip, two convolutions, average pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ops = nn.ModuleList(
            [
                Nothing(),
                nn.Identity(),
                nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)),
                nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)),
                nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            ]
        )

    def forward(self, x_BCHW: torch.Tensor, weights_K: torch.Tensor) -> torch.Tensor:
        return sum(w * op(x_BCHW) for w, op in zip(weights_K, self.ops, strict=True))


class Nothing(nn.Module):
    """The paper's `Zero`."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW.mul(0.0)


class Cell(nn.Module):
    """Four nodes, each the sum of mixtures of all before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList([MixedOp(channels) for _ in range(6)])

    def forward(self, x_BCHW: torch.Tensor, weights_EK: torch.Tensor) -> torch.Tensor:
        states, number = [x_BCHW], 0
        for _ in range(3):
            node: torch.Tensor | int = 0
            for state in states:
                node = node + self.edges[number](state, weights_EK[number])
                number += 1
            states.append(node)  # type: ignore[arg-type]
        return states[-1]


class Reduction(nn.Module):
    """Halves the resolution and doubles the width, by a residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        out = 2 * channels
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, out, 3, 2, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(channels, out, 1, bias=False))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.body(x_BCHW) + self.shortcut(x_BCHW)
        return made


class Darts(nn.Module):
    """The search network of NAS-Bench-201, with one cell a stage: weights [edges, candidates] are shared by all."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        self.stages = nn.ModuleList(
            [Cell(width), Reduction(width), Cell(2 * width), Reduction(2 * width), Cell(4 * width)]
        )
        self.last = nn.Sequential(nn.BatchNorm2d(4 * width), nn.ReLU())
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x_BCHW: torch.Tensor, weights_EK: torch.Tensor) -> torch.Tensor:
        x_BCHW = self.stem(x_BCHW)
        for stage in self.stages:
            x_BCHW = stage(x_BCHW, weights_EK) if isinstance(stage, Cell) else stage(x_BCHW)
        made: torch.Tensor = self.head(self.last(x_BCHW).mean((2, 3)))
        return made


def pair(width: int) -> tuple[Relaxed, Darts]:
    """The relaxed space and the network by hand, with the same weights: both make them in the order of the layers."""
    graph = nasdsl.load("nasbench201", cells="1", width=str(width)).graph
    ours = Relaxed(graph)
    theirs = Darts(width, 10)
    modules = [
        [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
        for network in (ours, theirs)
    ]
    for one, other in zip(*modules, strict=True):
        other.load_state_dict(one.state_dict())
    return ours, theirs


def all_options(cases: Sequence[tuple[int, int]], repeats: int) -> str:
    """The table."""
    rows = []
    for width, images in cases:
        steps = mixture_steps(width, images)
        times = interleaved(steps, repeats, cpu=True)
        peaks = {name: peak(call) / 2**20 for name, call in steps.items()}
        rows.append(
            (
                f"{images} x 32 x 32, {width} channels",
                *(f"{1000 * statistics.median(times[name]):.1f}" for name in steps),
                f"{ratio(times, 'nasdsl', 'by hand'):.3f}",
                *(f"{peaks[name]:.1f}" for name in steps),
                f"{peaks['nasdsl'] / peaks['by hand']:.3f}",
            )
        )
    head = ("batch", "ours, ms", "by hand, ms", "ratio", "ours, MiB", "by hand, MiB", "ratio of memory")
    goal = f"Goal: ratios of at most {MIXED_GOAL:.2f}, and of memory of at most {MEMORY_GOAL:.0f}."
    return f"{table(head, rows)}\n\nFive candidates on each of six edges of three cells. {goal}"


def mixture_steps(width: int, images: int) -> Mapping[str, Callable[[], None]]:
    """A step of weights and logits together, of both."""
    torch.manual_seed(0)
    ours, theirs = pair(width)
    x_BCHW, labels_B = torch.randn(images, 3, 32, 32), torch.randint(10, (images,))
    logits_EK = torch.zeros(len(ours.gates.values), 5, requires_grad=True)

    def run(network: nn.Module) -> torch.Tensor:
        weights_EK = logits_EK.softmax(1)
        if isinstance(network, Relaxed):
            network.relax(dict(zip(network.gates.values, weights_EK, strict=True)))
            return F.cross_entropy(network(x_BCHW), labels_B)
        return F.cross_entropy(network(x_BCHW, weights_EK), labels_B)

    def stepper(network: nn.Module) -> Callable[[], None]:
        optimiser = torch.optim.SGD([*network.parameters(), logits_EK], 1e-9, momentum=0.9)

        def step() -> None:
            optimiser.zero_grad(set_to_none=True)
            run(network).backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        return step

    return {"nasdsl": stepper(ours), "by hand": stepper(theirs)}
