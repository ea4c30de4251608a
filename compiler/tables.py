"""The parse tables that Lark makes from `grammar.lark`, kept as data in `grammar.json`.

Making the tables takes Lark a third of a second, reading them two milliseconds, and `nasdsl check` is to answer at
once. `grammar.json` holds the grammar that it was made from: where that is not the present one, the tables are made
anew in memory. Reading it is reading JSON, so it can't run anything.

`python -m nasdsl.compiler.tables` writes `grammar.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

GRAMMAR = Path(__file__).with_name("grammar.lark")
TABLES = Path(__file__).with_name("grammar.json")

LINE_BREAK = "_NL"
END = "$END"


@dataclass(frozen=True)
class Tables:
    """An LALR(1) automaton. Terminals go by their text where that is fixed (`->`), else by their name (`NUMBER`).

    `actions[state][terminal]` is the state to shift to, or `~rule` to reduce by; `gotos[state][rule name]` is the state
    after a reduction. A rule is `(name, size, kept, action)`: `kept` are the positions of the symbols that carry
    meaning (`~position` for one whose values are spliced in); `action` names what to build from them, with `=` for the
    one value as it is and an empty string for a plain list.
    """

    grammar: str
    start: int
    end: int
    words: Sequence[str]
    marks: Sequence[str]
    patterns: dict[str, str]
    rules: Sequence[tuple[str, int, Sequence[int], str]]
    actions: Sequence[dict[str, int]]
    gotos: Sequence[dict[str, int]]


@cache
def tables() -> Tables:
    """The tables of the present grammar."""
    grammar = GRAMMAR.read_text(encoding="utf-8")
    try:
        stored = json.loads(TABLES.read_bytes())
        if stored["grammar"] == grammar:
            return Tables(**stored)
    except (OSError, ValueError, TypeError, KeyError):
        pass  # No tables, or none that can be used: they are a convenience, the grammar is what counts.
    return build(grammar)


def build(grammar: str) -> Tables:
    """The tables that Lark makes from the text of a grammar."""
    import lark  # Here only: a run that finds its tables in grammar.json does without.
    from lark.grammar import Rule
    from lark.lexer import TerminalDef

    made, memo = lark.Lark(grammar, parser="lalr", maybe_placeholders=False).memo_serialize([Rule, TerminalDef])
    automaton: dict[str, Any] = made["parser"]["parser"]
    terminals = [entry for entry in memo.values() if entry["__type__"] == "TerminalDef"]
    fixed = {t["name"]: t["pattern"]["value"] for t in terminals if t["pattern"]["__type__"] == "PatternStr"}
    rules = {number: entry for number, entry in memo.items() if entry["__type__"] == "Rule"}
    places = {number: place for place, number in enumerate(rules)}
    names: dict[int, str] = automaton["tokens"]
    nonterminals = {entry["origin"]["name"] for entry in rules.values()}

    # Lark numbers the states differently in each run; in the order of a walk from the start they are always the same.
    rows = {state: sorted((names[n], move) for n, move in row.items()) for state, row in automaton["states"].items()}
    order: dict[int, int] = {automaton["start_states"]["start"]: 0}
    for state in (walk := list(order)):
        for _, (reduces, target) in rows[state]:
            if not reduces and target not in order:
                order[target] = len(order)
                walk.append(target)
    actions: list[dict[str, int]] = [{} for _ in order]
    gotos: list[dict[str, int]] = [{} for _ in order]
    for state, place in order.items():
        for name, (reduces, argument) in rows[state]:
            if name in nonterminals:
                gotos[place][name] = order[argument]
            else:
                actions[place][fixed.get(name, name)] = ~places[argument["@"]] if reduces else order[argument]
    return Tables(
        grammar=grammar,
        start=order[automaton["start_states"]["start"]],
        end=order[automaton["end_states"]["start"]],
        words=tuple(sorted(text for text in fixed.values() if text.isidentifier())),
        marks=tuple(sorted((text for text in fixed.values() if not text.isidentifier()), key=lambda t: (-len(t), t))),
        patterns={t["name"]: t["pattern"]["value"] for t in terminals if t["name"] not in fixed},
        rules=tuple(_rule(entry) for entry in rules.values()),
        actions=tuple(actions),
        gotos=tuple(gotos),
    )


def _rule(entry: dict[str, Any]) -> tuple[str, int, tuple[int, ...], str]:
    name: str = entry["origin"]["name"]
    kept = []
    for place, symbol in enumerate(entry["expansion"]):
        if symbol["__type__"] == "NonTerminal":
            kept.append(~place if symbol["name"].startswith("_") else place)
        elif not symbol["filter_out"]:
            kept.append(place)
    if entry["alias"]:
        action = "=" if entry["alias"] == "group" else entry["alias"]
    elif entry["options"]["expand1"]:
        action = "="
    else:
        action = "" if name.startswith("_") else name
    return name, len(entry["expansion"]), tuple(kept), action


if __name__ == "__main__":
    built = build(GRAMMAR.read_text(encoding="utf-8"))
    TABLES.write_text(json.dumps(asdict(built), separators=(",", ":")) + "\n", encoding="utf-8")
