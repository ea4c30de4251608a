"""The graph of a space as a file for other programs."""

from __future__ import annotations

import io
from pathlib import Path

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.files import to_json
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.space import Space
from nasdsl.runtime.outputs import write_output

FORMATS = ("graphml", "json")


def write_graph(space: Space | Graph, out: Path) -> None:
    """Writes the graph of `as_networkx`: GraphML (`.graphml`), or networkx's node-link form in JSON (`.json`), whose
    lists are `nodes` and `edges`.

    Raises:
        ArgumentError: the file's ending is neither.
    """
    import networkx

    from nasdsl.compiler.as_networkx import as_networkx

    graph = as_networkx(space)
    form = out.suffix.removeprefix(".").lower()
    if form == "graphml":
        text = io.BytesIO()
        networkx.write_graphml(graph, text, named_key_ids=True)
        write_output(out, text.getvalue().decode() + "\n")
    elif form == "json":
        write_output(out, to_json(networkx.node_link_data(graph, edges="edges"), indent=1) + "\n")
    else:
        raise ArgumentError(f"a graph cannot be written as `{out.name}`", "let the name end in .graphml or .json")
