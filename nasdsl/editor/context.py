"""Where in a text a cursor stands, as far as brackets and words tell it: what is open around it, and what the item that
is being typed begins with. Nothing is parsed, so that it works on any half-typed text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nasdsl.compiler.bind.binder import SECTIONS
from nasdsl.compiler.bound import NETWORKS
from nasdsl.compiler.brackets import CLOSES, CONTINUES, PARTNER
from nasdsl.compiler.tables import END
from nasdsl.compiler.tokens import Token

_GOES_ON = frozenset({"->", "+", "-", "*", "/", "^", "COMPARE", "..", "and", "or", "implies", "=", ":", "if", "not"})


@dataclass
class Open:
    """A bracket that is not closed before the cursor, or the whole text.

    Attributes:
        role: `top`, `space`, `with`, `fusion`, `match`, `detector`, `settings`, `record` (in settings), `defaults`,
            `body`, `braces` (of a call, or a record elsewhere), `names` (of a `use`), `call`, `formals`,
            `group`, `list`.
        name: what is called, matched or declared by it; of a section its kind.
        start: where the bracket stands.
        head: tokens between the word and the bracket: what is matched; the name of a search.
        item: tokens of the item that is being typed, brackets in it left out.
        given: the names of the arguments or entries so far.
    """

    role: str
    name: str = ""
    start: int = -1
    head: tuple[Token, ...] = ()
    item: list[Token] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    count: int = 0  # items before the one that is being typed


@dataclass(frozen=True)
class Context:
    """Where a cursor stands.

    Attributes:
        inside: what is open around it, the innermost last.
        word: the word before it that is being typed, and where that begins.
        quoted: whether it stands in a string, and `comment` in a comment.
    """

    inside: tuple[Open, ...]
    word: str
    start: int
    quoted: bool = False
    comment: bool = False

    @property
    def at(self) -> Open:
        return self.inside[-1]

    @property
    def item(self) -> Sequence[Token]:
        """The tokens of the item before the word that is being typed."""
        return self.at.item

    @property
    def before(self) -> str:
        """The kind of the token before the word."""
        return self.item[-1].kind if self.item else ""

    def role(self, *roles: str) -> Open | None:
        """The innermost of some roles around the cursor."""
        return next((one for one in reversed(self.inside) if one.role in roles), None)


def context(text: str, tokens: Sequence[Token], comments: Sequence[tuple[int, int]], offset: int) -> Context:
    """What surrounds a place in a text."""
    comment = any(start < offset and (offset <= end) for start, end in comments)
    before = [token for token in tokens if token.kind != END and token.start < offset]
    word, start, quoted = "", offset, False
    if before and before[-1].end >= offset:
        last = before[-1]
        if last.kind == "STRING":
            closed = text[last.start : last.end].endswith('"') and last.end - last.start > 1
            quoted = offset > last.start and not (closed and offset >= last.end)
            if quoted:
                word, start = text[last.start + 1 : offset], last.start + 1
                before.pop()
        elif text[last.start : last.end].isidentifier():
            word, start = text[last.start : offset], last.start
            before.pop()
    leads = not text[text.rfind("\n", 0, start) + 1 : start].strip()
    return Context(tuple(_walk(before, leads)), word, start, quoted, comment)


def _walk(tokens: Sequence[Token], leads: bool) -> list[Open]:
    """The brackets that are open behind some tokens. `leads` is whether a new line begins there."""
    stack = [Open("top")]
    previous: Token | None = None
    for token in tokens:
        top = stack[-1]
        if token.kind == "," or (token.leads and token.kind not in CONTINUES and _ends(previous, top)):
            _next_item(top)
        if token.kind in PARTNER:
            stack.append(_opened(token, stack))
        elif token.kind in CLOSES:
            if len(stack) > 1:
                stack.pop()
        elif token.kind != ",":
            top.item.append(token)
        previous = token
    if leads and _ends(previous, stack[-1]):
        _next_item(stack[-1])
    return stack


def _ends(previous: Token | None, top: Open) -> bool:
    """Whether an item may end behind a token."""
    if previous is None or not top.item:
        return False
    return previous.kind not in _GOES_ON and not (previous.kind in PARTNER and top.start == previous.start)


def _next_item(top: Open) -> None:
    if top.item:
        top.count += 1
        if (len(top.item) == 1 and top.item[0].kind == "NAME") or (len(top.item) > 1 and top.item[1].kind == ":"):
            top.given.append(top.item[0].text)
        top.item = []


def _opened(token: Token, stack: Sequence[Open]) -> Open:
    top = stack[-1]
    item = top.item
    last = item[-1] if item else None
    if token.kind == "[":
        return Open("list", start=token.start)
    if token.kind == "(":
        if last is None or last.kind != "NAME":
            return Open("group", start=token.start)
        declares = len(item) > 1 and item[-2].kind in ("operator", "let", "fusion")
        return Open("formals" if declares else "call", last.text, token.start)
    role, name, head = _braces(item, top)
    return Open(role, name, token.start, head)


def _braces(item: Sequence[Token], top: Open) -> tuple[str, str, tuple[Token, ...]]:
    kinds = [token.kind for token in item]
    if kinds[-1:] == ["with"]:
        base = item[kinds.index("=") + 1].text if "=" in kinds[:-2] else ""
        return "with", base, ()
    if kinds[:1] in (["space"], ["fusion"], ["operator"]):
        role = {"space": "space", "fusion": "fusion", "operator": "body"}[kinds[0]]
        return role, item[1].text if len(item) > 1 else "", ()
    if kinds[:1] == ["use"]:
        return "names", "", ()
    for word in ("match", "for", "repeat"):
        if word in kinds:
            place = len(kinds) - 1 - kinds[::-1].index(word)
            return ("match" if word == "match" else "body"), "", tuple(item[place + 1 :])
    if top.role in ("space", "with") and kinds[:1] == ["NAME"] and len(item) <= 2 and item[0].text in SECTIONS:
        kind = item[0].text
        role = "detector" if kind == "detector" else "body" if kind in NETWORKS else "settings"
        return ("defaults" if kind == "defaults" else role), kind, tuple(item[1:])
    if top.role in ("settings", "record"):
        return "record", item[0].text if item else "", ()
    if kinds[-1:] == ["NAME"] and (len(kinds) < 2 or kinds[-2] not in (":", "=")):
        return "braces", item[-1].text, ()
    return "braces", "", ()
