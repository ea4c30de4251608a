"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = new Set(["svg", "g", "path", "line", "rect", "text", "title"]);

// --- Small things

function element(tag, attributes, ...children) {
  const made = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function short(value) {
  const size = Math.abs(value);
  for (const [unit, suffix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "K"]])
    if (size >= unit * 0.9995) return +(value / unit).toPrecision(3) + suffix;
  return String(+value.toPrecision(3));
}

const full = (value) => (Number.isInteger(value) ? value.toLocaleString("en-US") : String(+value.toPrecision(6)));
const steps = (path) => (path.match(/\[(?:[^\[\]]|\[[^\]]*\])*\]|[^.\[\]]+/g) || [path]).reduce(
  (found, step) => (step.startsWith("[") && found.length ? [...found.slice(0, -1), found.at(-1) + step] : [...found, step]), []);
const percent = (share) =>
  share >= 0.9995 && share < 1 ? "over 99.9 %" : share >= 0.001 || share === 0 ? +(100 * share).toPrecision(3) + " %" : (100 * share).toExponential(1) + " %";

// A tree by label path. A node that has one child and nothing of its own is part of that child's name.
function treeOf(paths) {
  const root = { name: "", path: "", inner: new Map(), own: [] };
  paths.forEach((path, number) => {
    const parts = steps(path);
    let place = root;
    parts.forEach((part, i) => {
      if (!place.inner.has(part))
        place.inner.set(part, { name: part, path: parts.slice(0, i + 1).join("."), inner: new Map(), own: [] });
      place = place.inner.get(part);
    });
    place.own.push(number);
  });
  const joined = (place) => {
    for (const [key, child] of place.inner) {
      joined(child);
      if (child.inner.size === 1 && !child.own.length) {
        const only = [...child.inner.values()][0];
        only.name = child.name + "." + only.name;
        place.inner.set(key, only);
      }
    }
  };
  joined(root);
  return root;
}

function numbersIn(place, found = []) {
  found.push(...place.own);
  for (const child of place.inner.values()) numbersIn(child, found);
  return found;
}

// --- What is pinned, and what is left

const NOTHING = { pins: {}, budget: "" };
let state = NOTHING, by = data.measures[0].name, view = data.view, seed = Math.floor(Math.random() * 2 ** 31);
const before = [], after = [];
let asking = null, latest = 0;

async function post(kind, question, signal) {
  const reply = await fetch(kind, {
    method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(question),
  }).catch((problem) => {
    if (problem.name === "AbortError") throw problem;
    throw new Error("The program does not answer any more: was it ended?");
  });
  const told = await reply.json();
  if (!reply.ok) throw new Error(told.help ? `${told.error}: ${told.help}` : told.error);
  return told;
}

const question = () => ({ pins: state.pins, budgets: state.budget ? [state.budget] : [], by });

async function ask() {
  const mine = ++latest;
  if (asking) asking.abort();
  asking = new AbortController();
  document.body.classList.add("busy");
  try {
    const told = await post("view", question(), asking.signal);
    if (mine !== latest) return;
    view = told;
    show();
    if (!byId("texts").hidden) texts();
  } catch (problem) {
    if (problem.name !== "AbortError") complain(problem.message);
  } finally {
    if (mine === latest) { document.body.classList.remove("busy"); document.documentElement.dataset.answered = String(mine); }
  }
}

function change(next) {
  before.push(state);
  after.length = 0;
  state = next;
  return ask();
}

function move(from, to) {
  if (!from.length) return;
  to.push(state);
  state = from.pop();
  byId("budget").value = state.budget;
  ask();
}

function pin(number, value) {
  const { [data.decisions[number].path]: old, ...pins } = state.pins;
  if (value !== undefined) pins[data.decisions[number].path] = value;
  change({ ...state, pins });
}

function pinAlike(number) {
  const pins = { ...state.pins }, mine = data.decisions[number];
  for (const other of data.decisions) if (other.like === mine.like) pins[other.path] = state.pins[mine.path];
  change({ ...state, pins });
}

function complain(text, ...more) {
  byId("banner").replaceChildren(text, ...more);
  byId("banner").hidden = !text;
}

// --- Figures

function show() {
  const n = Object.keys(state.pins).length;
  byId("total").replaceChildren(...view.total.split(",").flatMap((part, i) => (i ? [",", element("wbr"), part] : [part])));
  byId("most").hidden = !data.bound;
  byId("plural").textContent = view.total === "1" ? "architecture" : "architectures";
  byId("pinned").textContent = n ? `${n.toLocaleString("en-US")} of ${data.decisions.length.toLocaleString("en-US")} decisions pinned` : "nothing pinned";
  byId("undo").disabled = !before.length;
  byId("redo").disabled = !after.length;
  byId("reset").disabled = !n && !state.budget;
  complain("");
  if (view.empty) complain(view.why, element("button", { type: "button", onclick: () => move(before, after) }, "Undo"));
  const costs = view.costs || {}, maybe = view.estimated ? "≈ " : "";
  byId("costs").replaceChildren(...data.measures.map((one) => {
    const ends = costs[one.name] || [NaN, NaN];
    const cell = (value) => element("td", { title: Number.isFinite(value) ? full(value) : null }, Number.isFinite(value) ? maybe + (maybe || full(value).length > 17 ? short(value) : full(value)) : "–");
    return element("tr", {}, element("th", { scope: "row" }, one.label + (one.unit && !one.label.includes(one.unit) ? `, ${one.unit}` : "")), cell(ends[0]), cell(ends[1]));
  }));
  byId("bound").hidden = !data.bound;
  byId("bound").textContent = data.bound ? `What the space requires of decisions together is left out of these figures: ${data.bound}. There are at most so many architectures, and none costs less or more.` : "";
  byId("estimated").hidden = !data.why;
  byId("estimated").textContent = data.why ? `The number of architectures is exact, ${view.estimated ? "their costs are those of some drawn at random" : "and so are the ends of their costs, but how these are spread is not"}: ${data.why}. Which options a budget rules out cannot be told.` : "";
  showInside();
  showHistogram();
  rows.forEach((row, i) => row.show(view.decisions[i]));
  heads.forEach((head) => head());
  only();
  drawing.gone(new Set(view.gone));
  const macs = costs[by];
  byId("follow").textContent = `${brief(view.total)} left` + (macs ? `, ${short(macs[0])} to ${short(macs[1])} ${label(by)}` : "") + (view.inside ? `, ${percent(view.inside.share)} in budget` : "");
  byId("live").textContent = `${view.total} ${byId("plural").textContent} left` + (macs ? `, ${short(macs[0])} to ${short(macs[1])} ${label(by)}` : "");
}

// `7.18e25` where a number in full would be long.
function brief(text) {
  const digits = text.replaceAll(",", "");
  return text.length <= 15 || !/^\d+$/.test(digits) ? text : Number(digits).toExponential(2).replace("e+", "e");
}

const label = (name) => data.measures.find((one) => one.name === name).label;

function showInside() {
  const found = view.inside, wrong = (view.wrong || []).filter(Boolean), budget = byId("budget");
  budget.classList.toggle("wrong", wrong.length > 0);
  budget.setAttribute("aria-invalid", String(wrong.length > 0));
  byId("told").classList.toggle("wrong", wrong.length > 0);
  byId("told").textContent = wrong.length ? wrong[0] : data.budgets.length ? `The file requires ${data.budgets.join(", ")}.` : "such as macs <= 600M and params in 4M..5M";
  byId("unbudget").hidden = !state.budget;
  byId("inside").hidden = !found;
  if (!found) return;
  const about = found.exact ? "" : "about ", error = found.error ? ` ± ${percent(found.error)}` : "";
  const part = found.exact && found.share === 0 ? ["None", " lies inside the budget"]
    : [`${found.count.startsWith("fewer") ? "" : about}${found.count}`, ` inside the budget (${found.count.startsWith("fewer") ? "less than " : ""}${percent(found.share)}${error})`];
  const exactly = !found.exact && data.served && !data.why
    ? element("button", { type: "button", title: "This may take some seconds", onclick: countInside }, "count") : null;
  byId("inside").replaceChildren(element("b", {}, part[0]), part[1] + " ", exactly || "");
}

async function countInside() {
  const mine = latest;
  byId("inside").querySelector("button").disabled = true;
  try {
    const told = await post("count", question());
    if (mine !== latest) return;
    view.inside = { ...told, exact: told.exact };
    showInside();
    if (!told.exact) byId("inside").querySelector("button").remove();
  } catch (problem) { complain(problem.message); }
}

function showHistogram() {
  const found = view.histogram, wide = 320, high = 150, left = 4, right = 4, floor = high - 20;
  byId("histogram-title").textContent = found ? `${found.exact ? "H" : "About h"}ow architectures are spread over` : "";
  byId("by").hidden = !found;
  if (!found) { byId("histogram").replaceChildren(); byId("histogram-note").textContent = ""; return; }
  const edges = found.edges, low = edges[0], top = edges.at(-1), peak = Math.max(...found.shares) || 1;
  const x = (value) => left + (top > low ? (value - low) / (top - low) : 0.5) * (wide - left - right);
  const limits = windowOf(state.budget, by);
  const out = element("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img",
    "aria-label": `Histogram of ${label(by)}: mean ${short(found.mean)}, standard deviation ${short(found.std)}, from ${short(low)} to ${short(top)}` });
  found.shares.forEach((share, i) => {
    const a = top > low ? x(edges[i]) : wide / 2 - 4, b = top > low ? x(edges[i + 1]) : wide / 2 + 4, y = floor - (share / peak) * (floor - 8);
    const middle = (edges[i] + (edges[i + 1] ?? edges[i])) / 2, inside = middle >= limits[0] && middle <= limits[1];
    if (share > 0) out.append(element("rect", { class: inside ? "bar1" : "bar0", x: a.toFixed(1), y: Math.min(y, floor - 0.6).toFixed(1), width: Math.max(b - a - 0.6, 0.6).toFixed(1), height: Math.max(floor - y, 0.6).toFixed(1) },
      element("title", {}, `${short(edges[i])} to ${short(edges[i + 1] ?? edges[i])}: ${percent(share)}`)));
  });
  out.append(element("line", { class: "axis", x1: left, x2: wide - right, y1: floor, y2: floor }));
  for (const limit of limits) if (Number.isFinite(limit)) {
    const at = Math.min(Math.max(x(limit), left), wide - right);
    out.append(element("line", { class: "limit", x1: at, x2: at, y1: 2, y2: floor }, element("title", {}, `budget: ${short(limit)}`)));
  }
  const ticks = top > low ? [0, 0.25, 0.5, 0.75, 1].map((t) => low + t * (top - low)) : [low];
  ticks.forEach((value, i) => out.append(element("text", { x: x(value), y: high - 6,
    "text-anchor": ticks.length === 1 ? "middle" : i === 0 ? "start" : i === ticks.length - 1 ? "end" : "middle" }, short(value))));
  byId("histogram").replaceChildren(out);
  byId("histogram-note").textContent = `mean ${short(found.mean)}, deviation ${short(found.std)}` + (found.exact ? "" : `, of ${found.draws.toLocaleString("en-US")} drawn at random`);
}

// What a budget says of one measure, for the lines in the histogram; the program reads budgets for itself.
function windowOf(text, name) {
  const size = (digits, unit) => Number(digits.replaceAll("_", "")) * { "": 1, K: 1e3, M: 1e6, G: 1e9 }[unit || ""];
  let low = -Infinity, high = Infinity;
  for (const part of [text, ...data.budgets].join(" and ").split(/\s+and\s+/)) {
    const order = /^(?:(\w+)\s*(<=|<|>=|>|==)\s*)?(\d[\d_]*(?:\.\d+)?)\s*([KMG]?)$/.exec(part.trim());
    const range = /^(\w+)\s+in\s+(\d[\d_]*(?:\.\d+)?)\s*([KMG]?)\s*\.\.\s*(\d[\d_]*(?:\.\d+)?)\s*([KMG]?)$/.exec(part.trim());
    const found = (order && (order[1] || data.measures[0].name)) || (range && range[1]);
    const factor = found === name ? 1 : found === "flops" && name === "macs" ? 2 : 0;
    if (!factor) continue;
    if (range) { low = Math.max(low, size(range[2], range[3]) / factor); high = Math.min(high, size(range[4], range[5]) / factor); continue; }
    const bound = size(order[3], order[4]) / factor, sign = order[2] || "<=";
    if (sign !== ">=" && sign !== ">") high = Math.min(high, bound);
    if (sign !== "<=" && sign !== "<") low = Math.max(low, bound);
  }
  return [low, high];
}

// --- Decisions

const rows = [], heads = [];
const copies = new Map();
for (const one of data.decisions) copies.set(one.like, (copies.get(one.like) || 0) + 1);

class Row {
  constructor(number, name) {
    this.number = number;
    this.one = data.decisions[number];
    this.ticked = null;
    const where = element("span", { title: this.one.path }, name);
    this.note = element("span", { class: "soft" });
    this.free = element("button", { type: "button", hidden: true, "aria-label": `Free ${this.one.path}`, onclick: () => pin(number, undefined) }, "free");
    const n = copies.get(this.one.like);
    this.alike = n > 1 ? element("button", { type: "button", hidden: true, title: `Pins all ${n} decisions that the same text makes to this value`, onclick: () => pinAlike(number) }, `same in all ${n}`) : null;
    this.options = element("div", { class: "options", role: "group", "aria-label": this.one.path });
    this.element = element("div", { class: "decision", id: `decision-${number}` },
      element("h3", {}, where, this.note, this.free, this.alike), this.options);
    if (!data.served) this.options.setAttribute("inert", "");
    this["make_" + this.one.kind]();
  }

  get value() { return state.pins[this.one.path]; }

  show(told) {
    const pinned = this.value !== undefined;
    this.told = told;
    this.element.classList.toggle("pinned", pinned);
    this.element.classList.toggle("no", told.there === "no");
    this.free.hidden = !pinned;
    if (this.alike) this.alike.hidden = !pinned;
    this.note.textContent = told.there === "no" ? "not there" : told.there === "maybe" ? `${this.one.text}, only in some` : this.one.text;
    this["show_" + this.one.kind](told);
    if (told.there === "maybe" && pinned) this.note.textContent += ", where it is there";
  }

  // One option is taken.
  make_choice() {
    this.buttons = this.one.labels.map((text, i) => element("button", { type: "button", "aria-pressed": "false",
      onclick: () => { if (this.value === i) pin(this.number, undefined); else if (!this.told.off.includes(i)) pin(this.number, i); } }, text));
    this.options.append(...this.buttons);
  }

  show_choice(told) {
    const off = new Set(told.off), alone = data.alone && data.alone[this.one.path];
    this.buttons.forEach((button, i) => {
      const gone = off.has(i) && this.value !== i, ends = told.ends && told.ends[i];
      button.setAttribute("aria-pressed", String(this.value === i));
      if (gone) button.setAttribute("aria-disabled", "true"); else button.removeAttribute("aria-disabled");
      const costs = ends ? `${short(ends[0])} to ${short(ends[1])} ${label(by)}` : "";
      button.title = [gone ? `no architecture that is left has ${this.one.labels[i]}` + (view.inside ? ", or none inside the budget" : "") : "", alone ? `${alone[i]} architectures` : "", costs].filter(Boolean).join("; ");
    });
  }

  // The first units are kept.
  make_units() {
    const n = this.one.n, commit = (value) => pin(this.number, Math.min(Math.max(0, Math.round(value)), n));
    this.slider = element("input", { type: "range", min: 0, max: n, "aria-label": `Units kept in ${this.one.path}`,
      oninput: () => { this.field.value = this.slider.value; }, onchange: () => commit(+this.slider.value) });
    this.field = element("input", { type: "number", min: 0, max: n, "aria-label": `Number of units kept in ${this.one.path}`,
      onchange: () => { if (this.field.value === "") pin(this.number, undefined); else commit(+this.field.value); } });
    this.possible = element("span", { class: "soft" });
    this.options.append(this.slider, this.field, this.possible);
  }

  show_units(told) {
    const kept = this.value === undefined ? null : typeof this.value === "number" ? this.value : countOf(this.value);
    this.slider.value = kept ?? this.one.n;
    this.field.value = kept ?? "";
    this.field.placeholder = "any";
    const whole = told.kept.length === 1 && told.kept[0][0] === 0 && told.kept[0][1] === this.one.n;
    const ranges = told.kept.map(([a, b]) => (a === b ? a : `${a} to ${b}`)).join(", ");
    this.possible.textContent = typeof this.value === "string" ? `which: ${this.value.length > 60 ? this.value.slice(0, 60) + "…" : this.value}`
      : whole ? `of ${this.one.n}` : ranges ? `of ${this.one.n}; possible: ${ranges}` : `of ${this.one.n}`;
  }

  // So many items are ticked.
  make_subset() {
    this.buttons = this.one.labels.map((text, i) => element("button", { type: "button", role: "checkbox", "aria-checked": "false", onclick: () => this.tick(i) }, text));
    this.count = element("span", { class: "soft" });
    this.options.append(...this.buttons, this.count);
  }

  tick(i) {
    const ticked = new Set(this.ticked ?? this.value ?? []);
    if (!ticked.has(i) && (this.told.off.includes(i) || ticked.size >= this.one.size)) return;
    if (!ticked.delete(i)) ticked.add(i);
    this.ticked = [...ticked].sort((a, b) => a - b);
    const pinned = this.value !== undefined;
    if (this.ticked.length === this.one.size) { const value = this.ticked; this.ticked = null; pin(this.number, value); }
    else if (pinned) pin(this.number, undefined);
    else this.show_subset(this.told);
  }

  show_subset(told) {
    if (this.value !== undefined) this.ticked = null;
    const ticked = new Set(this.ticked ?? this.value ?? []), fullUp = ticked.size >= this.one.size;
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-checked", String(ticked.has(i)));
      const gone = !ticked.has(i) && (told.off.includes(i) || fullUp);
      if (gone) button.setAttribute("aria-disabled", "true"); else button.removeAttribute("aria-disabled");
      button.title = told.off.includes(i) ? "no architecture that is left has it" : told.must.includes(i) ? "all architectures that are left have it" : "";
    });
    this.count.textContent = `${ticked.size} of ${this.one.size}` + (ticked.size && !fullUp ? ": not pinned yet" : "");
  }

  // All items, in an order.
  make_order() {
    this.items = element("ol", {});
    this.take = element("button", { type: "button", onclick: () => pin(this.number, this.order()) }, "pin this order");
    this.options.append(this.items, this.take);
  }

  order() { return this.value ?? this.one.labels.map((_, i) => i); }

  swap(i, j, focus) {
    const order = [...this.order()];
    [order[i], order[j]] = [order[j], order[i]];
    this.focus = [j, focus];
    pin(this.number, order);
  }

  show_order() {
    const order = this.order();
    this.take.hidden = this.value !== undefined;
    this.items.replaceChildren(...order.map((item, i) => element("li", {},
      element("button", { type: "button", disabled: i === 0, "aria-label": `Move ${this.one.labels[item]}, at place ${i + 1}, forward`, onclick: () => this.swap(i, i - 1, 0) }, "‹"),
      element("span", {}, this.one.labels[item]),
      element("button", { type: "button", disabled: i === order.length - 1, "aria-label": `Move ${this.one.labels[item]}, at place ${i + 1}, back`, onclick: () => this.swap(i, i + 1, 1) }, "›"))));
    if (this.focus) {
      const buttons = this.items.children[this.focus[0]].querySelectorAll("button");
      (buttons[this.focus[1]].disabled ? buttons[1 - this.focus[1]] : buttons[this.focus[1]]).focus();
      this.focus = null;
    }
  }
}

function countOf(text) {
  return text.split(",").filter((part) => part.trim()).reduce((sum, part) => {
    const [first, last] = part.split("..").map(Number);
    return sum + (last === undefined ? 1 : last - first + 1);
  }, 0);
}

const MANY = 40;
const decisionTree = treeOf(data.decisions.map((one) => one.path));
const groups = new Map(); // by path, the element that opens

function listed(place, host, depth) {
  for (const child of place.inner.values()) {
    for (const number of child.own) {
      rows[number] = new Row(number, child.name);
      host.append(rows[number].element);
    }
    if (!child.inner.size) continue;
    const inside = numbersIn(child).filter((number) => !child.own.includes(number));
    if (inside.length === 1 && !child.own.length) { listed(shortened(child), host, depth); continue; }
    const body = element("div", {}), count = element("span", {});
    const box = element("details", { open: data.decisions.length <= MANY || depth > 0 }, element("summary", {}, child.name, count), body);
    groups.set(child.path, box);
    host.append(box);
    heads.push(() => {
      const pinned = inside.filter((number) => data.decisions[number].path in state.pins).length;
      count.textContent = `${inside.length} decision${inside.length === 1 ? "" : "s"}` + (pinned ? `, ${pinned} pinned` : "");
    });
    listed(child, body, depth + 1);
  }
}

// A group of one decision is a part of that one's name.
function shortened(place) {
  const only = [...place.inner.values()][0];
  return { inner: new Map([["", { ...only, name: place.name + "." + only.name }]]), own: [] };
}

let within = "";

function only() {
  const words = byId("find").value.trim().toLowerCase(), open = byId("only").checked;
  const seen = (one, i) => (!words || one.path.toLowerCase().includes(words)) && (!within || one.path === within || one.path.startsWith(within + ".") || one.path.startsWith(within + "["))
    && (!open || (!(one.path in state.pins) && view.decisions[i].there !== "no"));
  let shown = 0;
  data.decisions.forEach((one, i) => { const here = seen(one, i); shown += here; rows[i].element.hidden = !here; });
  for (const box of [...groups.values()].reverse()) {
    const some = [...box.lastElementChild.children].some((child) => !child.hidden);
    box.hidden = !some;
    if (some && (words || within) && !box.open) box.open = true;
  }
  byId("filtered").hidden = !within && !words && !open;
  byId("filtered").replaceChildren(`${shown} of ${data.decisions.length} shown` + (within ? `, in ${within} ` : " "),
    within ? element("button", { type: "button", onclick: () => { within = ""; only(); } }, "show all") : "");
}

// --- The network: boxes inside boxes, each level laid out in layers

const GAP = 16, RANK = 26, PAD = 12, TITLE = 24, LANE = 10, BUNDLE = 5;
const ruler = document.createElement("canvas").getContext("2d");
ruler.font = '12px "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif';
const widthOf = (text) => ruler.measureText(text).width;
const cut = (text, most) => (text.length <= most ? text : text.slice(0, most / 2 - 1) + "…" + text.slice(-most / 2));

class Drawing {
  constructor() {
    this.root = treeOf(data.nodes.map((node) => node[0]));
    this.open = new Set();
    this.missing = new Set();
    this.decisions = new Map(); // of each path of the tree the decisions at it or below
    data.decisions.forEach((one, i) => {
      const parts = steps(one.path);
      for (let n = parts.length; n > 0; n--) {
        const path = parts.slice(0, n).join(".");
        if (!this.decisions.has(path)) this.decisions.set(path, []);
        this.decisions.get(path).push(i);
      }
    });
    this.prepare(this.root);
    const top = [...this.root.inner.values()];
    if (top.length <= 2) top.forEach((place) => this.open.add(place.path));
    this.draw();
  }

  prepare(place) {
    place.numbers = numbersIn(place);
    place.first = Math.min(...place.numbers);
    for (const child of place.inner.values()) this.prepare(child);
  }

  // The boxes of a level, and which of them reads which.
  level(place) {
    const boxes = [...place.inner.values()].map((child) => ({ child, size: null, from: new Set() }));
    for (const number of place.own) boxes.push({ child: { name: data.nodes[number][1], path: data.nodes[number][0], inner: new Map(), own: [number], numbers: [number], first: number, self: true }, size: null, from: new Set() });
    boxes.sort((a, b) => a.child.first - b.child.first);
    const home = new Map();
    boxes.forEach((box, i) => box.child.numbers.forEach((number) => home.set(number, i)));
    boxes.forEach((box, i) => box.child.numbers.forEach((number) => data.nodes[number][2].forEach((source) => {
      const other = home.get(source);
      if (other !== undefined && other !== i) box.from.add(other);
    })));
    return this.bundled(boxes);
  }

  // Many boxes that read the same and are read by the same, such as the options of a choice, become one that holds them.
  bundled(boxes) {
    const to = boxes.map(() => []);
    boxes.forEach((box, i) => box.from.forEach((j) => to[j].push(i)));
    const alike = new Map();
    boxes.forEach((box, i) => {
      const key = `${[...box.from].sort()}|${to[i]}`;
      alike.set(key, [...(alike.get(key) || []), i]);
    });
    const place = boxes.map((_, i) => i), bundles = new Map();
    for (const members of alike.values()) if (members.length > BUNDLE) {
      bundles.set(members[0], members);
      members.forEach((i) => { place[i] = members[0]; });
    }
    if (!bundles.size) return boxes;
    const kept = boxes.map((_, i) => i).filter((i) => place[i] === i), at = new Map(kept.map((i, n) => [i, n]));
    return kept.map((i) => {
      const from = new Set([...boxes[i].from].map((j) => at.get(place[j])));
      return bundles.has(i) ? { members: bundles.get(i).map((j) => boxes[j]), from } : { ...boxes[i], from };
    });
  }

  // A bundle as rows.
  shelved(members) {
    members.forEach((box) => this.measure(box));
    const most = Math.max(520, ...members.map((box) => box.wide));
    let x = 0, y = 0, row = 0, wide = 0;
    const items = members.map((box) => {
      if (x && x + box.wide > most) { y += row + 8; x = row = 0; }
      const item = { box, x, y, wide: box.wide, high: box.high };
      x += box.wide + 8;
      row = Math.max(row, box.high);
      wide = Math.max(wide, x - 8);
      return item;
    });
    return { items, edges: [], wide, high: y + row, inner: wide };
  }

  measure(box) {
    if (box.members) {
      box.inside = this.shelved(box.members);
      box.wide = box.inside.wide + 2 * PAD;
      box.high = box.inside.high + 2 * PAD;
      return;
    }
    const child = box.child, opened = child.inner.size && this.open.has(child.path);
    box.lines = this.lines(child);
    const own = Math.max(...box.lines.map((line) => widthOf(line))) + 22 + (this.badge(child) ? 30 : 0) + (child.inner.size ? 14 : 0);
    if (opened) {
      box.inside = this.lay(child);
      box.wide = Math.max(own, box.inside.wide + 2 * PAD);
      box.high = TITLE + box.inside.high + PAD;
    } else { box.wide = Math.max(own, 54); box.high = box.lines.length > 1 ? 38 : 26; }
  }

  // Where everything in a place stands, from its upper left corner.
  lay(place) {
    const boxes = this.level(place);
    boxes.forEach((box) => this.measure(box));
    const rank = boxes.map(() => 0);
    boxes.forEach((box, i) => box.from.forEach((j) => { if (j < i) rank[i] = Math.max(rank[i], rank[j] + 1); }));
    // An edge that passes ranks gets a place of its own in each, so that it runs through no box.
    const layers = [];
    const put = (item, r) => { (layers[r] = layers[r] || []).push(item); item.rank = r; return item; };
    const items = boxes.map((box, i) => put({ box, wide: box.wide, high: box.high, above: [], order: i }, rank[i]));
    const edges = [];
    boxes.forEach((box, i) => [...box.from].sort((a, b) => a - b).forEach((j) => {
      if (j >= i) { edges.push({ back: [items[j], items[i]] }); return; }
      let last = items[j];
      const lanes = [];
      for (let r = rank[j] + 1; r < rank[i]; r++) { const lane = put({ wide: LANE, high: 0, above: [last], order: items[j].order }, r); lanes.push(lane); last = lane; }
      items[i].above.push(last);
      edges.push({ way: [items[j], ...lanes, items[i]] });
    }));
    for (let round = 0; round < 4; round++) {
      layers.forEach((layer) => {
        let x = 0;
        layer.forEach((item) => { item.x = x; x += item.wide + GAP; });
        const shift = -(x - GAP) / 2;
        layer.forEach((item) => { item.x += shift; });
      });
      layers.forEach((layer) => {
        layer.forEach((item) => { item.key = item.above.length ? item.above.reduce((sum, one) => sum + one.x + one.wide / 2, 0) / item.above.length : item.x + item.wide / 2; });
        layer.sort((a, b) => a.key - b.key || a.order - b.order);
      });
    }
    let y = 0, wide = 0;
    layers.forEach((layer) => {
      const high = Math.max(...layer.map((item) => item.high), 8), total = layer.reduce((sum, item) => sum + item.wide + GAP, -GAP);
      let x = -total / 2;
      layer.forEach((item) => { item.x = x; item.y = y; item.layer = high; x += item.wide + GAP; });
      y += high + RANK;
      wide = Math.max(wide, total);
    });
    const back = edges.filter((edge) => edge.back).length;
    layers.flat().forEach((item) => { item.x += wide / 2; });
    return { items, edges, wide: wide + (back ? 16 + 6 * back : 0), high: Math.max(0, y - RANK), inner: wide };
  }

  lines(child) {
    if (child.inner.size) return [cut(child.name, 44)];
    const node = data.nodes[child.own[0]], name = child.self ? node[1] : child.name;
    return name === node[1] || name.startsWith(node[1] + "[") ? [cut(name, 40)] : [cut(name, 40), node[1]];
  }

  badge(child) { return (this.decisions.get(child.path) || []).length; }

  draw() {
    const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.path : null;
    const plan = this.lay(this.root);
    this.marks = [];
    const body = element("g", { transform: "translate(12 12)" });
    this.paint(plan, body);
    const wide = plan.wide + 24, high = plan.high + 24;
    const svg = element("svg", { class: "whole", width: wide.toFixed(0), height: high.toFixed(0), viewBox: `0 0 ${wide.toFixed(0)} ${high.toFixed(0)}` }, body);
    byId("drawing").replaceChildren(svg);
    this.gone(this.missing);
    if (focused) { const same = svg.querySelector(`[data-path="${CSS.escape(focused)}"]`); if (same) same.focus({ preventScroll: true }); }
  }

  paint(plan, host) {
    for (const edge of plan.edges) {
      const [from, to] = edge.back || [edge.way[0], edge.way.at(-1)];
      let d;
      if (edge.back) {
        const side = plan.inner + 10;
        d = `M${from.x + from.wide} ${from.y + from.high / 2}H${side}V${to.y + to.high / 2}H${to.x + to.wide + 4}`;
      } else {
        const points = edge.way.map((item, i) => [item.x + item.wide / 2, i === 0 ? item.y + item.high : item.y, item]);
        d = `M${points[0][0].toFixed(1)} ${points[0][1].toFixed(1)}`;
        let [x, y] = points[0];
        if (points[0][2].layer > points[0][2].high) { y = points[0][2].y + points[0][2].layer; d += `V${y.toFixed(1)}`; }
        for (const [px, py, item] of points.slice(1)) {
          const end = item === points.at(-1)[2] ? py - 4 : py, middle = (y + end) / 2;
          d += `C${x.toFixed(1)} ${middle.toFixed(1)} ${px.toFixed(1)} ${middle.toFixed(1)} ${px.toFixed(1)} ${end.toFixed(1)}`;
          [x, y] = [px, end];
          if (item !== points.at(-1)[2]) { y = item.y + item.layer; d += `V${y.toFixed(1)}`; }
        }
      }
      host.append(element("path", { class: "edge", d }));
      const tx = edge.back ? to.x + to.wide : to.x + to.wide / 2, ty = edge.back ? to.y + to.high / 2 : to.y;
      host.append(element("path", { class: "tip", d: edge.back ? `M${tx} ${ty}l6 -3.5v7z` : `M${tx} ${ty}l-3.5 -6h7z` }));
    }
    for (const item of plan.items) {
      const { box } = item;
      if (box.members) {
        const bundle = element("g", { class: "bundle", transform: `translate(${item.x.toFixed(1)} ${item.y.toFixed(1)})` },
          element("rect", { width: box.wide.toFixed(1), height: box.high.toFixed(1) }));
        const inner = element("g", { transform: `translate(${PAD} ${PAD})` });
        this.paint(box.inside, inner);
        bundle.append(inner);
        host.append(bundle);
        continue;
      }
      const child = box.child, many = child.inner.size > 0, opened = !!box.inside;
      const decisions = this.decisions.get(child.path) || [];
      const told = many ? `${child.path}, ${opened ? "open" : "closed"}, ${decisions.length} decisions` : `${child.path}: ${data.nodes[child.own[0]][1]}, gives ${data.nodes[child.own[0]][3]}`;
      const act = () => { if (many) { if (!this.open.delete(child.path)) this.open.add(child.path); this.draw(); } else if (decisions.length) choose(child.path); };
      const unit = element("g", { class: "unit" + (opened ? " group" : ""), transform: `translate(${item.x.toFixed(1)} ${item.y.toFixed(1)})`, tabindex: "0", role: "button",
        "aria-label": told, "aria-expanded": many ? String(opened) : null, "data-path": child.path,
        onclick: (event) => { event.stopPropagation(); act(); },
        onkeydown: (event) => { if (event.target === unit && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); event.stopPropagation(); act(); } } },
        element("title", {}, told), element("rect", { width: box.wide.toFixed(1), height: box.high.toFixed(1) }));
      const head = (many ? (opened ? "▾ " : "▸ ") : "") + box.lines[0];
      unit.append(element("text", { x: 9, y: 17 }, head));
      if (box.lines.length > 1) unit.append(element("text", { class: "what", x: 9, y: 31 }, box.lines[1]));
      if (decisions.length) {
        const badge = element("g", { class: "badge", transform: `translate(${(opened ? widthOf(box.lines[0]) + 32 : box.wide - 32).toFixed(1)} 5)`, tabindex: "0", role: "button", "aria-label": `Show the ${decisions.length} decisions in ${child.path}`,
          onclick: (event) => { event.stopPropagation(); choose(child.path); },
          onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); choose(child.path); } } },
          element("title", {}, `${decisions.length} decisions: show them`), element("rect", { width: 26, height: 16 }), element("text", { x: 13, y: 12, "text-anchor": "middle" }, String(decisions.length)));
        this.marks.push(() => badge.classList.toggle("done", decisions.every((i) => data.decisions[i].path in state.pins || view.decisions[i].there === "no")));
        unit.append(badge);
      }
      this.marks.push((missing) => unit.classList.toggle("gone", child.numbers.every((number) => missing.has(number))));
      if (opened) {
        const inner = element("g", { transform: `translate(${((box.wide - box.inside.wide) / 2).toFixed(1)} ${TITLE})` });
        this.paint(box.inside, inner);
        unit.append(inner);
      }
      host.append(unit);
    }
  }

  gone(missing) {
    this.missing = missing;
    this.marks.forEach((mark) => mark(missing));
  }

  all(opened) {
    this.open.clear();
    let budget = 400; // boxes that one can still look through
    const queue = [this.root];
    while (opened && queue.length) {
      const place = queue.shift();
      budget -= place.inner.size;
      if (budget < 0) break;
      if (place !== this.root) this.open.add(place.path);
      queue.push(...[...place.inner.values()].filter((child) => child.inner.size));
    }
    this.draw();
  }
}

// Shows the decisions of a part of the network.
function choose(path) {
  within = path;
  byId("find").value = "";
  only();
  const first = rows.find((row) => !row.element.hidden);
  if (!first) return;
  byId("decisions").scrollIntoView({ block: "nearest" });
  first.element.scrollIntoView({ block: "nearest" });
  const target = first.options.querySelector("button, input");
  if (target) target.focus({ preventScroll: true });
}

// --- Text

async function texts() {
  const host = byId("texts");
  try {
    const told = await post("texts", question());
    const part = (title, text, ...more) => [element("h3", {}, title, element("button", { type: "button", onclick: (event) => copyText(text, event.target) }, "Copy"), ...more), element("pre", { tabindex: "0" }, text)];
    const save = element("button", { type: "button", onclick: () => saveFile(told.file) }, "Save pinned.space");
    host.replaceChildren(
      ...(told.with ? part("With block", told.with) : [element("p", { class: "soft" }, "Nothing is pinned yet.")]),
      ...(told.command ? part("Command", told.command, ...(state.budget ? [element("span", { class: "soft" }, "without the budget, which it does not take")] : [])) : []),
      ...part("File", told.file, save));
  } catch (problem) { complain(problem.message); }
}

async function copyText(text, button) {
  const old = button.textContent;
  try { await navigator.clipboard.writeText(text); } catch { // where the page may not, as it was always done
    const area = element("textarea", { style: "position: fixed; opacity: 0" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = old; }, 1200);
}

function saveFile(text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: "pinned.space" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- All together

listed(decisionTree, byId("list"), 0);
data.measures.forEach((one) => byId("by").append(element("option", { value: one.name }, one.label)));
const drawing = new Drawing();
show();

byId("undo").onclick = () => move(before, after);
byId("redo").onclick = () => move(after, before);
byId("reset").onclick = () => { byId("budget").value = ""; change(NOTHING); };
byId("random").onclick = async () => {
  const mine = latest;
  try {
    const told = await post("draw", { ...question(), seed: seed++ });
    if (mine === latest) change({ ...state, pins: told.pins });
  } catch (problem) { complain(problem.message); }
};
byId("copy").onclick = () => {
  const hidden = (byId("texts").hidden = !byId("texts").hidden);
  byId("copy").setAttribute("aria-expanded", String(!hidden));
  if (!hidden) texts();
};
byId("budgets").onsubmit = (event) => event.preventDefault();
let typing = 0;
const budgetNow = () => { clearTimeout(typing); const text = byId("budget").value.trim(); if (text !== state.budget) change({ ...state, budget: text }); };
byId("budget").oninput = () => { clearTimeout(typing); typing = setTimeout(budgetNow, 350); };
byId("budget").onchange = budgetNow;
byId("budget").onkeydown = (event) => { if (event.key === "Enter") { event.preventDefault(); budgetNow(); } };
byId("unbudget").onclick = () => { byId("budget").value = ""; budgetNow(); byId("budget").focus(); };
byId("by").onchange = () => { by = byId("by").value; ask(); };
byId("find").oninput = only;
byId("only").onchange = only;
byId("open-all").onclick = () => drawing.all(true);
byId("close-all").onclick = () => drawing.all(false);
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target.matches("input[type=text], input[type=search], input[type=number], textarea")) return;
  if (event.key.toLowerCase() === "z") { event.preventDefault(); if (event.shiftKey) move(after, before); else move(before, after); }
  else if (event.key.toLowerCase() === "y") { event.preventDefault(); move(after, before); }
});
if (!data.served) {
  for (const id of ["undo", "redo", "reset", "random", "copy", "budgets", "by"]) byId(id).hidden = true;
  byId("pinned").textContent = "A page that was written: `nasdsl explore` opens one on which decisions can be pinned. Pointing at an option tells what it leaves and costs.";
  byId("histogram-title").textContent += " " + label(by);
}
document.documentElement.dataset.ready = "yes";
