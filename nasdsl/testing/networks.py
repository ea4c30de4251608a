"""Networks built, run and trained for a step, against what was predicted of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from nasdsl.api.given import SpaceLike, space_like
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.graph import Graph, Shape
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.layers.attention import LocalAttention
from nasdsl.compiler.pin import pin
from nasdsl.compiler.sample import sample
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.tree import Case
from nasdsl.testing.contract import require

MEASURES = ("macs", "params", "memory", "access")

Made = torch.Tensor | dict[str, torch.Tensor]
"""What a network gives: a tensor, or the detections of a detector."""


def unsettle(network: torch.nn.Module, seed: int = 7) -> None:
    """Norms as they are after training, so that a wrong slice shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
                for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                    if tensor.dtype == torch.float32:
                        low, high = (-0.2, 0.2) if name in ("bias", "running_mean") else (0.7, 1.3)
                        tensor.uniform_(low, high, generator=generator)


def image_for(graph: Graph, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """An image of the declared size."""
    x = graph.input.shape
    return torch.randn(batch, x.channels, x.height, x.width, generator=torch.Generator().manual_seed(seed))


def output_size(shape: Shape, batch: int) -> tuple[int, ...]:
    """What torch calls the size of a tensor of that shape."""
    pixels = () if shape.height is None else (int(shape.height), int(shape.width))
    return (batch * int(shape.items), int(shape.channels), *pixels)


def size_of(made: Made) -> tuple[int, ...]:
    """The size of a tensor; of detections that of a table with the sides, the score and the label of each.

    Detections come by falling score, and where there are none they have nothing but the label -1.
    """
    if isinstance(made, torch.Tensor):
        return tuple(made.shape)
    boxes, scores, labels = made["boxes"], made["scores"], made["labels"]
    named = list(made) == ["boxes", "scores", "labels"] and labels.dtype == torch.int64
    require(named and boxes.shape == (*scores.shape, 4) and scores.shape == labels.shape, "detections are no table")
    falling = (scores[:, :-1] >= scores[:, 1:]).all() and (boxes[..., :2] <= boxes[..., 2:]).all()
    require(falling, "detections do not come by falling score, or boxes have their corners in another order")
    nothing = ((labels == -1) == (scores == 0)).all() and not boxes[labels == -1].any()
    require(nothing, "what is no detection has a score or a box")
    return scores.numel(), boxes.shape[2] + 2


def tensors_of(made: Made) -> list[torch.Tensor]:
    """What a network gives, one by one."""
    return [made] if isinstance(made, torch.Tensor) else list(made.values())


def least(value: Any) -> int:
    """The least that a number may be by choice."""
    return min(value.values) if isinstance(value, Case) else int(value)


def targets_for(graph: Graph, batch: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random objects of the classes of a detector: on the first image some, and a crowd; on the second, which fills a
    part of the tensor, none; and so on."""
    x = graph.input.shape
    classes = min(least(node.attrs["classes"]) for node in graph.nodes.values() if node.op.startswith("detect_"))
    generator = torch.Generator().manual_seed(seed)
    sides = torch.tensor([int(x.width), int(x.height)])
    corners = torch.rand(batch, 4, 2, generator=generator) * sides * 0.6
    boxes = torch.cat([corners, corners + (0.1 + 0.3 * torch.rand(batch, 4, 2, generator=generator)) * sides], 2)
    labels = torch.randint(classes, (batch, 4), generator=generator)
    labels[1::2], boxes[1::2] = -1, 0.0
    size = torch.tensor([[int(x.height), int(x.width)], [int(x.height) // 2, int(x.width) * 3 // 4]])
    return {
        "boxes": boxes,
        "labels": labels,
        "crowd": torch.tensor([False, False, False, True]).expand(batch, 4),
        "size": size.repeat(-(-batch // 2), 1)[:batch],
    }


def with_what_is_read(network: Supernet, *given: Any) -> tuple[Made, list[torch.Tensor]]:
    """What a network gives, and what its last layer reads: a head that finds nothing shows nothing of the network."""
    steps = network.steps
    read: list[torch.Tensor] = []
    (last,) = [step for step in steps if step.output == network._output]

    def layer(*inputs: torch.Tensor, **told: Any) -> Any:
        read.extend(inputs)
        return last.layer(*inputs, **told)

    network.steps = tuple(replace(step, layer=layer) if step is last else step for step in steps)
    made = network(*given)
    network.steps = steps
    return made, read


def largest(graph: Graph) -> Architecture:
    """The one that a supernet begins with."""
    return Architecture.at(graph, largest_values(graph))


def attention_flops(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    """Of shapes, as torch counts the kernels of GPUs."""
    found: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return found


ON_CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}


def torch_macs(network: torch.nn.Module, *images: torch.Tensor) -> tuple[int, Any]:
    """MACs of a network and its output: torch's count, but of local attention a closed form with all windows full.

    What torch counts there hangs on how the products are taken, which `test_attention.py` looks at. Of the kernels of
    scaled dot product attention it counts those of GPUs; the CPU's computes the same products.
    """
    more: list[int] = []

    def before(module: torch.nn.Module, _: Any) -> None:
        if isinstance(module, LocalAttention):
            more.append(counter.get_total_flops() // 2)

    def after(module: torch.nn.Module, args: Any, _: Any) -> None:
        if isinstance(module, LocalAttention):
            more[-1] += full_windows(module, *args) - counter.get_total_flops() // 2

    # Of all modules: what a supernet takes of its weights runs through modules that it does not show.
    hooks = register_module_forward_pre_hook(before), register_module_forward_hook(after)
    with hooks[0], hooks[1], torch.no_grad(), FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
        out = network(*images)
    return counter.get_total_flops() // 2 + sum(more), out


def full_windows(module: LocalAttention, x: torch.Tensor) -> int:
    """MACs of local attention as its paper counts them: each pixel meets as many keys as its window has places."""
    batch, inputs, height, width = x.shape
    query, value, seen = module.query.out_channels, module.value.out_channels, module.window**2
    located = 1 if module.offsets is None else 2
    return batch * height * width * (inputs * (2 * query + value) + seen * (located * query + value))


def entries(parameter: torch.Tensor, index: Sequence[Any]) -> int:
    """How many entries of a parameter are taken: along each axis a slice, a tensor of indices, or None for all."""
    axes = [*index, *[None] * (parameter.dim() - len(index))]
    parts = [
        size if part is None else len(range(size)[part]) if isinstance(part, slice) else len(part)
        for size, part in zip(parameter.shape, axes, strict=True)
    ]
    return math.prod(parts)


def torch_traffic(network: Supernet, image: torch.Tensor) -> tuple[int, int]:
    """What the layers of the active architecture give for one image, in bytes, and how many numbers they read, weights
    included, and write: from the tensors that come and go."""
    written = read = 0

    def seen(layer: Callable[..., Made]) -> Callable[..., Made]:
        def run(*inputs: torch.Tensor, **told: Any) -> Made:
            nonlocal written, read
            out = layer(*inputs, **told)
            written += sum(tensor.numel() for tensor in tensors_of(out))
            read += sum(x.numel() for x in inputs)
            return out

        return run

    network.steps, steps = tuple(replace(step, layer=seen(step.layer)) for step in network.steps), network.steps
    try:
        with torch.no_grad():
            network(image)
    finally:
        network.steps = steps
    weights = sum(entries(parameter, index) for parameter, index in network.parts())
    return 4 * written, read + weights + written


Build = Callable[[Graph], Supernet]
"""Makes the supernet of a graph, in evaluation mode."""


def built(graph: Graph) -> Supernet:
    """A supernet in evaluation mode."""
    return Supernet(graph).eval()


def check_predictions(graph: Graph, architecture: Architecture, build: Build = built) -> None:
    """One architecture alone has the parameters, MACs, memory traffic and output size that its graph predicts.

    Args:
        build: makes networks.

    Raises:
        ContractError: it has others.
    """
    pinned = pin(graph, architecture.indices)
    require(not pinned.decisions, "an architecture leaves decisions open")
    predicted = cost_of(graph, architecture.indices, names=MEASURES)
    alone = cost_of(pinned, {}, names=MEASURES)
    require(alone == predicted, f"an architecture alone costs {alone}, and in its space {predicted}")
    network = build(pinned)
    params = sum(p.numel() for p in network.parameters())
    require(
        params == predicted["params"], f"{predicted['params']:,} parameters are predicted, and torch has {params:,}"
    )
    macs, out = torch_macs(network, image_for(pinned))
    require(macs == predicted["macs"], f"{predicted['macs']:,} MACs are predicted, and torch counts {macs:,}")
    traffic, told = torch_traffic(network, image_for(pinned)), (predicted["memory"], predicted["access"])
    require(traffic == told, f"{told} bytes kept and numbers moved are predicted, and torch moves {traffic}")
    size, shape = size_of(out), output_size(pinned.nodes[pinned.outputs[0]].shape, 1)
    require(size == shape, f"the output is predicted as {shape}, and torch gives {size}")
    require(all(tensor.isfinite().all() for tensor in tensors_of(out)), "the output holds what is no finite number")


def check_extraction(graph: Graph, *architectures: Architecture, batch: int = 2, build: Build = built) -> None:
    """Networks taken out of the supernet compute what the supernet computes when it is set to them, to 1e-5, and the
    first, if it is a detector, learns what the supernet learns.

    Args:
        batch: images.
        build: makes networks.

    Raises:
        ContractError: they do not.
    """
    supernet = build(graph)
    unsettle(supernet)
    for architecture in architectures:
        supernet.activate(architecture)
        network = supernet.extract()
        pinned = pin(graph, architecture.indices)
        image = image_for(pinned, batch)
        with torch.no_grad():
            whole, whole_read = with_what_is_read(supernet, image)
            alone, alone_read = with_what_is_read(network, image)
        same(tensors_of(whole) + whole_read, tensors_of(alone) + alone_read)
        if network.reads_scene and architecture is architectures[0]:
            check_learning(supernet, network, image, targets_for(pinned, batch))


def check_learning(
    supernet: Supernet, network: Supernet, image: torch.Tensor, targets: dict[str, torch.Tensor]
) -> None:
    """With the same random numbers both have the same losses, and of each weight the same gradient."""
    losses, sums = [], []
    for each in (supernet, network):
        torch.manual_seed(0)
        found = each.train()(image, targets)
        torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
        gradients = [weight.grad for weight in each.parameters() if weight.grad is not None]
        sums.append(torch.stack([torch.linalg.vector_norm(one, dtype=torch.float64) for one in gradients]).norm())
        losses.append({name: loss.detach() for name, loss in found.items()})
        each.zero_grad()
        each.eval()
    require(list(losses[0]) == list(losses[1]), "the network has other losses than the supernet")
    same(list(losses[0].values()), list(losses[1].values()))
    near = sums[0] > 0 and (sums[0] - sums[1]).abs() <= 1e-3 * sums[1].abs()
    require(near, f"the gradients of the supernet are {float(sums[0]):.6g}, those of the network {float(sums[1]):.6g}")


def check_space(space: SpaceLike, architectures: int = 3, seed: int = 0) -> None:
    """Holds what is predicted of a space to torch: of its largest architecture and of some random ones the parameters,
    MACs, memory traffic and output size; and networks taken out of the supernet to the supernet.

    Raises:
        ContractError: something else comes out.
    """
    graph = space_like(space).graph
    some = [largest(graph), *sample(graph, architectures, seed)]
    for one in some:
        check_predictions(graph, one)
    check_extraction(graph, *some)


def same(ones: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    """Tensors are finite and equal up to rounding."""
    for one, other in zip(ones, others, strict=True):
        require(one.shape == other.shape, f"one has the size {tuple(one.shape)}, the other {tuple(other.shape)}")
        require(other.isfinite().all(), "a tensor holds what is no finite number")
        apart, most = float((one - other).abs().max()), 1e-5 * max(1.0, float(one.abs().max()))
        require(
            apart <= most, f"a network taken out is {apart:.2g} from the supernet, and at most {most:.2g} is rounding"
        )
