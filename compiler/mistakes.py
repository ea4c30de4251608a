"""What is wrong with a text that the grammar doesn't take, in the user's words.

`explain` is given the place where the automaton stopped. Its questions stand in an order: the first that knows an
answer gives it. Brackets without a partner have been mended before (`brackets.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from nasdsl.compiler.brackets import CLOSES, PARTNER
from nasdsl.compiler.diagnostics import Diagnostic, suggest
from nasdsl.compiler.stop import INFIX, Stop
from nasdsl.compiler.tables import END
from nasdsl.compiler.tokens import Token, short

_OPERAND_STARTS = frozenset({"NAME", "NUMBER", "STRING", "(", "[", "{", "in", "not", "match", "for", "repeat", "-"})
_OPERAND_ENDS = frozenset({"NAME", "NUMBER", "STRING", ")", "]", "}", "in"})
_IN_SPACES = frozenset({"param", "input", "require"})
_AT_TOP = frozenset({"use", "space", "let", "operator", "fusion"})
_DECLARES = _AT_TOP | _IN_SPACES
_BLOCKY = frozenset({"body", "match", "fusion", "block"})


def explain(stop: Stop) -> Diagnostic:
    """Why the automaton stopped."""
    for question in _QUESTIONS:
        if answer := question(stop):
            return answer
    return _otherwise(stop)


def _shown(token: Token) -> str:
    return f"`{short(token.text)}`"


def _is_keyword(token: Token) -> bool:
    return token.kind == token.text and token.text.isidentifier()


# --- Questions, in their order ---------------------------------------------------------------------------------------


def _number_without_zero(stop: Stop) -> Diagnostic | None:
    token, after = stop.token, stop.after
    if token.kind == "." and after.kind == "NUMBER" and token.end == after.start:
        joined = Token("NUMBER", token.text + after.text, token.start, after.end, False)
        return stop.say("malformed-number", f"`.{after.text}` is no number", joined, f"write `0.{after.text}`")
    return None


def _begins_a_line(stop: Stop) -> Diagnostic | None:
    token, before = stop.token, stop.before
    if token.leads and token.kind in (":", ".", "=") and before.kind in _OPERAND_ENDS:
        help = f"write it behind {_shown(before)}"
        return stop.say("misplaced-mark", f"a line can't begin with `{token.text}`", None, help)
    return None


def _keyword_for_name(stop: Stop) -> Diagnostic | None:
    token, before = stop.token, stop.before
    help = "keywords can't be names"
    if _is_keyword(token) and not token.leads and (before.kind in (*_NAMED, "for") or stop.role == "formals"):
        return stop.say("keyword-as-name", f"{_shown(token)} is a keyword", None, help)
    nameless = token.kind == "=" and before.kind in _NAMED
    if (
        token.kind in (":", "=")
        and _is_keyword(before)
        and not nameless
        and len(stop.item) == 1
        and before.kind != "else"
    ):
        return stop.say("keyword-as-name", f"{_shown(before)} is a keyword", before, help)
    return None


def _missing_name(stop: Stop) -> Diagnostic | None:
    before, token = stop.before, stop.token
    if before.kind in _NAMED:
        return stop.say("missing-name", f"`{before.kind}` needs a name", before, f"write `{_NAMED[before.kind]}`")
    if before.kind == "use":
        wanted = f'use "{token.text}.space"' if token.kind == "NAME" else 'use "name.space"'
        return stop.say("missing-path", "`use` needs a path in quotes", token, f"write `{wanted}`")
    if before.kind == "." and stop.index > 1 and stop.tokens[stop.index - 2].kind == "NUMBER":
        number = stop.tokens[stop.index - 2]
        joined = Token("NUMBER", number.text + ".", number.start, before.end, False)
        return stop.say("malformed-number", f"`{number.text}.` is no number", joined, f"write `{number.text}`")
    if before.kind == ".":
        return stop.say("missing-name", "a name must follow `.`", before)
    return None


_NAMED = {
    "space": "space name { ... }",
    "operator": "operator name(out) = ...",
    "fusion": "fusion name { ... }",
    "let": "let name = ...",
    "param": "param name = ...",
}


def _in_a_head(stop: Stop) -> Diagnostic | None:
    """Between `match`, `for` or `repeat` and its block."""
    base = -1 if stop.bracket is None else stop.bracket
    place = next((k for k in reversed(range(base + 1, len(stop.symbols))) if stop.symbols[k] in _HEADED), None)
    if place is None:
        return None
    word: Token = stop.values[place]
    within = stop.symbols[place + 1 :]
    token = stop.token
    form = _HEADED[word.kind]
    if stop.symbols[place - 1 : place] == ["["]:  # a comprehension
        form = "[for k in [3, 5]: ...]"
    if "block" in within:
        return None
    if word.kind == "for" and "in" not in within and "bind" not in within:
        if not within:
            return stop.say("missing-name", "`for` needs a name", word, f"write `{form}`")
        if token.kind == "=" or token.kind == ":" or token.text in ("of", "from", "over"):
            return stop.say(
                "missing-in", f"`in` is missing: {_shown(token)} stands in its place", token, f"write `{form}`"
            )
        return stop.say("missing-in", "`in` is missing after the name", stop.before, f"write `{form}`")
    if stop.before.kind in ("in", word.kind) and (
        token.kind == "{" or token.kind not in _OPERAND_STARTS or token.leads
    ):
        what = {"match": "something to match", "for": "a list", "repeat": "a count"}[word.kind]
        return stop.say("missing-head", f"`{word.kind}` needs {what} before its block", word, f"write `{form}`")
    if token.kind in INFIX or token.kind in ("-", "not", "in", "if") or token.text == "x":
        if form.startswith("["):
            if token.kind in ("not", "in", "if"):
                return None
            message = f"`{token.text}` needs parentheses between `in` and the colon"
            return stop.say("head-needs-parentheses", message, token, "write `[for i in (...): ...]`")
        name = "i in " if word.kind == "for" else ""
        help = f"write `{word.kind} {name}(...) {{ ... }}`"
        message = f"`{token.text}` needs parentheses between `{word.kind}` and its block"
        return stop.say("head-needs-parentheses", message, token, help)
    if stop.before.kind in _OPERAND_ENDS and not form.startswith("["):
        return stop.say("missing-block", f"`{word.kind}` needs a block in braces", word, f"write `{form}`")
    return None


_HEADED = {"match": "match head { a: ..., else: ... }", "for": "for i in 1..4 { ... }", "repeat": "repeat 4 { ... }"}


def _declaration_header(stop: Stop) -> Diagnostic | None:
    """After the name of a declaration."""
    item, token = stop.item, stop.token
    if len(item) < 2 or item[0].kind not in _DECLARES or item[1].kind != "NAME":
        return None
    kind, name = item[0].kind, item[1].text
    rest = [t.kind for t in item[2:]]
    if kind == "operator":
        if not rest:
            if token.kind == "(":
                return None
            help = f"write `operator {name}() {'{ ... }' if token.kind == '{' else '= ...'}`"
            return stop.say("missing-formals", f"operator `{name}` needs parentheses after its name", item[1], help)
        if rest == ["("] and token.kind not in ("=", "{"):
            return _assigned(stop) or stop.say(
                "missing-body",
                f"operator `{name}` needs a body",
                item[1],
                f"write `operator {name}(...) = ...` or braces",
            )
    if kind in ("let", "param") and (not rest or rest == ["("]):
        if assigned := _assigned(stop):
            return assigned
        form = f"{kind} {name} = ..."
        if token.kind in ("{", "NUMBER", "NAME", "STRING", "[", "(") and not token.leads:
            return stop.say("missing-equals", f"`=` is missing after `{name}`", token, f"write `{form}`")
        return stop.say("missing-value", f"`{name}` needs a value", item[1], f"write `{form}`")
    if kind == "fusion" and (not rest or rest == ["("]):
        return stop.say(
            "missing-block", f"fusion `{name}` needs a block in braces", item[1], f"write `fusion {name} {{ ... }}`"
        )
    if kind == "space":
        if not rest:
            help = f"write `space {name} {{ ... }}`, or `space {name} = base with {{ ... }}`"
            return stop.say("missing-block", f"space `{name}` needs a block in braces", item[1], help)
        if rest[0] == "=" and "with" not in rest:
            if len(rest) == 1:
                return stop.say("missing-name", f"space `{name}` needs the name of a space after `=`", item[2])
            help = f"write `space {name} = {item[3].text} with {{ ... }}`"
            return stop.say(
                "missing-with", f"`with` is missing after `{item[3].text}`", token if not token.leads else item[3], help
            )
        return stop.say("missing-block", f"space `{name}` needs a block after `with`", item[-1])
    return None


def _assigned(stop: Stop) -> Diagnostic | None:
    token = stop.token
    if token.kind == ":":
        return stop.say("colon-for-equals", "a declaration has `=`, not `:`", None, "write `=`")
    if token.kind == "COMPARE" and token.text == "==":
        return stop.say("double-equals", "a declaration has one `=`; `==` compares", None, "write `=`")
    return None


def _formals(stop: Stop) -> Diagnostic | None:
    token, before = stop.token, stop.before
    if stop.role != "formals":
        return None
    if before.kind == "NAME" and token.kind == ":":
        help = f"write `{before.text} = ...`"
        return stop.say("colon-for-equals", "the default of a parameter is written with `=`", None, help)
    if token.kind == "NAME" and before.kind == "NAME":
        return _comma(stop)
    if token.kind in ("NUMBER", "STRING", "[", "{", "(") and before.kind in ("(", ","):
        return stop.say("missing-name", "a parameter is a name", token)
    return None


def _equals(stop: Stop) -> Diagnostic | None:
    token, before, item = stop.token, stop.before, stop.item
    if token.kind != "=":
        return None
    named = len(item) == 1 and before.kind in ("NAME", "NUMBER", "STRING")
    value = stop.after.text if stop.after.kind in ("NAME", "NUMBER", "STRING") else "..."
    if named and stop.role == "call":
        return stop.say("equals-for-colon", f"arguments are written `{before.text}: {value}`", None, "write `:`")
    if named and stop.role == "with":
        return stop.say("equals-for-colon", f"a pin is written `{before.text}: {value}`", None, "write `:`")
    if named and stop.role in _BLOCKY:
        help = f"to give a value a name, write `let {before.text} = {value}`"
        return stop.say("equals-for-colon", f"labels and entries are written `{before.text}: ...`", None, help)
    if len(item) > 0 and item[0].kind == "NAME" and stop.role in ("space", "top"):
        if len(item) == 2 and item[1].kind == "NAME":
            return _unknown_word(stop)
        if len(item) <= 2:
            return stop.say("missing-let", f"a name is given with `let {item[0].text} = ...`", item[0])
    compares = {"param", "let", "require", "input", "if"} & {t.kind for t in item}
    if compares or stop.role == "group":
        return stop.say("single-equals", "equality is written `==`", None, "write `==`")
    if stop.role == "call":
        return stop.say(
            "equals-for-colon", "arguments are written `name: value`", None, "write `:`, or `==` to compare"
        )
    return stop.say(
        "single-equals", "`=` can't stand here", None, "equality is written `==`, a name is given with `let`"
    )


def _colon(stop: Stop) -> Diagnostic | None:
    token, before, item = stop.token, stop.before, stop.item
    if token.kind != ":":
        return None
    if stop.role in ("space", "top") and item:
        help = "steps, labels and entries stand in a block such as `network { ... }`"
        return stop.say("misplaced-step", f"{_shown(item[0])} can't be given a value here", item[0], help)
    if not item:
        return stop.say("missing-name", "nothing stands before `:`")
    if stop.role == "group":
        assert stop.bracket is not None
        opening: Token = stop.values[stop.bracket]
        if opening.leads:
            return stop.say("misplaced-bracket", "arguments begin on the line of the name that they belong to", opening)
        return stop.say("misplaced-colon", "names are given in calls, lists and braces, not in plain parentheses")
    colons = [k for k, t in enumerate(item) if t.kind == ":"]
    if colons:
        if colons[-1] == len(item) - 2 and before.leads:
            return stop.say("missing-value", f"nothing stands after `{item[0].text}:`", item[colons[-1]])
        return stop.say(
            "second-colon", "a second `:` in one entry", None, "put an entry of its own in braces: `a: { b: ... }`"
        )
    return None


def _conditional(stop: Stop) -> Diagnostic | None:
    token = stop.token
    form = "a condition is written `x if c else y`, a choice `match d { a: x, else: y }`"
    if token.kind == "if" and stop.before.kind not in _OPERAND_ENDS:
        return stop.say("if-statement", "`if` stands between two values", None, form)
    base = -1 if stop.bracket is None else stop.bracket
    if "if" in stop.symbols[base + 1 :]:
        place = max(k for k, symbol in enumerate(stop.symbols) if symbol == "if")
        if (
            stop.before.kind in _OPERAND_ENDS
            and token.kind not in ("=", ".", "->")
            and "else" not in stop.symbols[place:]
        ):
            if token.kind in ("COMPARE", "in"):
                return _chained(stop)
            word: Token = stop.values[place]
            if word.leads:
                return stop.say("if-statement", "`if` stands between two values", word, form)
            return stop.say("missing-else", "`else` is missing", word, "a condition is written `x if c else y`")
    if token.kind == "else":
        if stop.item and any(t.kind == "if" for t in stop.item):
            return None
        return stop.say("stray-else", "`else` without an `if` before it", None, form)
    return None


def _chained(stop: Stop) -> Diagnostic | None:
    token = stop.token
    if token.kind == ".." and ".." in [t.kind for t in stop.item]:
        return stop.say("chained-range", "ranges can't be chained", None, "write `1..9 step 2`, or a list")
    if token.kind not in ("COMPARE", "in") or stop.before.kind not in _OPERAND_ENDS:
        return None
    for earlier in reversed(stop.item):
        if earlier.kind in ("COMPARE", "in"):
            help = "compare in pairs: `a < b and b < c`"
            return stop.say("chained-comparison", "comparisons can't be chained", None, help)
        if earlier.kind in ("and", "or", "implies", "if", "else", ":", "=", "->"):
            return None
    return None


def _incomplete(stop: Stop) -> Diagnostic | None:
    """Something that asks for a value after it, and nothing there."""
    before, token = stop.before, stop.token
    soft = before.kind == "NAME" and before.text in ("x", "step") and stop.symbols[-1:] == [before.text]
    asks = before.kind in INFIX or soft or before.kind in ("-", "not", "=", ":", "in", "if", "else", "require", "input")
    if not asks or (before.kind == "in" and stop.symbols[-1:] != ["in"]):
        return None
    if token.kind in _OPERAND_STARTS and not token.leads:
        return None
    if _is_keyword(token) and not token.leads and token.kind not in INFIX and token.kind not in ("if", "else"):
        return stop.say("keyword-as-name", f"{_shown(token)} is a keyword", None, "keywords can't be names")
    if before.kind == ":" and len(stop.item) >= 2:
        return stop.say("missing-value", f"nothing stands after `{stop.item[-2].text}:`", before)
    if before.kind in ("=", ":", "require", "input"):
        return stop.say("missing-value", f"nothing stands after `{before.text}`", before)
    if before.kind == "else" and len(stop.item) == 1:
        return stop.say("missing-colon", "`:` is missing after `else`", before)
    return stop.say("missing-operand", f"nothing stands after `{before.text}`", before)


def _infix_first(stop: Stop) -> Diagnostic | None:
    token = stop.token
    if token.kind in INFIX and (stop.before.kind not in _OPERAND_ENDS or not stop.item):
        return stop.say("missing-operand", f"nothing stands before `{token.text}`")
    if token.kind in INFIX and stop.role in ("space", "top") and stop.item[0].kind == "NAME":
        help = "steps stand in a block such as `network { ... }`"
        return stop.say("misplaced-step", "there can be no steps here", stop.item[0], help)
    if token.kind == "->" and stop.before.kind in _OPERAND_ENDS:
        return stop.say(
            "misplaced-arrow", "`->` binds weakest; it can't stand here", None, "put the pipeline in parentheses"
        )
    return None


def _misplaced(stop: Stop) -> Diagnostic | None:
    token = stop.token
    kind = token.kind
    if stop.item:
        return None
    if stop.role == "top":
        if kind in _IN_SPACES:
            return stop.say(
                "outside-space", f"`{kind}` belongs in a space", None, "write `space name { ... }` around it"
            )
        if (
            kind == "NAME"
            and not _nearest(token)
            and (stop.after.kind == "{" or (stop.after.kind == "NAME" and not stop.after.leads))
        ):
            help = "write `space name { ... }` around it"
            return stop.say("outside-space", f"{_shown(token)} can't stand at the top of a file", None, help)
        if kind == "NAME":
            return _unknown_word(stop)
        if kind not in CLOSES and kind not in INFIX and kind != END:
            return stop.say("outside-space", f"{_shown(token)} can't stand at the top of a file", None, _TOP_HELP)
    elif kind in _DECLARES | {"with"} and stop.role in ("space", "with", *_BLOCKY):
        if kind in ("use", "space"):
            return stop.say("misplaced-declaration", f"`{kind}` belongs at the top of a file")
        if stop.role == "with":
            help = f"`with` sets what the space declares: `{stop.after.text}: ...`" if stop.after.kind == "NAME" else ""
            return stop.say("misplaced-declaration", "`with` declares nothing new", None, help)
        return stop.say("misplaced-declaration", f"`{kind}` belongs in the space, outside of its blocks")
    elif stop.role in ("space", "with") and kind in _OPERAND_STARTS:
        help = (
            "steps stand in a block such as `network { ... }`"
            if stop.role == "space"
            else "a change is written `name: value`"
        )
        return stop.say("misplaced-step", f"{_shown(token)} can't stand here", None, help)
    return None


_TOP_HELP = "a file holds `space`, `use`, `let`, `operator` and `fusion`"


def _nearest(token: Token) -> str:
    return suggest(token.text, sorted(_DECLARES))


def _unknown_word(stop: Stop) -> Diagnostic | None:
    word = stop.item[0] if stop.item and not (stop.role == "top" and stop.token.leads) else stop.token
    if word.kind != "NAME":
        return None
    help = _nearest(word) or (_TOP_HELP if stop.role == "top" else "")
    where = "at the top of a file" if stop.role == "top" else "in a space"
    return stop.say("unknown-word", f"{_shown(word)} can't stand {where}", word, help)


def _in_a_space(stop: Stop) -> Diagnostic | None:
    """After a name that begins an item of a space or of `with`."""
    item, token = stop.item, stop.token
    if stop.role not in ("space", "with", "top") or not item or item[0].kind != "NAME":
        return None
    if stop.role == "with" and ":" not in [t.kind for t in item]:
        if token.kind in ("NUMBER", "STRING", "[", "NAME") and not token.leads:
            return stop.say(
                "missing-colon", f"`:` is missing after `{stop.before.text}`", token, f"write `{stop.before.text}: ...`"
            )
        return stop.say("missing-value", f"`{item[0].text}` is given no value", item[0], f"write `{item[0].text}: ...`")
    if stop.role == "with":
        return None
    if stop.before.kind == "}":  # it has its block
        return None
    if _nearest(item[0]) or (token.kind in ("NAME", "NUMBER", "STRING") and not token.leads):
        return _unknown_word(stop)
    if token.kind in (".", "(", "["):
        help = "steps stand in a block such as `network { ... }`"
        return stop.say("misplaced-step", "there can be no steps here", item[0], help)
    shown = " ".join(t.text for t in item)
    return stop.say("missing-block", f"`{shown}` needs a block in braces", item[0], f"write `{shown} {{ ... }}`")


def _size(stop: Stop) -> Diagnostic | None:
    if stop.token.text == "x" and not stop.token.leads and [t.text for t in stop.item].count("x") >= 2:
        return stop.say("size-too-long", "a size has two or three parts", None, "write `3 x 512 x 1024`")
    return None


def _comma(stop: Stop) -> Diagnostic:
    message = f"a comma is missing before {_shown(stop.token)}"
    return stop.say("missing-comma", message, None, "a comma or a line break separates")


def _adjacent(stop: Stop) -> Diagnostic | None:
    """Two values side by side."""
    token, before, item = stop.token, stop.before, stop.item
    if stop.role == "comprehension" and not any(t.kind == ":" for t in item) and before.kind != ",":
        return stop.say("missing-colon", "`:` is missing after the lists", None, "write `[for k in [3, 5]: ...]`")
    if stop.role in ("group", "index", "comprehension") and (before.kind == "," or token.leads):
        return stop.say("one-value", "there is one value to these brackets", None, "a list is written `[a, b]`")
    if before.kind not in _OPERAND_ENDS and before.kind != "else":
        return None
    if token.kind not in _OPERAND_STARTS and token.kind not in _DECLARES and token.kind != "else":
        return None
    if token.leads:
        return None
    labelled = any(t.kind in (":", "let", "->", "require") for t in item)
    if before.kind == "else" and len(item) == 1:
        return stop.say("missing-colon", "`:` is missing after `else`", token, "write `else: ...`")
    if stop.role in (*_BLOCKY, "call") and not labelled:
        if len(item) == 1 and before.kind == "NAME" and not (stop.role == "call" and token.kind == "NAME"):
            return stop.say(
                "missing-colon", f"`:` is missing after `{before.text}`", token, f"write `{before.text}: ...`"
            )
        if (
            len(item) == 2
            and item[0].kind == "NUMBER"
            and before.kind == "NAME"
            and token.kind == "("
            and stop.role != "call"
        ):
            return stop.say(
                "missing-colon", f"`:` is missing after `{item[0].text}`", before, f"write `{item[0].text}: ...`"
            )
    if token.kind == "(":
        return stop.say("misplaced-bracket", "only a name can be called", None, "a product is written with `*`")
    if token.kind == "{" and before.kind != "NAME":
        return stop.say("misplaced-bracket", "a block can't stand here", None, "a comma or a line break separates")
    return _comma(stop)


def _commas(stop: Stop) -> Diagnostic | None:
    token, before = stop.token, stop.before
    if token.kind == ",":
        if before.kind == "," or before.kind in PARTNER:
            return stop.say("extra-comma", "nothing stands before this comma", None, "leave it out")
        if stop.role in ("group", "index"):
            return stop.say("one-value", "there is one value to these brackets", None, "a list is written `[a, b]`")
        if stop.role == "top" and not stop.item:
            return stop.say("extra-comma", "nothing stands before this comma", None, "leave it out")
    if token.kind in CLOSES and before.kind in PARTNER:
        return stop.say("empty-brackets", "nothing stands between these brackets", None, "no tensor is written `none`")
    return None


def _keyword_for_value(stop: Stop) -> Diagnostic | None:
    if stop.token.kind == "with":
        return stop.say("misplaced-with", "`with` can't stand here", None, "write `space name = base with { ... }`")
    if stop.token.kind == "not":
        return stop.say("misplaced-not", "`not` needs parentheses here", None, "write `(not ...)`")
    if _is_keyword(stop.token) and stop.before.kind not in _OPERAND_ENDS:
        return stop.say("keyword-as-name", f"{_shown(stop.token)} is a keyword", None, "keywords can't be names")
    return None


_QUESTIONS: tuple[Callable[[Stop], Diagnostic | None], ...] = (
    _number_without_zero,
    _begins_a_line,
    _keyword_for_name,
    _missing_name,
    _formals,
    _in_a_head,
    _declaration_header,
    _size,
    _equals,
    _colon,
    _incomplete,
    _conditional,
    _commas,
    _chained,
    _misplaced,
    _infix_first,
    _in_a_space,
    _adjacent,
    _keyword_for_value,
)


def _otherwise(stop: Stop) -> Diagnostic:
    """Nothing is known of this mistake but what could have stood here."""
    wanted = ""
    if stop.accepts("NUMBER"):
        wanted = "a value"
    elif stop.accepts("NAME"):
        wanted = "a name"
    else:
        marks = [mark for mark in ("{", "=", ":", ")", "]", "}", "in") if stop.accepts(mark)]
        if len(marks) == 1:
            wanted = f"`{marks[0]}`"
    help = f"{wanted} was expected here" if wanted else ""
    if stop.token.kind == END:
        return stop.say("unexpected-end", "the text ends in the middle of something", stop.before, help)
    return stop.say("unexpected", f"{_shown(stop.token)} can't stand here", None, help)
