"""Networks with the weights that a file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nasdsl.compiler.architecture import Architecture, ArchitectureError, value_of
from nasdsl.compiler.diagnostics import CompileError, error
from nasdsl.compiler.space import Space
from nasdsl.compiler.structure import Structure, structure
from nasdsl.compiler.supernet import Supernet, key_of
from nasdsl.compiler.with_params import with_params
from nasdsl.runtime.checkpoint import AboutWeights, load_weights
from nasdsl.runtime.problem import head_of, task_of
from nasdsl.runtime.results import weights_path
from nasdsl.runtime.stored import checked
from nasdsl.runtime.tasks import find_task


def architecture(space: Space) -> Space:
    """The space, if it is an architecture.

    Raises:
        CompileError: it has decisions.
    """
    if space.graph.decisions:
        first = next(iter(space.graph.decisions.values()))
        raise error(
            "not-an-architecture",
            f"`{space.name}` still has {len(space.graph.decisions)} decisions, such as `{first.path}`",
            first.span,
            help="search it first, or pin its decisions",
        )
    return space


def trained_space(space: Space, weights: Path | None = None) -> tuple[Space, Supernet, AboutWeights]:
    """An architecture with its network and weights, as `load_network`. A parameter `classes` of the space is set to the
    number of outputs that the weights are for, where the user has not set it, as `fit_to_data` does.

    Raises:
        CompileError: as `load_network`.
    """
    if "classes" in space.params and "classes" not in space.overrides:
        about = load_weights(_weights_of(space, weights))[1]
        outputs = checked(AboutWeights, about, "the weights", "a file of weights that can be used").outputs
        if outputs is not None and find_task(task_of(space)).outputs_of(head_of(space)) != outputs:
            space = with_params(space, {"classes": str(outputs)})
    return space, *load_network(space, weights)


def _weights_of(space: Space, weights: Path | None) -> Path:
    """
    Raises:
        CompileError: there is no such file.
    """
    if weights is None and space.source.path is None:
        raise error("no-weights", "standard input has no weights beside it", None, help="name a file with `--weights`")
    file = weights or weights_path(space.source.path)  # type: ignore[arg-type]
    if not file.exists():
        raise error(
            "no-weights",
            f"the weights {file} are missing",
            None,
            help="train it with `nasdsl train`, or name a file with `--weights`",
        )
    return file


def load_network(space: Space, weights: Path | None = None, fresh_head: bool = False) -> tuple[Supernet, AboutWeights]:
    """An architecture's network with its weights, and what the weights' file says of itself. Names do not count: the
    same architecture takes them whatever its layers are called.

    Args:
        weights: the file; by default the one beside the space's file.
        fresh_head: leave the head as it is, which may be one for other classes.

    Raises:
        CompileError: the file is no architecture, or its weights are missing or belong to another.
    """
    network = Supernet(architecture(space).graph)
    file = _weights_of(space, weights)
    tensors, metadata = load_weights(file)
    about = checked(AboutWeights, metadata, str(file), "a file of weights that can be used")
    form, wanted = structure(network.graph), network.state_dict()
    if about.architecture is not None:
        tensors = _renamed(tensors, about, form, file, fresh_head)
    if fresh_head and form.heads:
        heads = _in_heads(form)
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
        tensors |= {name: tensor for name, tensor in wanted.items() if name.startswith(heads)}
    wrong = [n for n in wanted if n not in tensors or tensors[n].shape != wanted[n].shape] + [
        n for n in tensors if n not in wanted
    ]
    if wrong:
        raise _of_another(file, about, f"`{wrong[0]}` differs", form, wrong)
    network.load_state_dict(tensors)
    return network.eval(), about


def take_weights(network: Supernet, other: Supernet, space: Space, fresh_head: bool = False) -> None:
    """Gives an architecture's network the weights of another one, of the same architecture or of a space that has it.

    Args:
        space: of the network.
        fresh_head: leave the head as it is.

    Raises:
        CompileError: it is of another architecture.
    """
    if other.graph.decisions:
        known = {} if space.whole is None else space.whole.decisions
        pinned = [path for path in other.graph.decisions if path in space.pins and path in known]
        values = {path: value_of(known[path], space.pins[path]) for path in pinned}
        try:
            other = other.extract(Architecture.of(other.graph, values))
        except ArchitectureError as problem:
            message = f"`{space.name}` is no architecture of the network that is to give its weights"
            raise error("bad-weights", message, None, help=problem.message) from None
    form, wanted = structure(network.graph), network.state_dict()
    theirs = structure(other.graph)
    same = theirs.body == form.body if fresh_head else theirs.whole == form.whole
    if not same or len(theirs.layers) != len(form.layers):
        raise error("bad-weights", "the network that is to give its weights computes otherwise", None)
    names = dict(zip(map(key_of, theirs.layers), map(key_of, form.layers), strict=True))
    found = _named_by(names, other.state_dict())
    if fresh_head and form.heads:
        heads = _in_heads(form)
        found = {name: tensor for name, tensor in found.items() if not name.startswith(heads)}
        found |= {name: tensor for name, tensor in wanted.items() if name.startswith(heads)}
    network.load_state_dict({name: tensor.detach().cpu() for name, tensor in found.items()})
    network.eval()


def _named_by(names: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights under other names of their layers."""
    found = {}
    for name, tensor in tensors.items():
        start, key, rest = (*name.split(".", 2), "", "")[:3]
        found[f"{start}.{names[key]}.{rest}" if start == "layers" and key in names else name] = tensor
    return found


def _renamed(
    tensors: dict[str, torch.Tensor], about: AboutWeights, form: Structure, file: Path, fresh_head: bool
) -> dict[str, torch.Tensor]:
    """Weights of an architecture under the names that its layers have here.

    Raises:
        CompileError: they are of another architecture.
    """
    same = about.body == form.body if fresh_head else about.architecture == form.whole
    if not same or len(about.layers or ()) != len(form.layers):
        layers = [name for name in tensors if name.startswith(_in_heads(form))]
        raise _of_another(file, about, "it computes otherwise", form, layers if about.body == form.body else [])
    if about.units and form.units and about.units != form.units:
        raise _of_another(file, about, "it has other search units", form, [])
    return _named_by(dict(zip(map(key_of, about.layers or ()), map(key_of, form.layers), strict=True)), tensors)


def _in_heads(form: Structure) -> tuple[str, ...]:
    """What the names of the heads' tensors begin with."""
    return tuple(f"layers.{key_of(head)}." for head in form.heads)


def _of_another(file: Path, about: AboutWeights, why: str, form: Structure, wrong: Sequence[str]) -> CompileError:
    """
    Args:
        wrong: names of the tensors that differ.
    """
    if wrong and all(name.startswith(_in_heads(form)) for name in wrong):
        help = "its head has other outputs; `nasdsl train --inherit FILE --fresh-head` begins with a new one"
    elif about.space and about.task:
        help = f"they are of the space `{about.space}`, for {about.task}"
    else:
        help = ""
    return error("bad-weights", f"{file} holds weights of another network: {why}", None, help=help)
