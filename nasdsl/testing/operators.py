"""What operators are held to: torch's shapes, parameters and operations, and weights that are parts of larger ones."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.operator import REQUIRED, Made, Operator
from nasdsl.compiler.values.tree import evaluate
from nasdsl.testing.contract import ContractError, require
from nasdsl.testing.networks import size_of, torch_macs

Setting: TypeAlias = tuple[Sequence[Shape], Mapping[str, Any]]
"""Shapes of inputs, and the parameters that are given."""

TYPES = {
    "int", "positive", "odd", "number", "bool", "symbol", "width", "widths", "scale", "list", "string", "any",
}  # fmt: skip
"""What a parameter may be, in words of the language."""


def check_operator(
    op: Operator, settings: Iterable[Setting], *, sharing: Iterable[tuple[Setting, Setting]] = ()
) -> None:
    """Holds an operator to its word: it and its parameters say what they are; in each setting its rules predict the
    shape, the parameters and the MACs that torch finds, and its module learns; and a smaller setting finds its weights
    among a larger one's.

    Args:
        settings: shapes of inputs and parameters, at least one: `[([Shape(8, 16, 16, 1)], {"out": 12})]`. Choose sizes
            that differ, so that one taken for another shows.
        sharing: pairs of a larger setting and a smaller one.

    Raises:
        ContractError: something does not hold.
    """
    check_words(op)
    tried = list(settings)
    require(tried, f"`{op.name}` is tried in no setting")
    for inputs, given in tried:
        check_setting(op, inputs, given)
        attrs = attrs_of(op, given)
        for key, index in op.shares(attrs, attrs, inputs, inputs).items():
            whole = build(op, inputs, attrs).state_dict().get(key)
            if whole is None:
                raise ContractError(f"`{op.name}` shares `{key}`, which it has not")
            same = all(_is_all(part, size) for part, size in zip(index, whole.shape, strict=False))
            require(same, f"`{op.name}` does not share all of `{key}` with the same setting: {index}")
    for larger, smaller in sharing:
        check_sharing(op, larger, smaller)


def _is_all(part: Any, size: int) -> bool:
    """Whether the entries of an axis are all that there are, in their order."""
    if isinstance(part, slice):
        return list(range(size))[part] == list(range(size))
    return part is None or list(part) == list(range(size))


def check_words(op: Operator) -> None:
    """An operator and its parameters say what they are, in a line each."""
    name = op.name
    require(name.isidentifier(), f"`{name}` is no name of the language")
    require(op.doc and "\n" not in op.doc, f"`{name}` does not say in one line what it is")
    require(len({p.name for p in op.params}) == len(op.params), f"`{name}` has two parameters of one name")
    for param in op.params:
        told = param.doc and "\n" not in param.doc
        require(told, f"`{param.name}` of `{name}` does not say in one line what it is")
        require(param.type in TYPES, f"`{param.name}` of `{name}` is of the type `{param.type}`, which there isn't")
        if param.type == "symbol":
            known = param.choices and (param.default is REQUIRED or str(param.default) in param.choices)
            require(known, f"`{param.name}` of `{name}` is a word, and its default is none of its choices")


def attrs_of(op: Operator, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters, by their defaults where they are not given."""
    unknown = set(given) - {p.name for p in op.params}
    require(not unknown, f"`{op.name}` has no parameter {', '.join(sorted(unknown))}")
    attrs = {p.name: p.default for p in op.params} | dict(given)
    missing = [name for name, value in attrs.items() if value is REQUIRED]
    require(not missing, f"a setting of `{op.name}` does not say what {', '.join(missing)} is")
    return attrs


def build(op: Operator, inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> nn.Module:
    """The module of a setting."""
    module, name = op.module.split(":")
    arguments = op.arguments(inputs, op.shape(inputs, attrs), attrs)
    made: nn.Module = getattr(importlib.import_module(module), name)(**arguments)
    return made


def sizes_of(shape: Shape) -> tuple[int, ...]:
    return tuple(n for n in (shape.channels, shape.height, shape.width) if n is not None)


def random_input(shape: Shape, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch * shape.items, *sizes_of(shape))


def check_setting(op: Operator, inputs: Sequence[Shape], given: Mapping[str, Any]) -> None:
    """A setting has the shape, the parameters and the MACs that its rules predict, and can learn."""
    attrs = attrs_of(op, given)
    where = f"`{op.name}` of {[sizes_of(x) for x in inputs]} with {dict(given)}"
    for held, problem in op.must(inputs, attrs):
        require(held is not False, f"{where}: {problem.message}")
    predicted = op.shape(inputs, attrs)
    cost = op.cost(inputs, predicted, attrs)
    module = build(op, inputs, attrs).eval()
    macs, output = torch_macs(module, *[random_input(x) for x in inputs])
    shape, found = (predicted.items, *sizes_of(predicted)), size_of(output)
    require(found == shape, f"{where}: the shape is predicted as {shape}, and torch gives {found}")
    params = sum(p.numel() for p in module.parameters())
    require(cost.params == params, f"{where}: {cost.params} parameters are predicted, and torch has {params}")
    whole = cost.macs * predicted.items
    require(whole == macs, f"{where}: {whole} MACs are predicted, and torch counts {macs}")
    numbers = (*cost, *sizes_of(predicted), predicted.items)
    require(all(type(n) is int for n in numbers), f"{where}: a prediction is no whole number: {numbers}")
    require(evaluate(op.alive(attrs), {}) is True, f"{where}: it is said to have no output")
    module.train()
    if all(n > 1 for n in sizes_of(inputs[0])):  # else a norm has nothing to go by
        _learns(module, [random_input(x, batch=2) for x in inputs], where)


def _learns(module: nn.Module, inputs: list[torch.Tensor], where: str) -> None:
    for tensor in inputs:
        tensor.requires_grad_(True)
    output = module(*inputs)
    if not isinstance(output, torch.Tensor) or not output.requires_grad:
        return
    require(output.isfinite().all(), f"{where}: in training the output holds what is no finite number")
    output.sum().backward()  # type: ignore[no-untyped-call]
    gradients = [one.grad for one in (*module.parameters(), *inputs) if one.grad is not None]
    require(all(one.isfinite().all() for one in gradients), f"{where}: a gradient holds what is no finite number")


def unsettle(module: nn.Module) -> nn.Module:
    """Norms as they are after training."""
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.dim() == 1 and "grid" not in name:
                tensor.uniform_(0.5, 1.5)
    return module


def check_sharing(op: Operator, larger: Setting, smaller: Setting) -> tuple[nn.Module, nn.Module]:
    """The weights of a smaller setting are entries of a larger one's, or made of them.

    Returns:
        the modules of both, the smaller with what it shares, in evaluation mode.

    Raises:
        ContractError: a weight has no place in the larger one, or another size.
    """
    inputs, small_inputs = larger[0], smaller[0]
    full_attrs, small_attrs = attrs_of(op, larger[1]), attrs_of(op, smaller[1])
    full = unsettle(build(op, inputs, full_attrs))
    small = build(op, small_inputs, small_attrs)
    shares = op.shares(full_attrs, small_attrs, inputs, small_inputs)
    state, own = full.state_dict(), small.state_dict()
    unknown = set(shares) - set(own)
    require(not unknown, f"`{op.name}` shares {', '.join(sorted(unknown))}, which the smaller setting has not")
    for key, tensor in own.items():
        require(key in state, f"`{op.name}`: the larger setting has no `{key}`")
        index = shares.get(key)
        whole = state[key] if index is None else _taken(full, key, state[key], index)
        sizes = tuple(whole.shape), tuple(tensor.shape)
        require(sizes[0] == sizes[1], f"`{op.name}`: of `{key}` {sizes[0]} are shared, and {sizes[1]} are needed")
        own[key] = whole
    small.load_state_dict(own)
    return full.eval(), small.eval()


def _taken(full: nn.Module, key: str, whole: torch.Tensor, index: Sequence[Any]) -> torch.Tensor:
    """The entries of a weight, or what the larger module makes of them."""
    require(len(index) == whole.dim(), f"of `{key}` {len(index)} axes are shared, and it has {whole.dim()}")
    require(any(part is not None for part in index) or isinstance(index, Made), f"all of `{key}` is shared, and named")
    for axis, part in enumerate(index):
        if isinstance(part, tuple):
            beyond = [entry for entry in part if not 0 <= entry < whole.shape[axis]]
            require(not beyond, f"of `{key}` entry {beyond[0] if beyond else 0} is shared, which there isn't")
            whole = whole.index_select(axis, torch.tensor(part, dtype=torch.long))
        elif part is not None:
            whole = whole[(slice(None),) * axis + (part,)]
    if isinstance(index, Made):
        method = getattr(full, "made", None)
        if method is None:
            raise ContractError(f"`{key}` is made of a larger one, and the module has no method `made`")
        whole = method(key, whole, index.to)
    return whole
