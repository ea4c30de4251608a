"""The page on this machine alone: a server on loopback that answers what the page asks."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nasdsl.compiler.diagnostics import NasdslError, cause
from nasdsl.explorer.page import POLICY

HOST = "127.0.0.1"
NAMES = (HOST, "localhost", "[::1]")
LONGEST = 1 << 22
"""Bytes of a question."""

Answer = Callable[[Any], Any]


class Server(ThreadingHTTPServer):
    """Serves one page and answers its questions.

    Whoever asks must know the address with its token, name this machine as the host (which a page from elsewhere whose
    name was made to lead here does not), and come from the page itself.

    Args:
        page: HTML.
        answers: by name: what a question of that kind, a JSON value, is answered with, another one.
        port: 0 for a free one.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, page: str, answers: Mapping[str, Answer], port: int = 0):
        self.page, self.answers = page.encode(), dict(answers)
        self.token = secrets.token_urlsafe(16)
        self.turn = threading.Lock()
        super().__init__((HOST, port), _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}/{self.token}/"

    def answer(self, kind: str, question: Any) -> Any:
        """One at a time: what is computed is kept for the next."""
        with self.turn:
            return self.answers[kind](question)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that is closed while it waits is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "nasdsl", ""
    timeout = 60
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        place = self._place()
        if place is None:
            return
        if place == "":
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        place = self._place()
        if place is None:
            return
        origin = self.headers.get("Origin")
        if origin is not None and origin not in self._origins():
            self._refuse(HTTPStatus.FORBIDDEN, "questions come from the page itself")
            return
        if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a question is JSON")
            return
        if place not in self.server.answers:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such question")
            return
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            size = -1
        if not 0 <= size <= LONGEST:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a question says how long it is, and is short")
            return
        try:
            question = json.loads(self.rfile.read(size))
        except (ValueError, RecursionError):
            self._refuse(HTTPStatus.BAD_REQUEST, "that is no JSON")
            return
        try:
            found = self.server.answer(place, question)
        except NasdslError as problem:
            told = {"error": problem.message, "help": problem.help}
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, json.dumps(told).encode(), "application/json")
            return
        except Exception as problem:  # one question's failure is told to the page, and the next is answered
            told = {"error": f"nasdsl failed: {cause(problem)}", "help": ""}
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, json.dumps(told).encode(), "application/json")
            return
        self._send(HTTPStatus.OK, json.dumps(found, separators=(",", ":")).encode(), "application/json")

    def _place(self) -> str | None:
        """What stands behind the token; None where the request was refused."""
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in NAMES:
            self._refuse(HTTPStatus.FORBIDDEN, "this page is for this machine alone")
            return None
        _, token, *rest = [*self.path.partition("?")[0].split("/"), ""]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND, "the address has a token, which `nasdsl explore` has printed")
            return None
        return "/".join(rest).strip("/")

    def _origins(self) -> list[str]:
        return [f"http://{name}:{self.server.port}" for name in NAMES]

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True  # what the request brings along is not read
        self._send(status, f"{why}\n".encode(), "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what is asked is nobody's news."""
