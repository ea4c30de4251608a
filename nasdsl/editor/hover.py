"""What is told of the word at a place: what it means, what it stands for, and what stands at this place of the network:
shapes, size and cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nasdsl.compiler import syntax
from nasdsl.compiler.elaborate.vocabulary import VOCABULARY
from nasdsl.editor import documentation
from nasdsl.editor.completion import Settings
from nasdsl.editor.context import context
from nasdsl.editor.document import Document
from nasdsl.editor.facts import DecisionFacts, Extent, Facts, SpaceFacts, StepFacts
from nasdsl.editor.names import Declaration, Occurrence
from nasdsl.editor.pieces import Piece

MOST_PATHS = 3
MOST_OPTIONS = 12


@dataclass(frozen=True)
class Hover:
    start: int
    end: int
    markdown: str


def hover(
    document: Document, offset: int, known: Sequence[Facts] = (), settings: Settings | None = None
) -> Hover | None:
    """What is told at a place; None where there is nothing to say.

    Args:
        known: what the last elaborations found, with places of this text.
    """
    piece = next((p for p in document.pieces if p.start <= offset < p.end), None) or next(
        (p for p in document.pieces if p.end == offset and p.kind not in ("mark", "sign", "comment")), None
    )
    if piece is None or piece.kind in ("comment", "error"):
        return None
    occurrence = document.names.at(piece.start)
    parts = [_meaning(document, piece, occurrence, settings), *_stands_for(document, occurrence, known)]
    if occurrence is None or occurrence.declaration.kind != "space":
        parts += _here(document, piece, occurrence, known)
    text = "\n\n".join(part for part in parts if part)
    return Hover(piece.start, piece.end, text) if text else None


def _meaning(document: Document, piece: Piece, occurrence: Occurrence | None, settings: Settings | None) -> str:
    word = document.text[piece.start : piece.end]
    if occurrence is not None:
        return _of_declaration(occurrence.declaration)
    if piece.kind == "label" and (told := _setting(document, piece, settings)):
        return told
    if piece.kind in ("form", "function", "operator"):
        told_of = documentation.of_call(word)
        return "" if told_of is None else told_of.markdown
    if piece.kind in ("declaration", "control", "infix", "section", "ambient", "constant", "measure", "label"):
        told_of = documentation.of_word(word)
        return "" if told_of is None else told_of.markdown
    return ""


def _of_declaration(one: Declaration) -> str:
    if one.kind in ("form", "built-in", "catalogue", "word"):
        told = documentation.of_word(one.name) if one.kind == "word" else documentation.of_call(one.name)
        return "" if told is None else told.markdown
    if one.kind == "parameter":
        called, _, name = one.name.partition(".")
        return _of_parameter(called, name)
    node = one.node
    if isinstance(node, syntax.Operator | syntax.Fusion | syntax.Let):
        return documentation.of_text(node).markdown
    if isinstance(node, syntax.Space | syntax.Derived):
        head = f"space {one.name}" + (f" = {node.base.name}" if isinstance(node, syntax.Derived) else "")
        return documentation.Told(head, node.span.comment).markdown
    if node is None:
        return ""
    kind = {"label": "label", "formal": "parameter", "loop": "for", "param": ""}.get(one.kind, one.kind)
    text = " ".join(node.span.text.split())
    shown = f"{kind} {text}".strip() if len(text) <= 100 else f"{kind} {text[:99]}…".strip()
    comment = node.span.comment if one.kind == "param" else ""
    return documentation.Told(shown, comment).markdown


def _of_parameter(called: str, name: str) -> str:
    operator = documentation.operator_of(called)
    form = VOCABULARY.forms.get(called)
    if form is not None:
        doc = next((p.doc for p in form.parameters if p.name == name), "")
        return f"`{called}`: `{name}`{f': {doc}' if doc else ''}"
    param = operator.param(name) if operator is not None else None
    if param is None:
        return ""
    kind = " | ".join(f"`{word}`" for word in param.choices) if param.choices else param.type
    return f"`{called}`: `{name}` ({kind}){f': {param.doc}' if param.doc else ''}"


def _setting(document: Document, piece: Piece, settings: Settings | None) -> str:
    """What is told of a setting of a search or of training."""
    tokens = document.tokens
    here = context(document.text, tokens.tokens, tokens.comments, piece.start)
    path = [document.text[piece.start : piece.end]]
    for opened in reversed(here.inside):
        if opened.role == "settings":
            found = (settings or {}).get(opened.head[0].text if opened.head else opened.name)
            for name in reversed(path):
                found = found.parts.get(name) if found is not None else None
            return "" if found is None else f"`{path[0]}`: {found.detail}\n\n{found.doc}".strip()
        path.append(opened.name)
    return ""


def _stands_for(document: Document, occurrence: Occurrence | None, known: Sequence[Facts]) -> Iterable[str]:
    """The values of a name, and the size and cost of a space."""
    if occurrence is None or occurrence.declaration.span is None:
        return
    declaration = occurrence.declaration
    assert declaration.span is not None
    if declaration.kind == "space":
        found = next((one.space for one in known if one.space.name == declaration.name), None)
        if found is not None:
            yield told_space(found)
        return
    if declaration.span.source is not document.source:
        return
    place = declaration.span.start, declaration.span.end
    if isinstance(declaration.node, syntax.Bind):  # its values stand at the whole of `name in list`
        place = declaration.node.span.start, declaration.node.span.end
    values = list(dict.fromkeys(one.values[place] for one in known if place in one.values))
    if values:
        yield f"Value: `{values[0]}`"


def _here(document: Document, piece: Piece, occurrence: Occurrence | None, known: Sequence[Facts]) -> Iterable[str]:
    """What stands at this place of the network."""
    decision = _decision(document, piece, known)
    if decision is not None:
        yield told_decision(decision)
    step = step_at(document, piece.start, known)
    if step is not None:
        yield told_step(step[1])


def _decision(document: Document, piece: Piece, known: Sequence[Facts]) -> DecisionFacts | None:
    for one in known:
        for (start, end), found in one.decisions.items():
            if piece.start == start or (piece.start in (start, end) and piece.kind == "function"):
                return found
    return None


def step_at(document: Document, offset: int, known: Sequence[Facts]) -> tuple[Extent, StepFacts] | None:
    """The innermost step around a place."""
    for one in known:
        around = [place for place in one.steps if place[0] <= offset < place[1]]
        if around:
            place = min(around, key=lambda place: place[1] - place[0])
            return place, one.steps[place]
    return None


# --- In words ---------------------------------------------------------------------------------------------------------


def told_step(step: StepFacts) -> str:
    """`**Here**: out 16|24 x 56 x 56; 3 layers, used 4 times; MACs 1.2M to 3.4M; ...`"""
    rows = []
    if step.shapes:
        rows.append(f"- out: {', '.join(f'`{shape}`' for shape in step.shapes)}")
    layers = f"{step.layers:,} layer{'' if step.layers == 1 else 's'}"
    rows.append(f"- {layers}{f', in {step.uses:,} uses' if step.uses > 1 else ''}")
    bounds = "" if step.exact else " (within)"
    if step.macs is not None and step.layers:
        rows.append(f"- MACs: {told_range(step.macs)}{bounds}")
    if step.params is not None and step.layers:
        rows.append(f"- parameters: {told_range(step.params)}{bounds}")
    if step.decisions:
        settings = f", {step.settings} settings" if step.settings else ""
        rows.append(f"- {step.decisions:,} decision{'' if step.decisions == 1 else 's'}{settings}")
    return "**Here**\n" + "\n".join(rows)


def told_decision(decision: DecisionFacts) -> str:
    """How many values a decision has, and at which paths it is made."""
    copies = len(decision.paths)
    kinds = {"choice": "One of", "subset": "Some of", "order": "An order of", "units": "Any of"}
    if decision.options:
        shown = decision.options[:MOST_OPTIONS]
        more = f" and {len(decision.options) - len(shown)} more" if len(decision.options) > len(shown) else ""
        what = f"{kinds[decision.kind]} {documentation.listed(shown)}{more}"
    else:
        what = "Any search units"
    times = f", decided {copies:,} times" if copies > 1 else ""
    paths = documentation.listed(decision.paths[:MOST_PATHS])
    more = f" and {copies - MOST_PATHS:,} more" if copies > MOST_PATHS else ""
    return f"**{decision.values} values**{times}. {what}.\n\nAt {paths}{more}"


def told_space(space: SpaceFacts) -> str:
    """Size and cost of a space."""
    rows = []
    if space.count:
        rows.append(f"- {space.count} architectures, {space.decisions:,} decisions")
    elif space.decisions:
        rows.append(f"- {space.decisions:,} decisions")
    if space.input:
        rows.append(f"- `{space.input}` to `{space.output}`, {space.layers:,} layers")
    bounds = "" if space.exact else " (within)"
    if space.macs is not None:
        rows.append(f"- MACs: {told_range(space.macs)}{bounds}")
    if space.params is not None:
        rows.append(f"- parameters: {told_range(space.params)}{bounds}")
    return "\n".join(rows)


def told_range(ends: tuple[int, int]) -> str:
    return short(ends[0]) if ends[0] == ends[1] else f"{short(ends[0])} to {short(ends[1])}"


def short(number: int) -> str:
    """`1,234`, `56.7K`, `1.23G`."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**4, "K")):
        if abs(number) >= size:
            scaled = number / (1000 if letter == "K" else size)
            return f"{scaled:.3g}{letter}" if abs(scaled) < 1000 else f"{scaled:,.0f}{letter}"
    return f"{number:,}"
