"""The language server: a session with a client over stdio, and each of its answers on its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pygls", reason="the language server needs pygls")

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.elaborate.watch import Watch
from nasdsl.compiler.parse import parse, parse_partly, read
from nasdsl.compiler.pipeline import elaborate, elaborate_all
from nasdsl.compiler.source import Source
from nasdsl.editor import outline
from nasdsl.editor.changes import NotRenamable, applied, fixes, formatted, renamable, renamed
from nasdsl.editor.completion import complete, documented, parameters_at
from nasdsl.editor.context import context
from nasdsl.editor.document import Document
from nasdsl.editor.facts import Facts, facts
from nasdsl.editor.hover import hover
from nasdsl.editor.lines import Lines, shift
from nasdsl.editor.setting_words import setting_words
from nasdsl.editor.worker import Request, check

ROOT = Path(__file__).resolve().parents[1]
LONG = bool(os.environ.get("NASDSL_LONG"))

TEXT = """\
# A small space.
space small {
  param task in [digits, letters]
  param classes = match task { digits: 10, letters: 26 }
  input 1 x 16 x 16

  let width = oneof(8, 16)

  # A convolution and what follows it.
  operator block(out, stride = 1) {
    let inner = 2 * out
    conv(inner, kernel: oneof(3, 5), stride) -> relu()
    conv(out)
  }

  network {
    stem: block(width)
    body: repeat 2 { block(32, stride: 2) }
    classify(classes)
  }

  require macs <= 100M
  search shrink { target: macs <= 0.3 }
}

space fixed = small with {
  task: letters
  body[0].block.conv[0].kernel: 3
}
"""


def document(text: str, name: str = "small.space", **more: Any) -> tuple[Document, int]:
    """A text and the place of `|` in it."""
    at = text.find("|||")
    return Document(text.replace("|||", "", 1), name, **more), at


def put(before: str, typed: str) -> tuple[Document, int]:
    """The small space with something typed behind a line."""
    assert before in TEXT
    return document(TEXT.replace(before, before + typed, 1))


def known_of(text: str) -> list[Facts]:
    source = Source(text, "small.space")
    watch = Watch()
    space = elaborate(source, watch=watch)
    return [facts(source, space.name, watch, space)]


# --- A session --------------------------------------------------------------------------------------------------------


class Session:
    """A client that talks to a server of its own."""

    def __init__(self) -> None:
        self.client = LanguageClient("tests", "1")
        self.told: dict[str, list[lsp.PublishDiagnosticsParams]] = {}
        self.news = asyncio.Event()

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def diagnostics(params: lsp.PublishDiagnosticsParams) -> None:
            self.told.setdefault(params.uri, []).append(params)
            self.news.set()

    async def start(self) -> lsp.InitializeResult:
        await self.client.start_io(sys.executable, "-m", "nasdsl", "lsp")
        snippets = lsp.ClientCompletionItemOptions(snippet_support=True)
        capabilities = lsp.ClientCapabilities(
            text_document=lsp.TextDocumentClientCapabilities(
                completion=lsp.CompletionClientCapabilities(completion_item=snippets)
            )
        )
        result = await self.client.initialize_async(lsp.InitializeParams(capabilities=capabilities))
        self.client.initialized(lsp.InitializedParams())
        return result

    async def stop(self) -> None:
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await self.client.stop()

    def open(self, path: Path) -> None:
        item = lsp.TextDocumentItem(path.as_uri(), "space", 1, path.read_text(encoding="utf-8"))
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))

    def change(self, uri: str, version: int, text: str, place: lsp.Range | None = None) -> None:
        change: Any = lsp.TextDocumentContentChangeWholeDocument(text)
        if place is not None:
            change = lsp.TextDocumentContentChangePartial(range=place, text=text)
        document = lsp.VersionedTextDocumentIdentifier(version=version, uri=uri)
        self.client.text_document_did_change(lsp.DidChangeTextDocumentParams(document, [change]))

    async def until(self, uri: str, holds: Any, seconds: float = 60) -> list[lsp.Diagnostic]:
        """The diagnostics of a text, as soon as something holds of them."""
        end = time.monotonic() + seconds
        while True:
            if uri in self.told and holds(self.told[uri][-1]):
                return list(self.told[uri][-1].diagnostics)
            self.news.clear()
            left = end - time.monotonic()
            assert left > 0, self.told.get(uri, [None])[-1]
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.news.wait(), min(left, 1))


def codes(params: lsp.PublishDiagnosticsParams) -> list[Any]:
    return [one.code for one in params.diagnostics]


def place_of(text: str, word: str, number: int = 0) -> lsp.Position:
    start = -1
    for _ in range(number + 1):
        start = text.index(word, start + 1)
    return lsp.Position(*Lines(text).position(start))


@pytest.mark.slow
def test_a_session(tmp_path):
    asyncio.run(_session(tmp_path))


async def _session(folder: Path) -> None:
    path = folder / "small.space"
    path.write_text(TEXT, encoding="utf-8")
    uri = path.as_uri()
    identifier = lsp.TextDocumentIdentifier(uri)
    session = Session()
    client = session.client
    result = await session.start()
    assert result.server_info is not None and result.server_info.name == "nasdsl"
    try:
        session.open(path)
        assert not await session.until(uri, lambda told: told.version == 1 and len(session.told[uri]) >= 3)

        # A mistake of form is told at once, with its place; the rest of the file is still known.
        text = TEXT.replace("classify(classes)", "classify(classes")
        session.change(uri, 2, text)
        (found,) = await session.until(uri, lambda told: told.version == 2 and told.diagnostics)
        assert found.code == "unclosed-bracket" and found.source == "nasdsl"
        assert found.range.start == place_of(text, "(classes")
        symbols = await client.text_document_document_symbol_async(lsp.DocumentSymbolParams(identifier))
        assert symbols is not None and [one.name for one in symbols] == ["small", "fixed"]

        # A mistake in a name: told with a near one, which a quick fix puts in its place.
        text = TEXT.replace("-> relu()", "-> rleu()")
        session.change(uri, 3, text)
        (found,) = await session.until(uri, lambda told: told.version == 3 and told.diagnostics)
        assert found.code == "unknown-operator" and "did you mean `relu`?" in found.message
        asked = lsp.CodeActionParams(identifier, found.range, lsp.CodeActionContext([found]))
        actions = await client.text_document_code_action_async(asked)
        assert actions and actions[0].title == "Change to `relu`"
        assert isinstance(actions[0], lsp.CodeAction) and actions[0].edit is not None and actions[0].edit.changes
        (edit,) = actions[0].edit.changes[uri]
        assert edit.new_text == "relu"
        session.change(uri, 4, edit.new_text, edit.range)
        assert not await session.until(uri, lambda told: told.version == 4 and not told.diagnostics)

        # What only the whole space tells comes a moment later, with what is required in another place.
        text = TEXT.replace("macs <= 100M", "macs <= 100")
        session.change(uri, 5, text)
        found = (await session.until(uri, lambda told: told.version == 5 and told.diagnostics))[0]
        assert found.code == "unaffordable" and "the cheapest architecture has `width: 8`" in found.message
        session.change(uri, 6, TEXT)
        await session.until(uri, lambda told: told.version == 6 and not told.diagnostics)

        # Completion: names in scope, and the arguments that are not given yet.
        typed = TEXT.replace("body: repeat", "con\n    body: repeat")
        session.change(uri, 7, typed)
        at = place_of(typed, "con\n")
        params = lsp.CompletionParams(identifier, lsp.Position(at.line, at.character + 3))
        listed = await client.text_document_completion_async(params)
        assert isinstance(listed, lsp.CompletionList)
        items = {item.label: item for item in listed.items}
        assert {"conv", "block", "width", "parallel", "mbconv", "let"} <= set(items)
        put_in = items["conv"].text_edit
        assert isinstance(put_in, lsp.TextEdit) and put_in.new_text == "conv($0)" and put_in.range.start == at
        told = await client.completion_item_resolve_async(items["conv"])
        assert isinstance(told.documentation, lsp.MarkupContent) and "`kernel`" in told.documentation.value
        session.change(uri, 8, TEXT)

        # Hover: what it means, and what stands at this place.
        async def hovered(word: str, number: int = 0) -> str:
            asked = lsp.HoverParams(identifier, place_of(TEXT, word, number))
            answer = await client.text_document_hover_async(asked)
            assert answer is not None and isinstance(answer.contents, lsp.MarkupContent)
            return answer.contents.value

        async def costs_of(word: str) -> str:  # they are told behind everything else
            for _ in range(200):
                if "MACs" in (shown := await hovered(word)):
                    break
                await asyncio.sleep(0.1)
            return shown

        shown = await costs_of("block(width)")
        assert "operator block(out, stride = 1)" in shown and "A convolution and what follows it." in shown
        assert "`8|16 x 16 x 16`" in shown and "parameters: 320 to 1,408" in shown, shown
        shown = await hovered("oneof(3, 5)")
        assert "**2 values**, decided 3 times" in shown
        shown = await costs_of("small {")
        assert "16 architectures, 4 decisions" in shown

        # Definition, references, a new name everywhere, also in the pin.
        wanted = lsp.DefinitionParams(identifier, place_of(TEXT, "block(32"))
        location = await client.text_document_definition_async(wanted)
        assert isinstance(location, lsp.Location) and location.range.start == place_of(TEXT, "block(out")
        everywhere = lsp.ReferenceParams(lsp.ReferenceContext(True), identifier, place_of(TEXT, "block(32"))
        places = await client.text_document_references_async(everywhere)
        assert places is not None and len(places) == 4
        renaming = lsp.RenameParams(identifier, place_of(TEXT, "block(32"), "cell")
        change = await client.text_document_rename_async(renaming)
        assert change is not None and change.changes is not None
        new = _edited(TEXT, change.changes[uri])
        assert new == TEXT.replace("block", "cell")
        refused = lsp.PrepareRenameParams(identifier, place_of(TEXT, "conv(inner"))
        with pytest.raises(Exception, match="operator of the catalogue"):
            await client.text_document_prepare_rename_async(refused)

        # The layout, hints, folds, tokens.
        messy = TEXT.replace("conv(out)\n", "conv( out )\n")
        session.change(uri, 9, messy)
        options = lsp.FormattingOptions(tab_size=2, insert_spaces=True)
        edits = await client.text_document_formatting_async(lsp.DocumentFormattingParams(identifier, options))
        assert edits is not None and _edited(messy, edits) == TEXT
        session.change(uri, 10, TEXT)
        whole = lsp.Range(lsp.Position(0, 0), lsp.Position(100, 0))
        hints = await client.text_document_inlay_hint_async(lsp.InlayHintParams(identifier, whole))
        labels = [hint.label for hint in hints or ()]
        assert "2 values x 3" in labels and ": 8|16" in labels
        folds = await client.text_document_folding_range_async(lsp.FoldingRangeParams(identifier))
        assert folds and (1, TEXT.count("\n", 0, TEXT.index("}\n\nspace fixed")) - 1) in {
            (fold.start_line, fold.end_line) for fold in folds
        }
        tokens = await client.text_document_semantic_tokens_full_async(lsp.SemanticTokensParams(identifier))
        assert tokens is not None and len(tokens.data) % 5 == 0 and len(tokens.data) > 400

        # A second file that uses the first one, which is not saved as it stands in the editor.
        other = folder / "other.space"
        other.write_text('use "small.space"\n\nspace more = small with { width: 8 }\n', encoding="utf-8")
        session.open(other)
        await session.until(other.as_uri(), lambda told: not told.diagnostics)
        session.change(
            uri,
            11,
            TEXT.replace("let width = oneof(8, 16)", "let breadth = oneof(8, 16)").replace(
                "block(width)", "block(breadth)"
            ),
        )
        (found,) = await session.until(other.as_uri(), lambda told: bool(told.diagnostics))
        assert "width" in found.message
    finally:
        await session.stop()


def _edited(text: str, edits: Any) -> str:
    lines = Lines(text)
    for edit in sorted(edits, key=lambda one: (one.range.start.line, one.range.start.character), reverse=True):
        start = lines.offset(edit.range.start.line, edit.range.start.character)
        end = lines.offset(edit.range.end.line, edit.range.end.character)
        text = text[:start] + edit.new_text + text[end:]
    return text


# --- Half-typed texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "spaces").glob("*.space")), ids=lambda path: path.stem)
def test_what_can_be_read_of_a_whole_text_is_all_of_it(path):
    source = read(path)
    assert parse_partly(source) == parse(source)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("space a {\n  input 3 x 8 x 8\n  let k =\n  let b = 3\n}", ["a", "b"]),
        ("space a {\n  network {\n    conv(3, ker\n    stem: relu()\n  }\n}", ["a", "network", "stem"]),
        ("space a = \nspace b { input 3 x 8 x 8 }", ["b"]),
        ("let a = 3\nlet b = ", ["a"]),
        ("operator f(out) = conv(out) ->\noperator g(out) = conv(out)", ["f", "g"]),
        ("space a { network { conv(3) ) } let b = 2 }", ["a"]),
        ("", []),
        (")", []),
        ("{ { {", []),
    ],
)
def test_what_is_around_a_mistake_is_read(text, kept):
    made = outline.symbols(Document(text))
    names: list[str] = []

    def collect(symbols):
        for one in symbols:
            names.append(one.name)
            collect(one.parts)

    collect(made)
    assert set(kept) <= set(names)


TYPED = ("{", "(", "[", ",", "\n", " x ", ".", ":", '"', "#", "->", " let ", "use", "é", "conv(")


def _ask_everything(text: str, path: Path, offset: int, generator: random.Random) -> None:
    """Every question about one place of a text."""
    one = Document(text, str(path), path)
    assert isinstance(one.mistakes, tuple)
    found = complete(one, offset)
    assert found.start <= offset and "\n" not in text[found.start : offset]
    parameters_at(one, offset)
    hover(one, offset)
    outline.symbols(one)
    outline.folds(one)
    outline.hints(one, [])
    edits = formatted(one)
    if one.misread:
        assert not edits
    else:
        assert parse(Source(applied(text, edits))) == one.tree
    for mistake in one.mistakes[:2]:
        for fix in fixes(one, mistake):
            assert applied(text, fix.edits) != text
    try:
        place = renamable(one, offset)
    except NotRenamable:
        return
    if generator.random() < 0.05:
        with contextlib.suppress(NotRenamable):
            edits_of = renamed({path: one}, one, offset, "another_name")
            assert Document(applied(text, edits_of[path]), str(path), path).mistakes == () or one.mistakes
    assert place.span.text.isidentifier()


@pytest.mark.parametrize("name", ["tiny", "darts", "hrnas_small", "smnas_small", "efficientdet"])
def test_any_half_typed_text_is_answered(name):
    path = ROOT / "spaces" / f"{name}.space"
    text = read(path).text
    generator = random.Random(name)
    rounds = 1000 if LONG else 8
    for _ in range(rounds):
        at = generator.randrange(len(text))
        _ask_everything(text[:at], path, at, generator)
        start = generator.randrange(len(text))
        end = start + generator.choice([1, 2, 5, 30])
        _ask_everything(text[:start] + text[end:], path, start, generator)
        typed = generator.choice(TYPED)
        _ask_everything(text[:at] + typed + text[at:], path, at + len(typed), generator)


@pytest.mark.long
@pytest.mark.parametrize("name", ["tiny", "mlp", "convnext_small", "hrnas_small"])
def test_every_prefix_is_answered(name):
    path = ROOT / "spaces" / f"{name}.space"
    text = read(path).text
    for at in range(len(text) + 1):
        _ask_everything(text[:at], path, at, random.Random(at))


def test_every_prefix_of_a_small_text_is_answered():
    for at in range(0, len(TEXT) + 1, 1 if LONG else 11):
        _ask_everything(TEXT[:at], Path("small.space"), at, random.Random(at))


# --- Completion -------------------------------------------------------------------------------------------------------


def labels(asked: tuple[Document, int], *more: Any) -> list[str]:
    return [item.label for item in complete(*asked, *more).items]


def test_completion_of_steps_and_values():
    body = labels(put("stem: block(width)\n", "    |||"))
    assert body[:3] == ["body", "classes", "stem"] or {"body", "stem", "width", "classes"} <= set(body[:8])
    assert {"block", "conv", "mbconv", "parallel", "oneof", "for", "let", "match"} <= set(body)
    values = labels(put("let inner = 2 * out\n", "    let more = |||"))
    assert {"inner", "out", "stride", "width", "task", "floor", "in", "true"} <= set(values)
    assert "stem" not in values
    assert labels(put("let inner = 2 * out\n", "    let |||")) == []


def test_completion_of_arguments():
    assert {"out", "stride"} <= set(labels(put("stem: block(width)\n", "    block(|||)")))
    given = labels(put("stem: block(width)\n", "    conv(16, kernel: 3, |||)"))
    assert "norm" in given and "kernel" not in given
    assert labels(put("stem: block(width)\n", "    conv(16, norm: |||)"))[:4] == ["batch", "frozen", "group", "none"]
    known = put("stem: block(width)\n", "    conv(16, kernel: 3, act: |||)")
    assert {"relu", "h_swish"} <= set(labels(known)[:20])
    assert "conv(" in documented("conv", "operator") and documented("task", "param") == ""
    shown = parameters_at(*put("stem: block(width)\n", "    block(16, stride: |||)"))
    assert shown is not None and shown.parameters[shown.active or 0][0] == "stride"


def test_completion_by_place():
    assert {"param", "input", "network", "search"} <= set(labels(document("space a {\n  |||\n}")))
    assert {"space", "use", "let"} <= set(labels(document("|||")))
    assert labels(put("repeat 2 { block(32, stride: 2) }\n", "    match task { digits: relu(), |||")) == [
        "letters",
        "else",
    ]
    assert "small" in labels(document(TEXT + "space other = |||"))
    sources = labels(document("space a {\n  fusion f {\n    from: |||\n  }\n}"))
    assert sources == ["all", "coarser", "finer", "neighbours"]
    assert labels(document("space a {\n  detector {\n    head: retina()\n    |||\n  }\n}")) == [
        "backbone",
        "neck",
        "proposals",
    ]
    assert {"inner"} <= set(labels(put("stem: block(width)\n", "    let deep = block.|||")))
    assert labels(document("space a { # here |||\n}")) == []
    assert "tiny.space" in labels(document('use "|||"'))


def test_completion_of_files_beside(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "cells.space").write_text("operator cell(out) = conv(out)\n")
    (tmp_path / "mine.space").write_text("")
    path = tmp_path / "new.space"
    listed = labels(document('use "|||"', path=path))
    assert "mine.space" in listed and "parts/" in listed and "new.space" not in listed
    assert labels(document('use "parts/|||"', path=path)) == ["parts/cells.space"]


def test_completion_of_pins():
    text = TEXT.replace("  body[0].block.conv[0].kernel: 3\n", "  body[0].block.conv[0].kernel: 3\n  |||\n")
    known = known_of(TEXT)
    listed = labels(document(text), known)
    assert {"task", "classes", "width"} <= set(listed) and any("kernel" in label for label in listed)
    text = TEXT.replace("  body[0].block.conv[0].kernel: 3\n", "  width: |||\n")
    assert labels(document(text), known)[:2] == ["16", "8"]
    text = TEXT.replace("  task: letters\n", "  task: |||\n")
    assert labels(document(text), known)[:2] == ["digits", "letters"]


def test_completion_of_settings():
    settings = setting_words()
    asked = document(TEXT.replace("{ target: macs <= 0.3 }", "{ |||, target: macs <= 0.3 }"))
    listed = complete(*asked, settings=settings).items
    assert {"penalty", "every", "train"} <= {item.label for item in listed}
    assert "target" in {item.label for item in listed if item.kind == "setting"}
    asked = document(TEXT.replace("target: macs <= 0.3", "train: { optimiser: { name: ||| } }"))
    assert [item.label for item in complete(*asked, settings=settings).items][:4] == ["adam", "adamw", "rmsprop", "sgd"]
    asked = document(TEXT.replace("search shrink", "search |||"))
    assert {"shrink", "evolve", "sample"} <= {item.label for item in complete(*asked, settings=settings).items}
    assert settings["sample"].parts["rule"].words[0] == "uniform"


def test_context_of_a_place():
    one, at = document("space a {\n  network {\n    x: conv(oneof(3, 5), kern|||el: 3)\n")
    here = context(one.text, one.tokens.tokens, one.tokens.comments, at)
    assert here.word == "kern" and [opened.role for opened in here.inside] == ["top", "space", "body", "call"]
    assert here.at.name == "conv" and here.at.count == 1


# --- Hover, facts -----------------------------------------------------------------------------------------------------


def hovered(word: str, number: int = 0, known: list[Facts] | None = None, **more: Any) -> str:
    one, _ = document(TEXT)
    start = -1
    for _ in range(number + 1):
        start = TEXT.index(word, start + 1)
    found = hover(one, start, known or [], **more)
    assert found is not None
    return found.markdown


def test_hover():
    known = known_of(TEXT)
    assert "param task in [digits, letters]" in hovered("task", 0, known) and "`digits`" in hovered("task", 0, known)
    assert "`10`" in hovered("classes", 0, known)
    assert "`16, 32, 64`" in hovered("inner", 0, known) or "16|32" in hovered("inner", 0, known)
    assert "channels of the output" in hovered("conv(out)", 0, known)
    assert "`conv`: `kernel`" in hovered("kernel", 0, known)
    assert "A decision: exactly one" in hovered("oneof(3, 5)", 0, known)
    assert "What must hold" in hovered("require", 0, known)
    assert "MACs of the whole network" in hovered("macs", 0, known)
    assert "the cost to end at" in hovered("target", 0, known, settings=setting_words())
    one, _ = document(TEXT)
    assert hover(one, 0) is None and hover(one, TEXT.index("\n\n") + 1) is None


def test_facts_move_with_the_text():
    (known,) = known_of(TEXT)
    new = TEXT.replace("# A small space.\n", "# A small space, with more in its first line.\n\n")
    moved = known.moved(shift(TEXT, new))
    assert {new[start:end] for start, end in moved.steps} == {TEXT[start:end] for start, end in known.steps}
    changed = TEXT.replace("block(width)", "block(widths)")
    lost = known.moved(shift(TEXT, changed))
    assert len(lost.steps) < len(known.steps) or len(lost.decisions) <= len(known.decisions)


def test_costs_of_a_place_are_exact():
    """Of the whole network, and of steps against sums over architectures that were drawn."""
    from nasdsl.compiler.cost import cost_of
    from nasdsl.compiler.sample import sample

    source = Source(TEXT.replace("  require macs <= 100M\n", ""), "small.space")
    watch = Watch()
    space = elaborate(source, watch=watch)
    found = facts(source, space.name, watch, space)
    assert found.space.macs is not None and found.space.exact
    costs = [cost_of(space.graph, one.indices)["macs"] for one in sample(space.graph, 64, seed=0)]
    assert (min(costs), max(costs)) == found.space.macs
    text = source.text
    stem = next(step for place, step in found.steps.items() if text[place[0] : place[1]] == "block(width)")
    under = [cost_of(space.graph, one.indices, "stem")["params"] for one in sample(space.graph, 64, seed=1)]
    assert stem.params == (min(under), max(under)) and stem.layers == 3 and stem.settings == "2"


def test_facts_of_a_text_with_mistakes():
    text = TEXT.replace("classify(classes)", "classify(classes, stride: 2)")
    answers = list(check(Request(0, text, "small.space", None, {})))
    assert [one.code for one in answers[0].diagnostics] == ["unknown-argument"]
    assert answers[-1].finished and any(answer.checked for answer in answers)
    told = next(answer.facts for answer in answers if answer.facts is not None)
    assert any(text[start:end] == "block(width)" for start, end in told.steps)


def test_the_worker_tells_of_every_space():
    answers = list(check(Request(3, TEXT, "small.space", None, {})))
    assert [answer.space for answer in answers if answer.space is not None] == ["small", "fixed"]
    counts = {answer.facts.space.name: answer.facts.space.count for answer in answers if answer.facts is not None}
    assert counts == {"small": "16", "fixed": "8"}
    assert {answer.number for answer in answers} == {3}
    (answer,) = check(Request(4, "space {", "x", None, {}))
    assert answer.finished and answer.diagnostics
    assert any(answer.diagnostics for answer in check(Request(5, "let a = 2 * b\n", "x", None, {})))


# --- Names ------------------------------------------------------------------------------------------------------------


def occurrences(word: str, number: int = 0) -> list[str]:
    one, _ = document(TEXT)
    start = -1
    for _ in range(number + 1):
        start = TEXT.index(word, start + 1)
    found = one.names.at(start)
    assert found is not None
    lines = Lines(TEXT)
    return [f"{lines.position(place.span.start)[0]}" for place in one.names.of(found.declaration)]


def test_names_know_their_declarations():
    lines = TEXT.split("\n")
    for word, number, texts in [
        ("width", 0, ["let width", "stem: block(width)"]),
        ("stride = 1", 0, ["operator block", "conv(inner", "body: repeat"]),
        ("inner", 0, ["let inner", "conv(inner"]),
        ("stem", 0, ["stem: block"]),
        ("body", 0, ["body: repeat", "body[0].block"]),
        ("block", 0, ["operator block", "stem: block", "body: repeat", "body[0].block"]),
        ("classes", 0, ["param classes", "classify(classes"]),
        ("task", 0, ["param task", "match task", "task: letters"]),
        ("small {", 0, ["space small", "fixed = small"]),
    ]:
        found = [lines[int(line)].strip() for line in occurrences(word, number)]
        assert len(found) == len(texts), (word, found)
        assert all(text in line for text, line in zip(texts, found, strict=True)), (word, found)


def renamed_text(word: str, new: str, text: str = TEXT, number: int = 0) -> str:
    one, _ = document(text)
    start = -1
    for _ in range(number + 1):
        start = text.index(word, start + 1)
    return applied(text, renamed({None: one}, one, start, new)[None])


def test_new_names():
    assert renamed_text("width", "breadth") == TEXT.replace("width", "breadth")
    assert renamed_text("stem", "first_layer") == TEXT.replace("stem", "first_layer")
    assert renamed_text("task", "kind") == TEXT.replace("task", "kind")
    assert renamed_text("small {", "tiny") == TEXT.replace("space small", "space tiny").replace("= small", "= tiny")
    # A bare name that gives the parameter of its name goes on giving it.
    expected = TEXT.replace("stride = 1", "step_size = 1").replace("block(32, stride: 2)", "block(32, step_size: 2)")
    expected = expected.replace("kernel: oneof(3, 5), stride)", "kernel: oneof(3, 5), stride: step_size)")
    assert renamed_text("stride = 1", "step_size") == expected


def test_new_names_keep_the_meaning():
    """The same graph, with another name in its paths."""
    before = elaborate(Source(TEXT), "fixed")
    after = elaborate(Source(renamed_text("block(out", "cell")), "fixed")
    assert [path.replace("block", "cell") for path in before.graph.decisions] == list(after.graph.decisions)
    assert [name.replace("block", "cell") for name in before.graph.nodes] == list(after.graph.nodes)


FILES_TO_RENAME = ("tiny", "mlp", *(("hrnas", "convnext", "swin", "mobilenet", "unet", "trionet") if LONG else ()))


@pytest.mark.parametrize("name", FILES_TO_RENAME)
def test_every_name_of_a_file_can_be_changed_and_nothing_else_changes(name):
    path = ROOT / "spaces" / f"{name}.space"
    text = read(path).text

    def made(text):
        return [
            ([(d.kind, d.n) for d in space.graph.decisions.values()], [n.op for n in space.graph.nodes.values()])
            for space in elaborate_all(Source(text, str(path), path))
        ]

    one, before = Document(text, str(path), path), made(text)
    changed = 0
    for place in one.names.occurrences:
        if place.declares and place.declaration.kind != "space":
            edits = renamed({path: one}, one, place.span.start, "another_name")
            assert made(applied(text, edits[path])) == before, place.span.text
            changed += 1
    assert changed >= 7


@pytest.mark.parametrize(
    ("word", "new", "why"),
    [
        ("conv(out)", "convolve", "operator of the catalogue"),
        ("oneof", "choose", "function of the language"),
        ("kernel", "size", "parameter of an operator"),
        ("width", "3x", "can't be a name"),
        ("width", "let", "can't be a name"),
        ("width", "task", "already means something"),
        ("inner", "out", "already means something"),
        ("16 x 16", "a", "no name"),
    ],
)
def test_names_that_can_not_be_changed(word, new, why):
    with pytest.raises(NotRenamable, match=why):
        renamed_text(word, new)


def test_a_label_and_an_operator_of_one_name_in_a_pin_are_not_guessed():
    text = TEXT.replace("block", "body")
    with pytest.raises(NotRenamable, match="may mean this `body` or another"):
        renamed_text("body(out", "cell", text)


def test_names_across_files(tmp_path):
    (tmp_path / "cells.space").write_text("operator cell(out, size = 3) = conv(out, kernel: size)\n")
    path = tmp_path / "net.space"
    path.write_text(
        'use "cells.space"\nspace net { input 3 x 8 x 8, network { cell(8, size: 5), classify(classes: 2) } }\n'
    )
    net, cells = (Document(one.read_text(), str(one), one) for one in (path, tmp_path / "cells.space"))
    at = net.text.index("size")
    found = net.names.at(at)
    assert found is not None and found.declaration.span is not None
    assert found.declaration.span.source.path == tmp_path / "cells.space"
    edits = renamed({path: net, tmp_path / "cells.space": cells}, net, at, "kernel_size")
    assert applied(net.text, edits[path]) == net.text.replace("size", "kernel_size")
    assert applied(cells.text, edits[tmp_path / "cells.space"]) == cells.text.replace("size", "kernel_size")


def test_mistakes_of_used_files_are_told_where_they_are_used(tmp_path):
    (tmp_path / "cells.space").write_text("operator cell(out) = conv(out\n")
    path = tmp_path / "net.space"
    text = 'use "cells.space"\nuse "nowhere.space"\nspace net { input 3 x 8 x 8, network { cell(8) } }\n'
    one = Document(text, str(path), path)
    inside, lost = one.mistakes
    assert inside.code == "unclosed-bracket" and inside.span is not None
    assert inside.span.source.path == tmp_path / "cells.space"
    assert one.names.used_for[str(tmp_path / "cells.space")] == (4, 17)
    assert lost.code == "no-such-file" and lost.span is not None and lost.span.text == '"nowhere.space"'
    assert lost.span.source is one.source


@pytest.mark.parametrize("path", sorted((ROOT / "spaces").glob("*.space")), ids=lambda path: path.stem)
def test_every_name_of_files_that_ship_is_known(path):
    """Each name in a network, an operator or a fusion has a declaration, or is a word of the language."""
    one = Document(read(path).text, str(path), path)
    assert not one.mistakes
    starts = {occurrence.span.start for occurrence in one.names.occurrences}
    lost = [one.text[p.start : p.end] for p in one.pieces if p.kind in ("called", "defined") and p.start not in starts]
    assert not [word for word in lost if word not in ("sgd", "adam")], lost
    for occurrence in one.names.occurrences:
        if occurrence.declares:
            assert occurrence.declaration.span is not None


# --- Quick fixes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "code", "title"),
    [
        ("relu()", "rleu()", "unknown-operator", "Change to `relu`"),
        ("2 * out", "2 * uot", "unknown-name", "Change to `out`"),
        ("kernel: oneof", "kernal: oneof", "unknown-argument", "Change to `kernel`"),
        ("-> relu()", "=> relu()", "foreign-operator", "Write `->`"),
        ("conv(out)\n", "conv(out);\n", "semicolon", "Take `;` out"),
        ("# A small space.", "// A small space.", "wrong-comment", "Begin the comment with `#`"),
        ("classify(classes)", "classify(classes", "unclosed-bracket", "Close it with `)`"),
        ("match task { digits:", "match task { digit:", "unknown-option", "Change to `digits`"),
        ("search shrink", "serach shrink", "unknown-section", "Change to `search`"),
        ("-> relu()", "-> relu", "missing-parentheses", "Write `relu()`"),
        ("1 x 16 x 16", "1 × 16 x 16", "stray-character", "Write `x`"),
    ],
)
def test_quick_fixes_mend(old, new, code, title):
    text = TEXT.replace(old, new, 1)
    one, _ = document(text)
    mistake = next(d for d in one.mistakes if d.code == code)
    offered = {fix.title: fix for fix in fixes(one, mistake)}
    assert title in offered, [*offered]
    mended = Document(applied(text, offered[title].edits), "small.space")
    assert not mended.mistakes


def test_what_only_the_evaluation_finds_can_be_mended_too():
    text = TEXT.replace("conv(out)\n", "conv(out, act: rleu)\n")
    (found, *_) = next(iter(check(Request(0, text, "small.space", None, {})))).diagnostics
    one, _ = document(text)
    titles = [fix.title for fix in fixes(one, found)]
    assert "Change to `relu`" in titles
    unused = TEXT.replace("  let width", "  let useless = 3\n  let width")
    (found,) = next(iter(check(Request(0, unused, "small.space", None, {})))).diagnostics
    one, _ = document(unused)
    (fix,) = fixes(one, found)
    assert applied(unused, fix.edits) == TEXT


# --- Layout, lines, the rest ------------------------------------------------------------------------------------------


def test_formatting_is_that_of_fmt():
    from nasdsl.compiler.unparse import unparse

    messy = TEXT.replace("conv(out)\n", "conv(  out )\n").replace("let width =", "let width=")
    one, _ = document(messy)
    assert applied(messy, formatted(one)) == unparse(parse(Source(messy))) == TEXT
    assert formatted(document(TEXT)[0]) == []
    assert formatted(document("space {")[0]) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_lines_and_columns(encoding):
    text = "a\u00e9\U0001f600b\r\nsecond\n\n\U0001f600\u2028x"
    lines = Lines(text, encoding)
    for offset in range(len(text) + 1):
        if text[offset - 1 : offset + 1] != "\r\n":
            assert lines.offset(*lines.position(offset)) == offset
    units = {"utf-8": 7, "utf-16": 4, "utf-32": 3}[encoding]
    assert lines.position(3) == (0, units)
    assert lines.offset(0, 100) == 4 and lines.offset(99, 0) == len(text) and lines.offset(-1, 5) == 0
    assert lines.position(len(text))[0] == 3


def test_places_move_with_edits():
    generator = random.Random(0)
    for _ in range(200):
        old = "".join(generator.choice("abc\n") for _ in range(30))
        start, end = sorted(generator.randrange(31) for _ in range(2))
        new = old[:start] + "".join(generator.choice("abcd") for _ in range(generator.randrange(4))) + old[end:]
        by = shift(old, new)
        for first in range(0, 30, 3):
            for last in range(first + 1, 31, 4):
                place = by.place(first, last)
                if place is not None and (last <= by.first or first >= by.end):
                    assert new[place[0] : place[1]] == old[first:last]


def test_symbols_and_folds():
    one, _ = document(TEXT)
    small, fixed = outline.symbols(one)
    assert [(part.name, part.kind) for part in small.parts] == [
        ("task", "param"),
        ("classes", "param"),
        ("width", "let"),
        ("block", "operator"),
        ("network", "section"),
        ("search", "section"),
    ]
    assert [part.name for part in small.parts[4].parts] == ["stem", "body"]
    assert [part.name for part in fixed.parts] == ["task", "body[0].block.conv[0].kernel"] and fixed.detail == "= small"
    assert all(TEXT[symbol.name_start : symbol.name_end] == symbol.name for symbol in small.parts)
    comment = document("# one\n# two\n# three\nlet a = 3 # four\n")[0]
    assert outline.folds(comment) == [(0, 2, "comment")]


def test_without_pygls_the_command_says_what_to_install(monkeypatch):
    from nasdsl.commands.lsp import run
    from nasdsl.compiler.extras import MissingPackage

    monkeypatch.setitem(sys.modules, "pygls", None)
    with pytest.raises(MissingPackage) as told:
        run(None)  # type: ignore[arg-type]
    assert "nasdsl[editor]" in told.value.help and isinstance(told.value, NasdslError)
