"""Parts of a network by path, as settings name them: `backbone`, `backbone.conv`."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from nasdsl.compiler.cost import lies_under
from nasdsl.compiler.diagnostics import error, suggest
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.source import Span
from nasdsl.compiler.supernet import Supernet, key_of
from nasdsl.runtime.errors import RunError

WHOLE = ""
"""The path of the whole network."""


def check_path(graph: Graph, path: str, setting: str, span: Span | None) -> None:
    """That a part of a network goes by a path.

    Raises:
        CompileError: none does.
    """
    names = [node.name for node in graph.operators()]
    if path == WHOLE or any(lies_under(name, path) for name in names):
        return
    known = {name[:end] for name in names for end in [*_ends(name), len(name)]}
    tops = sorted({name.partition(".")[0].partition("[")[0] for name in names})
    help = suggest(path, known) or f"the network's parts are {', '.join(f'`{top}`' for top in tops)}"
    raise error("unknown-path", f"`{setting}` names no part of the network: `{path}`", span, help=help)


def _ends(name: str) -> Iterable[int]:
    return (at for at, character in enumerate(name) if character in ".[")


def layers_under(network: Supernet, path: str) -> dict[str, nn.Module]:
    """The modules of a part, by the node that first uses each."""
    found: dict[str, nn.Module] = {}
    seen: set[str] = set()
    for node in network.graph.nodes.values():
        key = key_of(node.weight)
        if node.name in network.settings and key not in seen and (path == WHOLE or lies_under(node.name, path)):
            seen.add(key)
            found[node.name] = network.layers[key]
    return found


def frozen_layers(network: Supernet, paths: Iterable[str]) -> list[nn.Module]:
    """The modules of parts that are not trained.

    Raises:
        RunError: one is used outside of them, too.
    """
    paths = tuple(paths)
    modules: dict[str, nn.Module] = {}
    for path in paths:
        for node in layers_under(network, path):
            key = key_of(network.graph.nodes[node].weight)
            modules[key] = network.layers[key]
    for user in network.graph.nodes.values():
        if key_of(user.weight) in modules and not any(lies_under(user.name, path) for path in paths):
            message = f"`{user.name}` shares weights with a part that is frozen, and is not frozen itself"
            raise RunError(message, "freeze both or none")
    return list(modules.values())
