"""Whole spaces are checked in another process, one text after the other, the newest first. What is overtaken by a newer
text is stopped."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from nasdsl.editor.worker import Answer, Request, SettingsAnswer, packed, receive

Post = Callable[[Callable[[], None]], None]
"""Has something run where the server's own work is done."""


class _Process:
    """A worker, and a thread that reads its answers."""

    def __init__(self, tell: Callable[[_Process, Any], None], *options: str):
        command = [sys.executable, "-c", "from nasdsl.editor.worker import main; main()", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, args=(tell,), daemon=True).start()

    def _read(self, tell: Callable[[_Process, Any], None]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            while (value := receive(answers.read)) is not None:
                tell(self, value)
        tell(self, None)

    def send(self, request: Request) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(packed(request))
            self.process.stdin.flush()
        except OSError:  # it has ended, which its thread tells
            pass

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except OSError:
                pass


class Checker:
    """Takes texts to check and tells what is found. All of it runs where `post` has it run.

    Args:
        post: brings answers there.
        answer: (key of the text, request, answer).
        settings: is told the settings of searches, once.
    """

    def __init__(
        self,
        post: Post,
        answer: Callable[[str, Request, Answer], None],
        settings: Callable[[SettingsAnswer], None],
    ):
        self.post, self.answer, self.settings = post, answer, settings
        self.process: _Process | None = None
        self.spare: _Process | None = None
        self.asking: _Process | None = None  # for the settings
        self.asked = False
        self.waiting: dict[str, Request] = {}
        self.current: tuple[str, Request] | None = None
        self.checked = False  # whether of the current one only costs are missing
        self.closed = False

    def submit(self, key: str, request: Request) -> None:
        """Has a text checked; an older one of the same key is forgotten."""
        self.waiting.pop(key, None)
        self.waiting[key] = request
        if self.current is not None and (self.current[0] == key or self.checked):
            other, old = self.current
            if other != key:  # its costs are told later
                self.waiting = {other: old, **self.waiting}
            self._stop()
        self._next()

    def forget(self, key: str) -> None:
        """Has a text checked no more."""
        self.waiting.pop(key, None)
        if self.current is not None and self.current[0] == key:
            self._stop()
            self._next()

    def close(self) -> None:
        """Ends all processes."""
        self.closed = True
        for process in (self.process, self.spare, self.asking):
            if process is not None:
                process.kill()
        self.process = self.spare = self.asking = None

    def warm(self) -> None:
        """Starts a process before there is anything to check."""
        if self.process is None and not self.closed:
            self.process = self._started()

    def _started(self) -> _Process:
        return _Process(lambda process, value: self.post(lambda: self._told(process, value)))

    def _stop(self) -> None:
        """Ends what is being checked. Another process, which is ready, goes on."""
        if self.process is not None:
            self.process.kill()
        self.process, self.spare = self.spare, None
        self.current = None

    def _next(self) -> None:
        if self.current is not None or not self.waiting or self.closed:
            return
        key, request = self.waiting.popitem()
        self.current, self.checked = (key, request), False
        if self.process is None:
            self.process = self._started()
        self.process.send(request)
        if self.spare is None:
            self.spare = self._started()

    def _told(self, process: _Process, value: Any) -> None:
        if self.closed:
            return
        if isinstance(value, SettingsAnswer):
            self.settings(value)
        elif process is self.asking and value is None:
            self.asking = None
        elif process is self.spare and value is None:
            self.spare = None
        elif process is self.process:
            self._of_current(value)

    def _of_current(self, value: Any) -> None:
        if value is None:  # it died, of a lack of memory perhaps: the text is not asked for again
            self.process, self.current = None, None
        elif self.current is not None and value.number == self.current[1].number:
            key, request = self.current
            self.checked = self.checked or value.checked
            if value.finished:
                self.current = None
            self.answer(key, request, value)
            if value.checked and not self.asked:
                self.asked = True
                self.asking = _Process(lambda process, told: self.post(lambda: self._told(process, told)), "--settings")
        self._next()
