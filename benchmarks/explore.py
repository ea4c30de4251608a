"""How long the page of `nasdsl explore` waits for an answer to a pin.

python -m benchmarks explore
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

import nasdsl
from benchmarks.measure import RESULTS, report, table
from nasdsl.compiler.decision import Decision
from nasdsl.explorer.answers import answers
from nasdsl.explorer.page import page
from nasdsl.explorer.serve import HOST, Server
from nasdsl.explorer.session import Session

SPACES = ("hrnas", "trionet", "hitdetector")
GOAL = 200


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Time from a pin to what is left, through HTTP, pins added one after the other."
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of files that ship (default: {', '.join(SPACES)})")
    parser.add_argument("--pins", type=int, default=20, help="of each space (default: 20)")
    parser.add_argument("--no-write", action="store_true", help="print the table only")


def main(args: argparse.Namespace) -> None:
    rows = [row(name, args.pins) for name in args.names or SPACES]
    head = ("space", "decisions", "start, s", "pin, ms", "worst", "in a budget, ms", "worst", "answer, kB", "page, kB")
    text = table(head, rows)
    text += (
        f"\n\n{args.pins} pins at random, each beside those before; medians, and the worst. Each answer has the size, "
        "the ends of the costs, their histogram, what lies inside the budget (half of the greatest MACs), and what "
        f"each option would leave. `start`: from the text to the page. Goal: less than {GOAL} ms."
    )
    report("explore", "The explorer", [("Time to answer a pin", text)], None if args.no_write else RESULTS)


def row(name: str, pins: int) -> tuple[str, ...]:
    start = time.perf_counter()
    space = nasdsl.load(name)
    session = Session(space)
    text = page(session, name)
    started = time.perf_counter() - start
    with Server(text, answers(session, [name])) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        greatest = ask(server, {})[1]["costs"]["macs"][1]
        free, size = pinned(server, session, pins, [])
        inside, _ = pinned(server, session, pins, [f"macs <= {greatest // 2}"])
        server.shutdown()
        thread.join()
    figures = [f"{1e3 * value:.0f}" for one in (free, inside) for value in (statistics.median(one), max(one))]
    return (
        name,
        f"{len(space.graph.decisions)}",
        f"{started:.1f}",
        *figures,
        f"{size / 1e3:.0f}",
        f"{len(text) / 1e3:.0f}",
    )


def pinned(server: Server, session: Session, n: int, budgets: Sequence[str]) -> tuple[list[float], int]:
    """Seconds of each pin, other ones with a budget than without, and the bytes of the longest answer."""
    rng = random.Random(len(budgets))
    taken: list[float] = []
    pins: dict[str, Any] = {}
    longest = 0
    decisions = list(session.space.graph.decisions.values())
    for decision in rng.sample(decisions, min(n, len(decisions))):
        tried = {**pins, decision.path: value(decision, rng)}
        seconds, told, size = ask(server, {"pins": tried, "budgets": list(budgets)})
        taken.append(seconds)
        longest = max(longest, size)
        if not told["empty"]:
            pins = tried
    return taken, longest


def value(decision: Decision, rng: random.Random) -> Any:
    """One at random, as the page has it."""
    if decision.kind == "subset":
        return sorted(rng.sample(range(decision.n), decision.size))
    return rng.sample(range(decision.n), decision.n) if decision.kind == "order" else rng.randrange(decision.n)


def ask(server: Server, question: Any) -> tuple[float, Any, int]:
    """Seconds, the answer, and its length."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection(HOST, server.port)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", f"/{server.token}/view", json.dumps(question), headers)
    body = connection.getresponse().read()
    connection.close()
    return time.perf_counter() - start, json.loads(body), len(body)
