"""The language server: what editors ask, in the terms of the protocol. It talks to them by pygls."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls import uris
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from nasdsl import __version__, spaces
from nasdsl.compiler.bind import library
from nasdsl.compiler.bind.binder import load
from nasdsl.compiler.diagnostics import Diagnostic
from nasdsl.compiler.elaborate.vocabulary import VOCABULARY
from nasdsl.compiler.source import Source, Span
from nasdsl.editor import outline
from nasdsl.editor.changes import Edit, NotRenamable, fixes, formatted, renamable, renamed
from nasdsl.editor.checker import Checker
from nasdsl.editor.completion import Settings, complete, documented, parameters_at
from nasdsl.editor.document import Document
from nasdsl.editor.facts import Facts
from nasdsl.editor.hover import hover
from nasdsl.editor.lines import Lines, shift
from nasdsl.editor.names import Declaration, Occurrence, home
from nasdsl.editor.worker import Answer, Request, SettingsAnswer

WAIT = 0.25
"""Seconds without a change after which whole spaces are checked."""

MOST_FILES = 200
"""Files of a folder that are looked through for those that use a file."""

logger = logging.getLogger(__name__)


@dataclass
class Open:
    """A text that is open in the editor.

    Attributes:
        mistakes: what whole spaces have, by the name of the space, each with the text that was checked.
        known: what was found out about them, with the text of which it holds.
        round: the spaces told of in the present check.
    """

    document: Document
    version: int | None
    mistakes: dict[str, tuple[str, tuple[Diagnostic, ...]]] = field(default_factory=dict)
    known: dict[str, tuple[str, Facts]] = field(default_factory=dict)
    round: set[str] = field(default_factory=set)
    checked: bool = False
    timer: asyncio.TimerHandle | None = None

    def facts(self) -> list[Facts]:
        """What is known of the present text, of the space that is asked for most first."""
        text = self.document.text
        return [one if old == text else one.moved(shift(old, text)) for old, one in self.known.values()]


class SpaceServer(LanguageServer):
    """The state of a session: the texts that are open, and what is known of them."""

    def __init__(self) -> None:
        super().__init__("nasdsl", __version__, text_document_sync_kind=lsp.TextDocumentSyncKind.Incremental)
        self.open: dict[str, Open] = {}
        self.closed: dict[Path, Document] = {}
        self.settings: Settings = {}
        self.numbers = itertools.count()
        self.wait = WAIT
        self._checker: Checker | None = None

    @property
    def checker(self) -> Checker:
        if self._checker is None:
            loop = asyncio.get_running_loop()

            def post(act: Callable[[], None]) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(act)

            self._checker = Checker(post, self.answered, self.take_settings)
        return self._checker

    def shutdown(self) -> None:
        if self._checker is not None:
            self._checker.close()
        super().shutdown()  # type: ignore[no-untyped-call]

    # --- Texts -------------------------------------------------------------------------------------------------------

    def document(self, uri: str) -> Document:
        """The text at a place, as the editor has it."""
        found = self.open.get(uri)
        return self.changed(uri, None).document if found is None else found.document

    def changed(self, uri: str, version: int | None) -> Open:
        """Takes in the present text at a place."""
        text = self.workspace.get_text_document(uri).source
        path = path_of(uri)
        encoding = str(getattr(self.workspace.position_encoding, "value", self.workspace.position_encoding) or "utf-16")
        document = Document(_plain(text), str(path or uri), path, encoding, self.unsaved(uri))
        known = self.open.get(uri)
        if known is None:
            known = self.open[uri] = Open(document, version)
        else:
            known.document, known.version = document, version
        return known

    def unsaved(self, uri: str) -> Mapping[Path, str]:
        """The texts of other files that are open, by resolved path."""
        others = (one.document for other, one in self.open.items() if other != uri)
        return {document.path.resolve(): document.text for document in others if document.path is not None}

    def take_in(self, uri: str, version: int | None) -> None:
        """A text was opened or changed: what shows at once is told at once, the rest when it rests."""
        known = self.changed(uri, version)
        self.publish(uri)
        self.check_soon(uri)
        if known.document.path is not None:
            own = known.document.path.resolve()
            for other, one in self.open.items():
                if other != uri and any(home(source) == str(own) for source in one.document.names.files):
                    one.document = one.document.beside(self.unsaved(other))
                    self.publish(other)
                    self.check_soon(other)

    def check_soon(self, uri: str) -> None:
        known = self.open[uri]
        if known.timer is not None:
            known.timer.cancel()
        known.timer = asyncio.get_running_loop().call_later(self.wait, self.check, uri)

    def check(self, uri: str) -> None:
        """Has all spaces of a text checked, where it can be read."""
        known = self.open.get(uri)
        if known is None or known.document.misread:
            return
        known.timer, known.round, known.checked = None, set(), False
        document = known.document
        number = next(self.numbers)
        self.checker.submit(uri, Request(number, document.text, document.name, document.path, document.others))

    def answered(self, uri: str, request: Request, answer: Answer) -> None:
        """What was found of a text."""
        known = self.open.get(uri)
        if known is None:
            return
        if answer.facts is not None:
            name = answer.facts.space.name
            old = known.known.get(name)
            if old is None or old[0] != request.text or answer.space is None:
                known.known[name] = (request.text, answer.facts)
            self.refresh_hints()
        if answer.space is not None:
            known.round.add(answer.space)
            known.mistakes[answer.space] = (request.text, answer.diagnostics)
            self.publish(uri)
        if answer.checked:
            known.checked = True
            names = {name for name in known.mistakes if name not in known.round}
            for name in names:
                known.mistakes.pop(name)
                known.known.pop(name, None)
            self.publish(uri)

    def take_settings(self, answer: SettingsAnswer) -> None:
        self.settings = answer.settings

    def refresh_hints(self) -> None:
        """Has the editor ask for hints again, where it can."""
        workspace = self.client_capabilities.workspace
        if workspace is not None and workspace.inlay_hint is not None and workspace.inlay_hint.refresh_support:
            self.workspace_inlay_hint_refresh(None)

    # --- Diagnostics -------------------------------------------------------------------------------------------------

    def diagnostics(self, uri: str) -> list[Diagnostic]:
        """All that is known to be wrong with a text, with places of it."""
        known = self.open[uri]
        document = known.document
        found: list[Diagnostic] = list(document.mistakes)
        lines = {d.span.line for d in found if d.span is not None and d.span.source.text == document.text}
        for text, told in known.mistakes.values():
            for diagnostic in told:
                moved = _moved(diagnostic, text, document)
                is_new = moved is not None and moved not in found
                if moved is None or not is_new:
                    continue
                if text != document.text and moved.span is not None and moved.span.line in lines:
                    continue  # what is said at first sight of a newer text goes before
                found.append(moved)
        unique = {(d.code, d.span and (d.span.source.name, d.span.start, d.span.end), d.message): d for d in found}
        return list(unique.values())

    def publish(self, uri: str) -> None:
        known = self.open[uri]
        told = [self.to_lsp(known.document, one) for one in self.diagnostics(uri)]
        self.text_document_publish_diagnostics(
            lsp.PublishDiagnosticsParams(uri=uri, diagnostics=told, version=known.version)
        )

    def to_lsp(self, document: Document, d: Diagnostic) -> lsp.Diagnostic:
        message = f"{d.message} ({d.label})" if d.label else d.message
        if d.help:
            message += f"\nhelp: {d.help}"
        others = [
            lsp.DiagnosticRelatedInformation(location=place, message=other.text)
            for other in d.others
            if (place := self.location(document, other.span)) is not None
        ]
        span = d.span
        if span is not None and span.source.text != document.text:  # of a file that this one uses
            place = self.location(document, span)
            if place is not None:
                others.insert(0, lsp.DiagnosticRelatedInformation(location=place, message="here"))
            message = f"{Path(span.source.name).name}:{span.line}:{span.column}: {message}"
            span = self.use_of(document, span.source)
        severity = lsp.DiagnosticSeverity.Error if d.severity == "error" else lsp.DiagnosticSeverity.Warning
        return lsp.Diagnostic(
            range=range_of(document.lines, *_shown(document, span)),
            message=message,
            severity=severity,
            code=d.code,
            source="nasdsl",
            related_information=others,
            tags=[lsp.DiagnosticTag.Unnecessary] if d.code == "unused" else None,
        )

    def use_of(self, document: Document, source: Source) -> Span | None:
        """Where a text uses a file."""
        place = document.names.used_for.get(home(source))
        return None if place is None else Span(document.source, *place)

    def location(self, document: Document, span: Span | None) -> lsp.Location | None:
        """A place in any file."""
        if span is None:
            return None
        if span.source.text == document.text:
            open_as = next((uri for uri, one in self.open.items() if one.document is document), None)
            uri = open_as if open_as is not None or document.path is None else self.uri_of(document.path)
            return None if uri is None else lsp.Location(uri, range_of(document.lines, span.start, span.end))
        path = span.source.path
        if library.inside(span):
            path = library.FOLDER.resolve() / Path(span.source.name).name
        if path is None:
            return None
        uri = self.uri_of(path)
        return lsp.Location(uri, range_of(Lines(span.source.text, document.encoding), span.start, span.end))

    def uri_of(self, path: Path) -> str:
        """The place of a file, by the name under which it is open."""
        resolved = path.resolve()
        for uri, one in self.open.items():
            if one.document.path is not None and one.document.path.resolve() == resolved:
                return uri
        return resolved.as_uri()

    # --- Files that hang together ------------------------------------------------------------------------------------

    def related(self, document: Document) -> dict[Path | None, Document]:
        """The text itself, what it uses, and what uses one of these, as far as that is open or beside it."""
        found: dict[Path | None, Document] = {document.path and document.path.resolve(): document}
        for one in self.open.values():
            if one.document.path is not None:
                found.setdefault(one.document.path.resolve(), one.document)
        if document.path is None:
            return found
        wanted = {document.path.resolve(): document.path.name}
        for source in document.names.files:
            if source.path is not None and source.path.resolve() not in found:
                found[source.path.resolve()] = self.read(document, source.path.resolve(), source.text)
                wanted[source.path.resolve()] = source.path.name
        for path in itertools.islice(sorted(document.path.resolve().parent.glob("*.space")), MOST_FILES):
            if path in found:
                continue
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if any(f'{name}"' in text for name in wanted.values()):
                found[path] = self.read(document, path, text)
        return found

    def read(self, document: Document, path: Path, text: str) -> Document:
        """A text that is not open. It is read anew where it, or a text that is open, has changed."""
        others = dict(document.others)
        if document.path is not None:
            others[document.path.resolve()] = document.text
        known = self.closed.get(path)
        if known is None or known.text != text:
            known = self.closed[path] = Document(text, str(path), path, document.encoding, others)
        elif known.others != others:
            known = self.closed[path] = known.beside(others)
        return known


# --- Places -----------------------------------------------------------------------------------------------------------


def path_of(uri: str) -> Path | None:
    """The file at a place; None for a text that is in none."""
    path = uris.to_fs_path(uri) if uri.startswith("file:") else None
    return None if path is None else Path(path)


def _plain(text: str) -> str:
    """A text without line ends of old Macs, which are as long as the new ones."""
    return text if "\r" not in text else text.replace("\r\n", "\0\n").replace("\r", "\n").replace("\0\n", "\r\n")


def range_of(lines: Lines, start: int, end: int) -> lsp.Range:
    return lsp.Range(lsp.Position(*lines.position(start)), lsp.Position(*lines.position(end)))


def _shown(document: Document, span: Span | None) -> tuple[int, int]:
    """The characters that are underlined: at least one, where there is one."""
    if span is None:
        return 0, max(0, document.text.find("\n")) if "\n" in document.text else len(document.text)
    start, end = span.start, span.end
    if end <= start:
        if start < len(document.text) and document.text[start] not in "\r\n":
            return start, start + 1
        return max(0, start - 1), start
    return start, end


def _moved(d: Diagnostic, text: str, document: Document) -> Diagnostic | None:
    """A diagnostic of an older text, where it is now; None where that was edited."""
    if text == document.text or d.span is None:
        return d
    by = shift(text, document.text)

    def put(span: Span) -> Span | None:
        if span.source.text != text:
            return span
        place = by.place(span.start, span.end)
        return None if place is None else Span(document.source, *place)

    span = put(d.span)
    if span is None:
        return None
    others = tuple(type(other)(place, other.text) for other in d.others if (place := put(other.span)) is not None)
    return Diagnostic(d.code, d.message, span, d.label, others, d.help, d.severity)


def _edits(document: Document, edits: Iterable[Edit]) -> list[lsp.TextEdit]:
    return [lsp.TextEdit(range_of(document.lines, edit.start, edit.end), edit.text) for edit in edits]


# --- What editors ask -------------------------------------------------------------------------------------------------

COMPLETION = {
    "operator": lsp.CompletionItemKind.Class,
    "form": lsp.CompletionItemKind.Keyword,
    "function": lsp.CompletionItemKind.Function,
    "value": lsp.CompletionItemKind.Variable,
    "param": lsp.CompletionItemKind.Constant,
    "label": lsp.CompletionItemKind.Reference,
    "argument": lsp.CompletionItemKind.Property,
    "keyword": lsp.CompletionItemKind.Keyword,
    "word": lsp.CompletionItemKind.EnumMember,
    "section": lsp.CompletionItemKind.Module,
    "setting": lsp.CompletionItemKind.Property,
    "space": lsp.CompletionItemKind.Struct,
    "fusion": lsp.CompletionItemKind.Interface,
    "path": lsp.CompletionItemKind.Field,
    "file": lsp.CompletionItemKind.File,
    "field": lsp.CompletionItemKind.Field,
}
SYMBOLS = {
    "space": lsp.SymbolKind.Class,
    "operator": lsp.SymbolKind.Function,
    "fusion": lsp.SymbolKind.Interface,
    "let": lsp.SymbolKind.Variable,
    "function": lsp.SymbolKind.Method,
    "param": lsp.SymbolKind.Constant,
    "section": lsp.SymbolKind.Module,
    "label": lsp.SymbolKind.Field,
    "pin": lsp.SymbolKind.Property,
}
TOKENS: Mapping[str, lsp.SemanticTokenTypes] = {
    "comment": lsp.SemanticTokenTypes.Comment,
    "string": lsp.SemanticTokenTypes.String,
    "number": lsp.SemanticTokenTypes.Number,
    "unit": lsp.SemanticTokenTypes.Type,
    "sign": lsp.SemanticTokenTypes.Operator,
    "infix": lsp.SemanticTokenTypes.Keyword,
    "declaration": lsp.SemanticTokenTypes.Keyword,
    "control": lsp.SemanticTokenTypes.Keyword,
    "section": lsp.SemanticTokenTypes.Namespace,
    "defined": lsp.SemanticTokenTypes.Variable,
    "label": lsp.SemanticTokenTypes.Property,
    "form": lsp.SemanticTokenTypes.Macro,
    "function": lsp.SemanticTokenTypes.Function,
    "operator": lsp.SemanticTokenTypes.Class,
    "called": lsp.SemanticTokenTypes.Class,
    "constant": lsp.SemanticTokenTypes.EnumMember,
    "measure": lsp.SemanticTokenTypes.EnumMember,
    "ambient": lsp.SemanticTokenTypes.Modifier,
    "field": lsp.SemanticTokenTypes.Property,
    "name": lsp.SemanticTokenTypes.Variable,
}
DECLARED = {
    "space": lsp.SemanticTokenTypes.Class,
    "operator": lsp.SemanticTokenTypes.Class,
    "fusion": lsp.SemanticTokenTypes.Interface,
    "function": lsp.SemanticTokenTypes.Function,
    "param": lsp.SemanticTokenTypes.Variable,
    "formal": lsp.SemanticTokenTypes.Parameter,
    "loop": lsp.SemanticTokenTypes.Parameter,
    "label": lsp.SemanticTokenTypes.Property,
    "let": lsp.SemanticTokenTypes.Variable,
}
LEGEND = list(dict.fromkeys([*TOKENS.values(), *DECLARED.values()]))


def make_server() -> SpaceServer:
    """The server, with everything that it answers."""
    server = SpaceServer()
    _texts(server)
    _questions(server)
    _changes(server)
    _views(server)
    return server


def _texts(server: SpaceServer) -> None:
    @server.feature(lsp.INITIALIZED)
    def initialized(ls: SpaceServer, params: lsp.InitializedParams) -> None:
        ls.checker.warm()
        for file in library.FILES:  # what every text may use is bound before the first question
            load(file, VOCABULARY)

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def did_open(ls: SpaceServer, params: lsp.DidOpenTextDocumentParams) -> None:
        ls.take_in(params.text_document.uri, params.text_document.version)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(ls: SpaceServer, params: lsp.DidChangeTextDocumentParams) -> None:
        ls.take_in(params.text_document.uri, params.text_document.version)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def did_save(ls: SpaceServer, params: lsp.DidSaveTextDocumentParams) -> None:
        known = ls.open.get(params.text_document.uri)
        if known is not None:  # files that it uses may have changed where no editor has them
            known.document = known.document.beside(known.document.others)
            ls.publish(params.text_document.uri)
            ls.check(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(ls: SpaceServer, params: lsp.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        known = ls.open.pop(uri, None)
        if known is not None and known.timer is not None:
            known.timer.cancel()
        ls.checker.forget(uri)
        ls.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri=uri, diagnostics=[]))


def _questions(server: SpaceServer) -> None:
    @server.feature(
        lsp.TEXT_DOCUMENT_COMPLETION,
        lsp.CompletionOptions(trigger_characters=[".", "(", ":", '"', "{", "/"], resolve_provider=True),
    )
    def completion(ls: SpaceServer, params: lsp.CompletionParams) -> lsp.CompletionList:
        document, offset = _at(ls, params)
        found = complete(document, offset, _facts(ls, params), ls.settings)
        place = range_of(document.lines, found.start, offset)
        snippets = _snippets(ls)
        items = []
        for number, item in enumerate(found.items):
            text = item.insert or item.label
            items.append(
                lsp.CompletionItem(
                    label=item.label,
                    kind=COMPLETION[item.kind],
                    detail=item.detail or None,
                    documentation=_markdown(item.doc) if item.doc else None,
                    sort_text=f"{number:04}",
                    text_edit=lsp.TextEdit(place, text if snippets else text.replace("$0", "")),
                    insert_text_format=lsp.InsertTextFormat.Snippet if snippets else lsp.InsertTextFormat.PlainText,
                    data=item.kind,
                )
            )
        return lsp.CompletionList(is_incomplete=False, items=items)

    @server.feature(lsp.COMPLETION_ITEM_RESOLVE)
    def resolve(ls: SpaceServer, item: lsp.CompletionItem) -> lsp.CompletionItem:
        text = documented(item.label, str(item.data or ""))
        if text and item.documentation is None:
            item.documentation = _markdown(text)
        return item

    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hovered(ls: SpaceServer, params: lsp.HoverParams) -> lsp.Hover | None:
        document, offset = _at(ls, params)
        found = hover(document, offset, _facts(ls, params), ls.settings)
        if found is None:
            return None
        return lsp.Hover(_markdown(found.markdown), range_of(document.lines, found.start, found.end))

    @server.feature(lsp.TEXT_DOCUMENT_SIGNATURE_HELP, lsp.SignatureHelpOptions(trigger_characters=["(", ","]))
    def signature(ls: SpaceServer, params: lsp.SignatureHelpParams) -> lsp.SignatureHelp | None:
        document, offset = _at(ls, params)
        found = parameters_at(document, offset)
        if found is None:
            return None
        parameters = [lsp.ParameterInformation(label=name, documentation=doc or None) for name, doc in found.parameters]
        one = lsp.SignatureInformation(
            label=found.signature, parameters=parameters, active_parameter=found.active, documentation=found.doc or None
        )
        return lsp.SignatureHelp(signatures=[one], active_signature=0, active_parameter=found.active)

    @server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def definition(ls: SpaceServer, params: lsp.DefinitionParams) -> lsp.Location | None:
        document, offset = _at(ls, params)
        for (start, end), path in document.names.used.items():
            if start <= offset <= end:
                zero = lsp.Position(0, 0)
                return lsp.Location(ls.uri_of(path), lsp.Range(zero, zero))
        found = document.names.at(offset)
        return None if found is None else ls.location(document, found.declaration.span)

    @server.feature(lsp.TEXT_DOCUMENT_REFERENCES)
    def references(ls: SpaceServer, params: lsp.ReferenceParams) -> list[lsp.Location]:
        document, offset = _at(ls, params)
        found = document.names.at(offset)
        if found is None:
            return []
        own = found.declaration.span is not None
        documents = ls.related(document) if own else {None: document}
        return [
            place
            for one in documents.values()
            for occurrence in _all(one, found.declaration)
            if (params.context.include_declaration or not occurrence.declares)
            and (place := ls.location(one, occurrence.span)) is not None
        ]

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
    def highlight(ls: SpaceServer, params: lsp.DocumentHighlightParams) -> list[lsp.DocumentHighlight]:
        document, offset = _at(ls, params)
        found = document.names.at(offset)
        places = [] if found is None else _all(document, found.declaration)
        return [
            lsp.DocumentHighlight(
                range_of(document.lines, one.span.start, one.span.end),
                lsp.DocumentHighlightKind.Write if one.declares else lsp.DocumentHighlightKind.Read,
            )
            for one in places
        ]


def _changes(server: SpaceServer) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    def formatting(ls: SpaceServer, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit]:
        document = ls.document(params.text_document.uri)
        return _edits(document, formatted(document))

    @server.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)
    def prepare(ls: SpaceServer, params: lsp.PrepareRenameParams) -> lsp.PrepareRenamePlaceholder:
        document, offset = _at(ls, params)
        try:
            found = renamable(document, offset)
            _refuse_shipped(document, found.declaration)
        except NotRenamable as problem:
            raise _refusal(problem) from None
        return lsp.PrepareRenamePlaceholder(
            range=range_of(document.lines, found.span.start, found.span.end), placeholder=found.span.text
        )

    @server.feature(lsp.TEXT_DOCUMENT_RENAME, lsp.RenameOptions(prepare_provider=True))
    def rename(ls: SpaceServer, params: lsp.RenameParams) -> lsp.WorkspaceEdit:
        document, offset = _at(ls, params)
        try:
            found = renamable(document, offset)
            _refuse_shipped(document, found.declaration)
            documents = ls.related(document)
            edits = renamed(documents, document, offset, params.new_name)
        except NotRenamable as problem:
            raise _refusal(problem) from None
        own = params.text_document.uri
        return lsp.WorkspaceEdit(
            changes={
                own if documents[path] is document or path is None else ls.uri_of(path): _edits(documents[path], some)
                for path, some in edits.items()
            }
        )

    @server.feature(
        lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix])
    )
    def actions(ls: SpaceServer, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        uri = params.text_document.uri
        document = ls.document(uri)
        out = []
        for one in ls.diagnostics(uri):
            told = ls.to_lsp(document, one)
            if not _touch(told.range, params.range):
                continue
            for fix in fixes(document, one):
                out.append(
                    lsp.CodeAction(
                        title=fix.title,
                        kind=lsp.CodeActionKind.QuickFix,
                        diagnostics=[told],
                        is_preferred=fix.sure,
                        edit=lsp.WorkspaceEdit(changes={uri: _edits(document, fix.edits)}),
                    )
                )
        return out


def _views(server: SpaceServer) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def symbols(ls: SpaceServer, params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        document = ls.document(params.text_document.uri)

        def told(one: outline.Symbol) -> lsp.DocumentSymbol:
            return lsp.DocumentSymbol(
                name=one.name,
                detail=one.detail or None,
                kind=SYMBOLS[one.kind],
                range=range_of(document.lines, one.start, one.end),
                selection_range=range_of(document.lines, one.name_start, one.name_end),
                children=[told(part) for part in one.parts],
            )

        return [told(one) for one in outline.symbols(document)]

    @server.feature(lsp.TEXT_DOCUMENT_FOLDING_RANGE)
    def folding(ls: SpaceServer, params: lsp.FoldingRangeParams) -> list[lsp.FoldingRange]:
        document = ls.document(params.text_document.uri)
        return [
            lsp.FoldingRange(start_line=first, end_line=last, kind=lsp.FoldingRangeKind(kind))
            for first, last, kind in outline.folds(document)
        ]

    @server.feature(lsp.TEXT_DOCUMENT_INLAY_HINT)
    def hints(ls: SpaceServer, params: lsp.InlayHintParams) -> list[lsp.InlayHint]:
        document = ls.document(params.text_document.uri)
        first = document.lines.offset(params.range.start.line, params.range.start.character)
        last = document.lines.offset(params.range.end.line, params.range.end.character)
        return [
            lsp.InlayHint(
                position=lsp.Position(*document.lines.position(one.offset)),
                label=one.text,
                padding_left=not one.text.startswith(":"),
                tooltip=one.tooltip or None,
            )
            for one in outline.hints(document, _facts(ls, params))
            if first <= one.offset <= last
        ]

    @server.feature(
        lsp.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL,
        lsp.SemanticTokensLegend(token_types=[kind.value for kind in LEGEND], token_modifiers=["declaration"]),
    )
    def tokens(ls: SpaceServer, params: lsp.SemanticTokensParams) -> lsp.SemanticTokens:
        return lsp.SemanticTokens(data=_tokens(ls.document(params.text_document.uri)))


def _tokens(document: Document) -> list[int]:
    """Each token by its distance from the one before, as the protocol has it."""
    named = {one.span.start: one for one in document.names.occurrences}
    data: list[int] = []
    last_line = last_column = 0
    for piece in document.pieces:
        kind = TOKENS.get(piece.kind)
        occurrence = named.get(piece.start)
        if occurrence is not None and piece.kind in ("name", "called", "defined", "label", "field"):
            kind = DECLARED.get(occurrence.declaration.kind, kind)
        if kind is None:
            continue
        line, column = document.lines.position(piece.start)
        length = document.lines.position(piece.end)[1] - column
        declares = int(occurrence is not None and occurrence.declares)
        data += [line - last_line, column - last_column if line == last_line else column, length]
        data += [LEGEND.index(kind), declares]
        last_line, last_column = line, column
    return data


def _at(ls: SpaceServer, params: Any) -> tuple[Document, int]:
    """The text that is asked about, and the place in it."""
    document = ls.document(params.text_document.uri)
    return document, document.lines.offset(params.position.line, params.position.character)


def _facts(ls: SpaceServer, params: Any) -> list[Facts]:
    known = ls.open.get(params.text_document.uri)
    return [] if known is None else known.facts()


def _all(document: Document, declaration: Declaration) -> list[Occurrence]:
    return document.names.of(declaration)


def _markdown(text: str) -> lsp.MarkupContent:
    return lsp.MarkupContent(lsp.MarkupKind.Markdown, text)


def _snippets(ls: SpaceServer) -> bool:
    of_text = ls.client_capabilities.text_document
    item = of_text.completion.completion_item if of_text is not None and of_text.completion is not None else None
    return bool(item is not None and item.snippet_support)


def _touch(one: lsp.Range, other: lsp.Range) -> bool:
    return _key(one.start) <= _key(other.end) and _key(other.start) <= _key(one.end)


def _key(position: lsp.Position) -> tuple[int, int]:
    return position.line, position.character


def _refuse_shipped(document: Document, declaration: Declaration) -> None:
    """What is declared in a file that comes with nasdsl is changed there alone."""
    path = declaration.span.source.path if declaration.span is not None else None
    shipped = spaces.FOLDER.resolve()
    own = document.path is not None and document.path.resolve().parent == shipped
    if path is not None and path.resolve().parent == shipped and not own:
        raise NotRenamable(f"`{declaration.name}` is declared in a file that comes with nasdsl")


def _refusal(problem: NotRenamable) -> Exception:
    text = f"{problem.message}: {problem.help}" if problem.help else problem.message
    return JsonRpcException(message=text, code=lsp.LSPErrorCodes.RequestFailed.value)
