"""`nasdsl explore`: what the page is told, what the server refuses, and the page itself in a browser."""

from __future__ import annotations

import http.client
import json
import random
import re
import shlex
import shutil
import threading
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nasdsl
from benchmarks.report import FLAGS
from nasdsl import spaces
from nasdsl.cli import main
from nasdsl.commands.explore import words_of
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import ArgumentError, NasdslError
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.population import Population, extremes_of
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.explorer.answers import answers
from nasdsl.explorer.budgets import read_budget
from nasdsl.explorer.page import page
from nasdsl.explorer.serve import HOST, Server
from nasdsl.explorer.session import Session
from tests import shipped

KINDS = """
space kinds {
  input 3 x 32 x 32
  let fold = permute([1, 2, 3])
  let taken = manyof(2, [8, 16, 24])
  network {
    a: conv(oneof(8, 16), kernel: oneof(3, 5))
    for out in taken { conv(out) }
    for step in fold { conv(step * 4) }
    mixconv(16, hidden: { 3: units(12), 5: units(4) })
    repeat oneof(1, 2) { op: oneof(plain: conv(16), wide: conv(16, kernel: oneof(3, 5, 7))) }
    classify(classes: 10)
  }
}
"""


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Space:
    """A small space with a decision of each kind, some of which are there in some architectures only."""
    file = tmp_path_factory.mktemp("explored") / "kinds.space"
    file.write_text(KINDS)
    return nasdsl.load(file)


@pytest.fixture(scope="module")
def session(kinds: Space) -> Session:
    return Session(kinds)


def random_pins(space: Space, rng: random.Random, most: int) -> dict[str, Any]:
    """As the page has them."""
    pins: dict[str, Any] = {}
    for path in rng.sample(list(space.graph.decisions), min(most, len(space.graph.decisions))):
        decision = space.graph.decisions[path]
        if decision.kind == "subset":
            pins[path] = sorted(rng.sample(range(decision.n), decision.size))
        elif decision.kind == "order":
            pins[path] = rng.sample(range(decision.n), decision.n)
        else:
            pins[path] = rng.randrange(decision.n)
    return pins


# --- What the page is told --------------------------------------------------------------------------------------------


def held(session: Session, pins: dict[str, Any]) -> None:
    """What a view says under pins is what the compiler says of the graph with these pins."""
    asked = session.read({"pins": pins})
    view = session.view(asked)
    graph = pin(session.space.graph, asked.pins)
    size = count(graph).total
    if not size:
        assert view["empty"] and view["total"] == "0"
        return
    assert not view["empty"]
    if size < 10**40:
        assert view["total"] == f"{size:,}"
    if session.population.exact:
        for name, (low, high) in extremes_of(graph).items():
            assert view["costs"][name] == [low.cost, high.cost]
        assert sum(view["histogram"]["shares"]) == pytest.approx(1, abs=1e-3)
    for (path, decision), told in zip(session.space.graph.decisions.items(), view["decisions"], strict=True):
        if decision.kind != "choice" or size > 10**9:
            continue
        others = {other: value for other, value in asked.pins.items() if other != path}
        for option in range(decision.n):
            left = pin(session.space.graph, {**others, path: option})
            alive = path in pin(session.space.graph, others).decisions and count(left).total > 0
            if option not in told["off"]:
                assert alive


def test_a_view_agrees_with_the_compiler(session: Session) -> None:
    rng = random.Random(1)
    for number in range(6):
        held(session, random_pins(session.space, rng, 2 + number))


def test_a_view_of_a_small_space_agrees_with_a_listing(session: Session) -> None:
    """Sizes in a budget, what is off and what is there, from all architectures one by one."""
    units = [path for path, d in session.space.graph.decisions.items() if d.kind == "units"]
    pins = {**dict.fromkeys(units, 3), "a.kernel": 0, "fold": [2, 0, 1]}
    graph = pin(session.space.graph, session.read({"pins": pins}).pins)
    population = Population(graph)
    everything = [population.unrank(number) for number in range(population.total)]
    costs = [cost_of(graph, one.indices)["macs"] for one in everything]
    limit = sorted(costs)[len(costs) // 3]
    view = session.view(session.read({"pins": pins, "budgets": [f"macs <= {limit}"]}))
    inside = [one for one, cost in zip(everything, costs, strict=True) if cost <= limit]
    assert view["inside"] == {
        "share": pytest.approx(len(inside) / len(everything)),
        "count": f"{len(inside):,}",
        "exact": True,
    }
    exactly = session.count(session.read({"pins": pins, "budgets": [f"macs <= {limit}"]}))
    assert exactly["count"] == f"{len(inside):,}" and exactly["exact"]
    for (path, decision), told in zip(session.space.graph.decisions.items(), view["decisions"], strict=True):
        if path in pins:
            continue
        values = [one.indices.get(path) for one in inside]
        there = None if None not in values else "maybe" if set(values) != {None} else "no"
        assert told.get("there") == there
        if decision.kind == "choice":
            assert told["off"] == [i for i in range(decision.n) if i not in values]
            for option, ends in enumerate(told["ends"]):
                mine = [c for one, c in zip(everything, costs, strict=True) if one.indices.get(path) == option]
                assert ends == ([min(mine), max(mine)] if mine else None)
        if decision.kind == "subset":
            taken = [set(value) for value in values if value is not None]
            assert told["off"] == [i for i in range(decision.n) if all(i not in value for value in taken)]
            assert told["must"] == [i for i in range(decision.n) if all(i in value for value in taken)]


def test_counts_of_units_that_are_possible(session: Session) -> None:
    graph = session.space.graph
    path = next(path for path, decision in graph.decisions.items() if decision.kind == "units")
    place = list(graph.decisions).index(path)
    free = session.view(session.read({}))
    assert free["decisions"][place]["kept"] == [[0, graph.decisions[path].n]]
    with_three = session.view(session.read({"pins": {path: 3}}))["costs"]["macs"][0]
    tight = session.view(session.read({"budgets": [f"macs <= {with_three - 1}"]}))
    assert tight["decisions"][place]["kept"][-1][1] < 3 or tight["decisions"][place]["kept"] == [[0, 2]]


def test_nodes_that_are_gone(session: Session) -> None:
    graph = session.space.graph
    path = next(path for path in graph.decisions if path.endswith("depth"))
    view = session.view(session.read({"pins": {path: 0}}))
    left = pin(graph, {path: 0}).nodes
    gone = {list(graph.nodes)[number] for number in view["gone"]}
    assert gone and not gone & left.keys()


def test_random_architectures_lie_inside(session: Session) -> None:
    ends = session.view(session.read({}))["costs"]["macs"]
    for share in (0.02, 0.5):
        limit = int(ends[0] + share * (ends[1] - ends[0]))
        asked = session.read({"budgets": [f"macs <= {limit}"]})
        drawn = session.draw(asked, seed=3)
        assert drawn["costs"]["macs"] <= limit
        indices = session.read({"pins": drawn["pins"]}).pins
        whole = Architecture.at(session.space.graph, indices)
        assert cost_of(session.space.graph, whole.indices, names=session.names) == drawn["costs"]
        view = session.view(session.read({"pins": drawn["pins"], "budgets": [f"macs <= {limit}"]}))
        assert view["total"] == "1" and view["inside"]["count"] == "1"
    assert session.draw(session.read({}), seed=3) == session.draw(session.read({}), seed=3)
    with pytest.raises(NasdslError, match="no architecture has macs"):
        session.draw(session.read({"budgets": ["macs <= 1"]}), seed=0)


def test_nothing_is_left_of_what_contradicts(tmp_path: Path) -> None:
    file = tmp_path / "bound.space"
    file.write_text(
        "space bound {\n  input 3 x 8 x 8\n  let a = oneof(1, 2)\n  let b = oneof(1, 2)\n"
        "  network { conv(8 * a) -> conv(8 * b) -> classify(classes: 2) }\n  require a == b\n}\n"
    )
    session = Session(nasdsl.load(file))
    view = session.view(session.read({"pins": {"a": 0}}))
    assert view["total"] == "1" and view["decisions"][1]["off"] == [1]
    assert view["decisions"][0]["off"] == []  # freed, it can be either
    empty = session.view(session.read({"pins": {"a": 0, "b": 1}}))
    assert empty["empty"] and empty["total"] == "0" and "costs" not in empty
    assert [told["off"] for told in empty["decisions"]] == [[0], [1]]  # what each of them would have to be


def test_a_tangled_space_is_told_with_estimates() -> None:
    session = Session(shipped.space("nasbench_mr"))
    view = session.view(session.read({"budgets": ["macs <= 100G"]}))
    assert session.population.why and not session.population.exact
    assert view["histogram"]["draws"] and not view["histogram"]["exact"] and view["inside"]["error"] > 0
    for name, (low, high) in extremes_of(session.space.graph).items():
        assert view["costs"][name] == [low.cost, high.cost]  # these are proven all the same
    held(session, random_pins(session.space, random.Random(0), 5))
    assert session.draw(session.read({"budgets": ["macs <= 100G"]}), 0)["costs"]["macs"] <= 100 * 10**9
    with pytest.raises(ArgumentError, match="cannot be told"):
        session.count(session.read({"budgets": ["macs <= 100G"]}))


def test_a_space_that_cannot_be_counted_is_told_with_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bound.space"
    file.write_text(
        "space bound {\n  input 3 x 8 x 8\n  let a = oneof(1, 2, 3)\n  let b = oneof(1, 2, 3)\n"
        "  network { conv(8 * a) -> conv(8 * b) -> classify(classes: 2) }\n  require a < b\n  require macs >= 1\n}\n"
    )
    space = nasdsl.load(file)

    def tangled(graph: Any, names: Any) -> Population:
        if any(r.origin != "budget" for r in graph.requirements):
            raise TooWide("the space", 10**9, 10)
        return Population(graph, names)

    monkeypatch.setattr("nasdsl.explorer.session.Population", tangled)
    session = Session(space)
    view = session.view(session.read({}))
    assert "too tangled" in session.bound and view["total"] == "9" and count(space.graph).total == 3
    assert json.loads(re.search(r'id="data">(.*?)</script>', page(session, "x"), re.S)[1])["bound"]  # type: ignore[index]
    for seed in range(8):
        drawn = session.read({"pins": session.draw(session.read({}), seed)["pins"]}).pins
        assert drawn["a"] < drawn["b"]
    with pytest.raises(NasdslError, match="none of 200"):
        session.draw(session.read({"pins": {"a": 2}}), 0)


QUICK = ["tiny", "trionet", "hitdetector", "nasbench201", "autoformer_small", "mobilenet", "unet", "mlp"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in spaces.names()]
)
def test_each_space_that_ships_can_be_explored(name: str) -> None:
    session = Session(shipped.space(name))
    text = page(session, name)
    assert f"<h1>{name}</h1>" in text and len(text) < 3_000_000
    rng = random.Random(0)
    view = session.view(session.read({"pins": random_pins(session.space, rng, 3), "budgets": ["macs <= 10G"]}))
    assert len(view["decisions"]) == len(session.space.graph.decisions)
    json.dumps(view, allow_nan=False)


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ([], "pins by path"),
        ({"pins": {"nowhere": 1}}, "no decision `nowhere`"),
        ({"pins": {"a.out": 9}}, "has options from 0 to 1"),
        ({"pins": {"taken": [0]}}, "takes 2 of 3 items"),
        ({"pins": {"fold": [0, 0, 1]}}, "takes different indices"),
        ({"budgets": "macs"}, "budgets are texts"),
        ({"by": "colour"}, "not looked at"),
    ],
)
def test_wrong_questions_are_refused(session: Session, told: Any, what: str) -> None:
    with pytest.raises(NasdslError, match=re.escape(what)):
        session.read(told)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("macs <= 600M", {"macs": (None, 600 * 10**6)}),
        ("600M", {"macs": (None, 600 * 10**6)}),
        ("macs < 600M", {"macs": (None, 600 * 10**6 - 1)}),
        ("params > 1.5K", {"params": (1501, None)}),
        ("flops <= 1.2G", {"macs": (None, 600 * 10**6)}),
        ("macs in 1M..2M and params >= 5_000", {"macs": (10**6, 2 * 10**6), "params": (5000, None)}),
        ("macs == 12", {"macs": (12, 12)}),
    ],
)
def test_budgets_are_those_of_the_language(tmp_path: Path, text: str, window: Any) -> None:
    budget = read_budget(text, ("macs", "params"))
    assert budget.window == window


@pytest.mark.parametrize("text", ["", "macs", "macs <=", "colour <= 3", "memory <= 3M", "macs <= three", "macs ~ 3"])
def test_what_is_no_budget_is_told(session: Session, text: str) -> None:
    with pytest.raises(ArgumentError):
        read_budget(text, ("macs", "params"))
    view = session.view(session.read({"budgets": [text]}))
    assert view["wrong"][0] and "inside" not in view and view["costs"]


# --- Text -------------------------------------------------------------------------------------------------------------


def test_text_and_command_give_the_same_smaller_space(kinds: Space, session: Session, tmp_path: Path) -> None:
    args = Namespace(file=str(kinds.source.path), space=None, defines=[])
    ask = answers(session, words_of(kinds, args))
    rng = random.Random(5)
    for number in range(4):
        pins = random_pins(kinds, rng, 3 + 2 * number)
        view = ask["view"]({"pins": pins})
        if view["empty"]:
            continue
        told = ask["texts"]({"pins": pins, "budgets": ["macs >= 1"]})
        saved = elaborate(Source(told["file"], "saved", tmp_path / "saved.space"))
        assert f"{count(saved.graph).total:,}" == view["total"]
        assert [r.message for r in saved.graph.requirements if r.origin == "budget"] in ([], ["macs >= 1"])
        alone = f'use "{kinds.source.path}"\nspace mine = kinds {told["with"]}\n'
        assert count(elaborate(Source(alone, "mine", tmp_path / "mine.space")).graph).total == count(saved.graph).total
        out = tmp_path / f"{number}.space"
        words = shlex.split(told["command"])
        assert words[:2] == ["nasdsl", "pin"] and words[-2] == "-o"
        assert main([*words[1:-1], str(out)]) == 0
        assert f"{count(nasdsl.load(out).graph).total:,}" == view["total"]
    nothing = ask["texts"]({})
    assert nothing["with"] == nothing["command"] == ""
    assert (
        count(elaborate(Source(nothing["file"], "all", tmp_path / "all.space")).graph).total == count(kinds.graph).total
    )


def test_the_text_of_a_space_that_ships_compiles_anywhere(tmp_path: Path) -> None:
    space = shipped.space("trionet_small")
    told = answers(Session(space), ["trionet_small"])["texts"]({"pins": {"stage1[0].trio.op": 2}, "budgets": []})
    assert 'use "trionet_small.space#' in told["file"]
    elaborate(Source(told["file"], "saved", tmp_path / "saved.space"))


# --- The server -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(kinds: Space, session: Session) -> Iterator[Server]:
    args = Namespace(file=str(kinds.source.path), space=None, defines=[])
    with Server(page(session, "kinds.space"), answers(session, words_of(kinds, args))) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def asked(
    server: Server, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    reply = connection.getresponse()
    found = reply.status, reply.read(), reply.headers
    connection.close()
    return found


JSON = {"Content_Type": "application/json"}


def test_the_page_is_served_with_its_token_alone(server: Server) -> None:
    place = f"/{server.token}/"
    status, body, headers = asked(server, "GET", place)
    assert status == 200 and b"<h1>kinds</h1>" in body
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert not re.search(r"https?://(?!www\.w3\.org/)", body.decode())
    assert asked(server, "GET", "/")[0] == 404
    assert asked(server, "GET", "/wrong/")[0] == 404
    assert asked(server, "GET", f"{place}other")[0] == 404
    assert server.server_address[0] == HOST == "127.0.0.1"
    assert asked(server, "HEAD", place)[:2] == (200, b"")


def test_questions_are_answered(server: Server) -> None:
    status, body, _ = asked(server, "POST", f"/{server.token}/view", b'{"pins": {"a.kernel": 1}}', **JSON)
    assert status == 200 and json.loads(body)["total"]
    status, body, _ = asked(server, "POST", f"/{server.token}/draw", b'{"seed": 1}', **JSON)
    assert status == 200 and json.loads(body)["pins"]
    status, body, _ = asked(server, "POST", f"/{server.token}/view", b'{"pins": {"a.kernel": 7}}', **JSON)
    assert status == 422 and "options from 0 to 1" in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_pages_cannot_ask(server: Server, headers: dict[str, str], status: int) -> None:
    found, _, _ = asked(server, "POST", f"/{server.token}/view", b"{}", **{**JSON, **headers})
    assert found == status
    assert asked(server, "GET", f"/{server.token}/", Host="evil.example")[0] == 403


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[" * 10**5, 400), (b"[]", 422), (b'{"pins": 3}', 422)])
def test_questions_that_are_none(server: Server, body: bytes, status: int) -> None:
    assert asked(server, "POST", f"/{server.token}/view", body, **JSON)[0] == status
    assert asked(server, "POST", f"/{server.token}/unknown", b"{}", **JSON)[0] == 404
    assert asked(server, "POST", f"/{server.token}/view", None, **JSON, Content_Length="9" * 12)[0] == 413


def test_own_origins_may_ask(server: Server) -> None:
    port = server.port
    for name in ("127.0.0.1", "localhost"):
        headers = {**JSON, "Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
        assert asked(server, "POST", f"/{server.token}/view", b"{}", **headers)[0] == 200


def test_a_failure_is_told_and_the_next_question_answered(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server.answers, "count", lambda told: 1 / 0)
    status, body, _ = asked(server, "POST", f"/{server.token}/count", b"{}", **JSON)
    assert status == 500 and "ZeroDivisionError" in json.loads(body)["error"]
    assert asked(server, "POST", f"/{server.token}/view", b"{}", **JSON)[0] == 200


def test_a_port_that_is_taken(server: Server, kinds: Space, capsys: pytest.CaptureFixture[str]) -> None:
    port = str(server.port)
    assert main(["explore", str(kinds.source.path), "--no-browser", "--port", port]) == 2
    assert f"port {port} cannot be had" in capsys.readouterr().err


def test_a_page_without_a_server(kinds: Space, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "kinds.html"
    assert main(["explore", str(kinds.source.path), "--out", str(out), "--measure", "memory"]) == 0
    data = json.loads(re.search(r'id="data">(.*?)</script>', out.read_text(), re.S)[1])  # type: ignore[index]
    assert not data["served"] and [one["name"] for one in data["measures"]] == ["macs", "params", "memory"]
    for path, sizes in data["alone"].items():
        for option, size in enumerate(sizes):
            assert size == f"{count(pin(kinds.graph, {path: option})).total:,}"


# --- In a browser -----------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=CHROMIUM,
            args=[f"--{flag}" for flag in FLAGS],
            headless=True,
            viewport={"width": 1366, "height": 768},
        )
        yield context
        context.close()


@pytest.fixture
def tab(browser: Any, server: Server) -> Iterator[Any]:
    """The page; at the end it must not have complained, or asked anybody else."""
    opened = browser.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda problem: said.append(str(problem)))
    opened.on("request", lambda request: None if server.address in request.url else said.append(request.url))
    opened.goto(server.address)
    opened.wait_for_selector("html[data-ready=yes]")
    yield opened
    opened.close()
    assert [text for text in said if not text.startswith("blob:")] == []


def answered(tab: Any, number: int) -> None:
    tab.wait_for_selector(f'html[data-answered="{number}"]')


def row(tab: Any, space: Space, path: str) -> Any:
    return tab.locator(f"#decision-{list(space.graph.decisions).index(path)}")


def test_a_session(tab: Any, kinds: Space, session: Session, tmp_path: Path) -> None:
    total = tab.locator("#total")
    assert total.inner_text() == f"{count(kinds.graph).total:,}"
    kernel = row(tab, kinds, "a.kernel")
    kernel.get_by_text("5", exact=True).click()
    answered(tab, 1)
    pinned = pin(kinds.graph, {"a.kernel": 1})
    assert total.inner_text() == f"{count(pinned).total:,}"
    assert kernel.locator("[aria-pressed=true]").inner_text() == "5"
    ends = extremes_of(pinned)["macs"]
    assert f"{ends[1].cost:,}" in tab.locator("#costs").inner_text()
    # a budget that leaves one of two widths
    narrow = pin(kinds.graph, {"a.kernel": 1, "a.out": 0})
    limit = extremes_of(pin(kinds.graph, {"a.kernel": 1, "a.out": 1}))["macs"][0].cost - 1
    assert extremes_of(narrow)["macs"][0].cost <= limit
    tab.fill("#budget", f"macs <= {limit}")
    answered(tab, 2)
    assert row(tab, kinds, "a.out").locator("[aria-disabled=true]").inner_text() == "16"
    assert "inside the budget" in tab.locator("#inside").inner_text()
    row(tab, kinds, "a.out").locator("[aria-disabled=true]").click(force=True)  # does nothing
    tab.fill("#budget", "colour <= 3")
    answered(tab, 3)
    assert "no measure `colour`" in tab.locator("#told").inner_text()
    tab.fill("#budget", f"macs <= {limit}")
    answered(tab, 4)
    # an item more, units, an order
    taken = row(tab, kinds, "taken")
    taken.get_by_text("8", exact=True).click()
    assert "1 of 2: not pinned yet" in taken.inner_text()
    taken.get_by_text("24", exact=True).click()
    answered(tab, 5)
    units = next(path for path, decision in kinds.graph.decisions.items() if decision.kind == "units")
    field = row(tab, kinds, units).locator("input[type=number]")
    field.fill("5")
    field.press("Enter")
    answered(tab, 6)
    row(tab, kinds, "fold").locator("li button:not([disabled])").first.click()
    answered(tab, 7)
    expected = {"a.kernel": 1, "taken": (0, 2), units: tuple(range(5)), "fold": (1, 0, 2)}
    assert total.inner_text() == f"{count(pin(kinds.graph, expected)).total:,}"
    # the text, compiled
    tab.click("#copy")
    text = tab.locator("#texts pre").first.inner_text()
    made = f'use "{kinds.source.path}"\nspace mine = kinds {text}\n'
    smaller = elaborate(Source(made, "mine", tmp_path / "mine.space"))
    assert f"{count(smaller.graph).total:,}" == total.inner_text()
    assert smaller.pins == expected
    with tab.expect_download() as download:
        tab.get_by_text("Save pinned.space").click()
    saved = tmp_path / "saved.space"
    download.value.save_as(saved)
    assert count(nasdsl.load(saved).graph).total == count(smaller.graph).total
    # one architecture, and back
    tab.click("#random")
    answered(tab, 8)
    assert total.inner_text() == "1"
    tab.click("#undo")
    answered(tab, 9)
    assert f"{count(smaller.graph).total:,}" == total.inner_text()
    kernel.get_by_text("5", exact=True).click()  # frees it again
    answered(tab, 10)
    assert kernel.locator("[aria-pressed=true]").count() == 0
    tab.click("#reset")
    answered(tab, 11)
    assert total.inner_text() == f"{count(kinds.graph).total:,}"
    tab.keyboard.press("Control+z")
    answered(tab, 12)
    assert total.inner_text() != f"{count(kinds.graph).total:,}"


def test_the_keyboard_alone_will_do(tab: Any, kinds: Space) -> None:
    button = row(tab, kinds, "a.kernel").get_by_text("3", exact=True)
    button.focus()
    tab.keyboard.press("Enter")
    answered(tab, 1)
    assert button.get_attribute("aria-pressed") == "true"
    box = tab.locator("#drawing .unit[aria-expanded=false]").first
    name = box.get_attribute("data-path")
    box.focus()
    tab.keyboard.press("Enter")
    opened = tab.locator(f'#drawing .unit[data-path="{name}"]')
    assert opened.get_attribute("aria-expanded") == "true"
    assert opened.evaluate("(unit) => document.activeElement === unit")
    tab.keyboard.press("Enter")
    assert opened.get_attribute("aria-expanded") == "false"
    badge = tab.locator("#drawing .badge").first
    badge.focus()
    tab.keyboard.press("Enter")
    assert "shown, in" in tab.locator("#filtered").inner_text()


def test_everything_has_a_name(tab: Any) -> None:
    """What can be used tells those who do not see it what it is, and no text of the drawing leaves its box."""
    tab.click("#open-all")
    tab.click("#copy")
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=button]")].filter((one) =>
        !(one.getAttribute("aria-label") || one.labels && one.labels.length || one.textContent.trim()))
        .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    wide = tab.evaluate(
        """() => [...document.querySelectorAll("#drawing .unit")].filter((unit) => {
        const box = unit.querySelector(":scope > rect").getBoundingClientRect();
        return [...unit.querySelectorAll(":scope > text")].some((text) =>
        text.getBoundingClientRect().right > box.right + 0.5); }).map((unit) => unit.dataset.path)"""
    )
    assert wide == []


@pytest.mark.parametrize("size", [(1366, 768), (390, 844)])
def test_nothing_is_wider_than_the_screen(tab: Any, size: tuple[int, int]) -> None:
    tab.set_viewport_size({"width": size[0], "height": size[1]})
    tab.click("#copy")
    tab.click("#random")
    answered(tab, 1)
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
