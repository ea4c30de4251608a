"""How long the language server takes to answer each kind of request, over stdio, as an editor asks it.

python -m benchmarks editor
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, report, table
from nasdsl import spaces
from nasdsl.compiler.parse import read

MOST_WAITED = 120.0
"""Seconds for the check of a whole file."""

Ask = Callable[[], Awaitable[Any]]


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Time from a keystroke to the answer, for each kind of request."
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="of files that ship (default: the longest, the slowest)"
    )
    parser.add_argument("--repeats", type=int, default=20, help="of each request (default: 20)")
    parser.add_argument("--no-write", action="store_true", help="print the table only")


def main(args: argparse.Namespace) -> None:
    names = args.names or [longest(), "efficientdet", "spinenet"]
    parts = []
    for name in names:
        text = read(spaces.path(name)).text
        title = f"{name}.space: {text.count(chr(10))} lines, {len(text):,} characters"
        parts.append((title, asyncio.run(asked(name, args.repeats))))
    report("editor", "Answers of the language server", parts, None if args.no_write else RESULTS)


def longest() -> str:
    """The file that ships with the most characters."""
    return max(spaces.names(), key=lambda name: len(read(spaces.path(name)).text))


async def asked(name: str, repeats: int) -> str:
    """A table of one file: milliseconds of each request, right behind a keystroke and again."""
    from nasdsl.editor.lines import Lines

    session = _Session(spaces.path(name))
    await session.start()
    try:
        await session.checked()
        text = session.text
        lines = Lines(text)
        place = lines.position(text.index("conv(") + 2)
        rows = []
        for kind, ask in session.requests(*place).items():
            fresh, again = [], []
            before = session.processor_time()
            for number in range(repeats + 2):
                session.type(number)
                start = time.perf_counter()
                await ask()
                middle = time.perf_counter()
                await ask()
                if number >= 2:  # the first ones read what is read once
                    fresh.append(middle - start)
                    again.append(time.perf_counter() - middle)
            used = _shown((session.processor_time() - before) / (repeats + 2))
            seconds = (statistics.median(fresh), max(fresh), statistics.median(again), max(again))
            rows.append((kind, used, *map(_shown, seconds)))
        first = []
        for number in range(repeats):
            start = time.perf_counter()
            await session.told(session.type(number))
            first.append(time.perf_counter() - start)
        rows.append(("diagnostics at first sight", "", _shown(statistics.median(first)), _shown(max(first)), "", ""))
        start = time.perf_counter()
        session.type(0)
        await session.checked()
        whole = time.perf_counter() - start
    finally:
        await session.stop()
    note = (
        f"Milliseconds from the request to the answer, over stdio, of {repeats}: right behind a keystroke, so that the "
        f"text is read anew, and once more. `CPU` is the server's processor time for a keystroke and both. Meanwhile "
        f"another process checks the whole file; its last diagnostics come {whole:.1f} s after the last keystroke, of "
        f"which {0.25} s are waited."
    )
    return f"{table(('request', 'CPU', 'median', 'most', 'again', 'most again'), rows)}\n\n{note}"


def _shown(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f}"


class _Session:
    """A client with one file open."""

    def __init__(self, path: Path):
        from lsprotocol import types as lsp
        from pygls.lsp.client import LanguageClient

        self.lsp, self.client = lsp, LanguageClient("benchmark", "1")
        self.path, self.text, self.version = path, read(path).text, 1
        self.uri = path.as_uri()
        self.known: dict[int, int] = {}  # how often diagnostics were told, by version
        self.news = asyncio.Event()

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def diagnostics(params: Any) -> None:
            self.known[params.version] = self.known.get(params.version, 0) + 1
            self.news.set()

    async def start(self) -> None:
        lsp = self.lsp
        await self.client.start_io(sys.executable, "-m", "nasdsl", "lsp")
        await self.client.initialize_async(lsp.InitializeParams(capabilities=lsp.ClientCapabilities()))
        self.client.initialized(lsp.InitializedParams())
        item = lsp.TextDocumentItem(self.uri, "space", 1, self.text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))

    async def stop(self) -> None:
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await self.client.stop()

    def processor_time(self) -> float:
        """Seconds that the server has used so far, where the system tells it."""
        server = self.client._server
        try:
            text = Path(f"/proc/{server.pid if server is not None else 0}/stat").read_text()
        except OSError:
            return math.nan
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def type(self, number: int) -> int:
        """One more character in the comment at the end; the version that the text has then."""
        lsp = self.lsp
        self.version += 1
        end = self.text.count("\n")
        place = lsp.Range(lsp.Position(end, 0), lsp.Position(end, 100))
        change = lsp.TextDocumentContentChangePartial(range=place, text="#" + "x" * (number % 20))
        document = lsp.VersionedTextDocumentIdentifier(version=self.version, uri=self.uri)
        self.client.text_document_did_change(lsp.DidChangeTextDocumentParams(document, [change]))
        return self.version

    async def told(self, version: int, times: int = 1) -> None:
        """Waits until diagnostics of a version were told so often."""
        while self.known.get(version, 0) < times:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), MOST_WAITED)

    async def checked(self) -> None:
        """Waits until all spaces of the file are checked: each tells its diagnostics, and the end does."""
        count = sum(1 for line in self.text.splitlines() if line.startswith("space "))
        await self.told(self.version, count + 2)

    def requests(self, line: int, column: int) -> dict[str, Ask]:
        lsp, client = self.lsp, self.client
        file, place = lsp.TextDocumentIdentifier(self.uri), lsp.Position(line, column)
        whole = lsp.Range(lsp.Position(0, 0), lsp.Position(self.text.count("\n"), 0))
        here = lsp.Range(place, place)
        name = self.text.index("operator ") + len("operator ")
        first = lsp.Position(*_position(self.text, name))
        return {
            "completion": lambda: client.text_document_completion_async(lsp.CompletionParams(file, place)),
            "hover": lambda: client.text_document_hover_async(lsp.HoverParams(file, place)),
            "signature": lambda: client.text_document_signature_help_async(lsp.SignatureHelpParams(file, place)),
            "definition": lambda: client.text_document_definition_async(lsp.DefinitionParams(file, place)),
            "references": lambda: client.text_document_references_async(
                lsp.ReferenceParams(lsp.ReferenceContext(True), file, first)
            ),
            "rename": lambda: client.text_document_rename_async(lsp.RenameParams(file, first, "renamed_operator")),
            "quick fixes": lambda: client.text_document_code_action_async(
                lsp.CodeActionParams(file, here, lsp.CodeActionContext([]))
            ),
            "formatting": lambda: client.text_document_formatting_async(
                lsp.DocumentFormattingParams(file, lsp.FormattingOptions(2, True))
            ),
            "symbols": lambda: client.text_document_document_symbol_async(lsp.DocumentSymbolParams(file)),
            "folding": lambda: client.text_document_folding_range_async(lsp.FoldingRangeParams(file)),
            "inlay hints": lambda: client.text_document_inlay_hint_async(lsp.InlayHintParams(file, whole)),
            "semantic tokens": lambda: client.text_document_semantic_tokens_full_async(lsp.SemanticTokensParams(file)),
        }


def _position(text: str, offset: int) -> tuple[int, int]:
    line = text.count("\n", 0, offset)
    return line, offset - (text.rfind("\n", 0, offset) + 1)
