"""The page of `nasdsl explore`, with all that it needs inside."""

from __future__ import annotations

import html
from typing import Any

from nasdsl.compiler import measures
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.declarations import declarations_of
from nasdsl.compiler.graph import Node
from nasdsl.explorer.session import Asked, Session
from nasdsl.overview import shape_of
from nasdsl.page.parts import filled, part, scripts

HERE = "nasdsl.explorer"
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
INSIDE = POLICY.replace("; frame-ancestors 'none'", "")
"""The policy as a page can have it inside."""
LONGEST = 44
"""Characters of an expression that is shown."""
MOST_ALONE = 4096
"""Options whose sizes a page without a server tells."""


def page(session: Session, file: str, served: bool = True) -> str:
    """The page as the text of an HTML file.

    Args:
        file: how the command line called the space's file.
        served: whether a server answers it. Without one it shows the space as it is, and of each option of a choice
            what is left with it alone.
    """
    space = session.space
    graph = space.graph
    like = {path: number for number, one in enumerate(declarations_of(graph)) for path in one.paths}
    places = {name: number for number, name in enumerate(graph.nodes)}
    data: dict[str, Any] = {
        "space": space.name,
        "served": served,
        "why": session.population.why,
        "bound": session.bound,
        "measures": [_measure(name) for name in session.names],
        "decisions": [_decision(decision, like[path]) for path, decision in graph.decisions.items()],
        "nodes": [_node(node, places) for node in graph.nodes.values()],
        "budgets": [r.message for r in graph.requirements if r.origin == "budget"],
        "view": session.view(Asked({}, by=session.names[0])),
    }
    if not served and sum(d.n for d in graph.decisions.values() if d.kind == "choice") <= MOST_ALONE:
        data["alone"] = session.sizes_alone()
    shape = graph.input.shape
    return filled(
        HERE,
        "explorer.html",
        {
            "policy": INSIDE,
            "title": html.escape(f"{space.name} - explore"),
            "heading": html.escape(space.name),
            "sub": html.escape(f"{file} · input {shape_of(shape)} · {len(graph.decisions):,} decisions"),
            "style": part(HERE, "explorer.css"),
            "scripts": scripts(HERE, "explorer.js", data),
        },
    )


def _measure(name: str) -> dict[str, Any]:
    found = measures.find(name)
    return {"name": name, "label": found.label, "unit": found.unit}


def _decision(decision: Decision, like: int) -> dict[str, Any]:
    words = " ".join(decision.span.text.split()) if decision.span is not None else ""
    told: dict[str, Any] = {
        "path": decision.path,
        "kind": decision.kind,
        "n": decision.n,
        "like": like,
        "text": words if len(words) <= LONGEST else words[: LONGEST - 1] + "…",
    }
    if decision.kind != "units":
        told["labels"] = list(decision.labels) or [str(item) for item in decision.items]
    if decision.kind == "subset":
        told["size"] = decision.size
    if decision.present is not True:
        told["nested"] = True
    return told


def _node(node: Node, places: dict[str, int]) -> list[Any]:
    """Its name, what it does, the numbers of those it reads, and the shape that it gives."""
    what = node.op if node.kind in ("operator", "merge") else node.kind
    return [node.name, what, [places[edge.source] for edge in node.inputs], shape_of(node.shape)]
