"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const total = data.number.length;
const STATES = { c: "complete", f: "failed", r: "running", w: "waiting", s: "skipped" };
const TIMES = ["var(--t0)", "var(--t1)", "var(--t2)", "var(--t3)"];
const onFront = new Set(data.front);
const drawn = new Map(data.drawn.map((trial) => [trial, byId("drawing-" + trial)]).filter((pair) => pair[1]));
const placeOf = new Map(data.number.map((number, i) => [number, i]));
const columns = data.columns; // { name, label, up: true | false | null, values }

// --- Small things

function element(tag, attributes, ...children) {
  const space = ["svg", "g", "path", "line", "text", "circle", "rect", "title"].includes(tag);
  const made = space ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function short(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  for (const [unit, suffix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "K"]])
    if (size >= unit * 0.9995) return +(value / (suffix === "K" ? 1e3 : unit)).toPrecision(4) + (suffix || "");
  if (Number.isInteger(value)) return String(value);
  return size >= 1e-3 ? String(+value.toPrecision(5)) : value.toExponential(2);
}

function ticks(low, high, about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((n) => power * n >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const out = [];
  for (let i = first; i * step <= high + step * 1e-9; i++) out.push(+(i * step).toPrecision(12));
  return out;
}

function powers(high) {
  const out = [];
  for (let value = 1; value <= high; value *= 10) out.push(value);
  return out;
}

function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  if (!(low <= high)) return [0, 1];
  const margin = (high - low) * 0.04 || Math.abs(high) * 0.04 || 1;
  return [low - margin, high + margin];
}

// --- Charts

// Where `labels.powers`, the distance along x is that of logarithms.
function frame(host, width, height, xs, ys, labels) {
  const left = 58, right = 14, top = 10, bottom = labels.x ? 42 : 24;
  const length = labels.powers ? Math.log : (value) => value;
  const x = (value) => left + ((length(value) - length(xs[0])) / (length(xs[1]) - length(xs[0]))) * (width - left - right);
  const y = (value) => height - bottom - ((value - ys[0]) / (ys[1] - ys[0])) * (height - top - bottom);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": labels.title });
  for (const value of ticks(ys[0], ys[1], height > 250 ? 6 : 4)) {
    svg.append(element("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    svg.append(element("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  for (const value of labels.powers ? powers(xs[1]) : ticks(xs[0], xs[1], width / 100)) {
    svg.append(element("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: height - bottom }));
    svg.append(element("text", { x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, short(value)));
  }
  svg.append(element("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  if (labels.x) svg.append(element("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, labels.x));
  if (labels.y) {
    const middle = (top + height - bottom) / 2;
    svg.append(element("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(12 ${middle}) rotate(-90)` }, labels.y));
  }
  host.replaceChildren(svg);
  return { svg, x, y, left, right, top, bottom, width, height };
}

const at = (number) => number.toFixed(1);

// The trials that nothing dominates in two columns, along the first.
function frontOf(places, h, v) {
  const better = (column) => (column.up ? -1 : 1);
  const sorted = places.slice().sort((a, b) =>
    better(h) * (h.values[a] - h.values[b]) || better(v) * (v.values[a] - v.values[b]));
  const out = [];
  let best = Infinity;
  for (const i of sorted) {
    const loss = better(v) * v.values[i];
    if (loss < best) { best = loss; out.push(i); }
  }
  return out;
}

let chosen = null; // the trial that is open
let scatter = null;

function drawScatter() {
  const host = byId("scatter");
  const h = columns[byId("across").value], v = columns[byId("upright").value];
  let places = [];
  for (let i = 0; i < total; i++)
    if (data.state[i] === "c" && h.values[i] !== null && v.values[i] !== null) places.push(i);
  const all = places.length;
  if (!byId("everything").checked) places = withoutTail(withoutTail(places, v), h);
  byId("left-out").textContent = all > places.length ? `${(all - places.length).toLocaleString("en")} of the worst are beyond the edges` : "";
  const view = frame(host, 780, 470, range(places.map((i) => h.values[i])), range(places.map((i) => v.values[i])),
    { x: h.label, y: v.label, title: `${v.label} against ${h.label} of all trials` });
  const parts = [[], [], [], []];
  for (const i of places) parts[Math.min(3, Math.floor((4 * i) / total))].push(`M${at(view.x(h.values[i]))} ${at(view.y(v.values[i]))}h0`);
  const size = all > 3000 ? 3.6 : all > 500 ? 4.6 : 6.5;
  parts.forEach((part, time) => view.svg.append(
    element("path", { class: "dots", d: part.join(""), stroke: TIMES[time], style: `stroke-width:${size}` })));
  if (h.up !== null && v.up !== null && h !== v && places.length) {
    const edge = frontOf(places, h, v);
    let line = "";
    edge.forEach((i, n) => {
      const px = at(view.x(h.values[i])), py = at(view.y(v.values[i]));
      line += n ? `H${px}V${py}` : `M${px} ${py}`;
    });
    view.svg.append(element("path", { class: "step", d: line }));
    view.svg.append(element("path", { class: "dots", stroke: "var(--red)", style: "stroke-width:7",
      d: edge.map((i) => `M${at(view.x(h.values[i]))} ${at(view.y(v.values[i]))}h0`).join("") }));
  }
  const ring = element("circle", { class: "ring", r: 7, visibility: "hidden" });
  const tip = element("div", { class: "tip", hidden: true });
  view.svg.append(ring);
  host.append(tip);
  scatter = { ...view, places, h, v, ring, tip };
  view.svg.addEventListener("mousemove", (event) => hover(event));
  view.svg.addEventListener("mouseleave", () => { tip.hidden = true; mark(); });
  view.svg.addEventListener("click", (event) => { const i = nearest(event); if (i !== null) open(i, true); });
  mark();
}

// Without the worst fiftieth where it takes up most of the picture.
function withoutTail(places, column) {
  if (places.length < 50 || column.up === null) return places;
  const sorted = places.map((i) => column.values[i]).sort((a, b) => a - b);
  const cut = Math.ceil(sorted.length / 50);
  const low = sorted[0], high = sorted[sorted.length - 1];
  const edge = column.up ? sorted[cut] : sorted[sorted.length - 1 - cut];
  const wasted = column.up ? edge - low : high - edge;
  if (wasted < 0.4 * (high - low)) return places;
  return places.filter((i) => onFront.has(i) || (column.up ? column.values[i] >= edge : column.values[i] <= edge));
}

function nearest(event) {
  const box = scatter.svg.getBoundingClientRect();
  const px = ((event.clientX - box.left) / box.width) * scatter.width;
  const py = ((event.clientY - box.top) / box.height) * scatter.height;
  let best = 400, found = null;
  for (const i of scatter.places) {
    const dx = scatter.x(scatter.h.values[i]) - px, dy = scatter.y(scatter.v.values[i]) - py;
    const distance = dx * dx + dy * dy;
    if (distance < best) { best = distance; found = i; }
  }
  return found;
}

function hover(event) {
  const i = nearest(event);
  scatter.tip.hidden = i === null;
  mark(i);
  if (i === null) return;
  scatter.tip.textContent = `trial ${data.number[i]}: ${scatter.v.label} ${short(scatter.v.values[i])}, ${scatter.h.label} ${short(scatter.h.values[i])}`;
  const box = scatter.svg.getBoundingClientRect();
  const px = (scatter.x(scatter.h.values[i]) / scatter.width) * box.width;
  const py = (scatter.y(scatter.v.values[i]) / scatter.height) * box.height;
  scatter.tip.style.left = Math.max(0, Math.min(px + 12, box.width - scatter.tip.offsetWidth - 4)) + "px";
  scatter.tip.style.top = py - 32 + "px";
}

function mark(i = chosen) {
  const seen = i !== null && scatter.places.includes(i);
  scatter.ring.setAttribute("visibility", seen ? "visible" : "hidden");
  if (!seen) return;
  scatter.ring.setAttribute("cx", scatter.x(scatter.h.values[i]));
  scatter.ring.setAttribute("cy", scatter.y(scatter.v.values[i]));
}

function drawCurves() {
  const host = byId("curves");
  const sight = (box, last, values, title) =>
    frame(box, 460, 165, [1, Math.max(2, last)], range(values), { title, powers: true });
  for (const column of columns.filter((one) => one.objective)) {
    const steps = [];
    let best = null, count = 0;
    for (let i = 0; i < total; i++) {
      if (data.state[i] !== "c") continue;
      count += 1;
      const value = column.values[i];
      if (best === null || (column.up ? value > best : value < best)) { best = value; steps.push([count, value]); }
    }
    if (!steps.length) continue;
    const box = element("div", { class: "chart" });
    host.append(element("figure", {}, element("h3", {}, `${column.up ? "Highest" : "Lowest"} ${column.label} after so many trials`), box));
    const view = sight(box, count, steps.map((step) => step[1]), `best ${column.label} by trials`);
    let line = "";
    steps.forEach(([n, value], k) => { line += k ? `H${at(view.x(n))}V${at(view.y(value))}` : `M${at(view.x(n))} ${at(view.y(value))}`; });
    view.svg.append(element("path", { class: "curve", d: line + `H${at(view.x(count))}` }));
  }
  if (data.volume.length) {
    const box = element("div", { class: "chart" });
    host.append(element("figure", {}, element("h3", {}, "Hypervolume"), box, element("figcaption", {}, data.volumeNote)));
    const view = sight(box, data.volume[data.volume.length - 1][0], data.volume.map((one) => one[1]), "hypervolume by trials");
    view.svg.append(element("path", { class: "curve", d: data.volume.map(([n, value], k) => (k ? `H${at(view.x(n))}V` : `M${at(view.x(n))} `) + at(view.y(value))).join("") }));
  }
}

// --- Table

const PAGE = 25;
const table = { sort: data.sort, down: data.down, page: 0, rows: [] };

function drawHead() {
  const cell = (key, label, left) => element("th", {
    class: left ? "left" : null, scope: "col",
    "aria-sort": table.sort === key ? (table.down ? "descending" : "ascending") : null,
  }, element("button", { onclick: () => sortBy(key) }, label));
  byId("head").replaceChildren(cell("number", "trial"), ...columns.map((column, k) => cell(k, column.label)), cell("state", "state", true), cell("parents", "parents", true));
}

function sortBy(key) {
  const wasUp = typeof key === "number" && columns[key].up;
  table.down = table.sort === key ? !table.down : Boolean(wasUp);
  table.sort = key;
  table.page = 0;
  fill();
}

function keyOf(i) {
  if (table.sort === "number") return data.number[i];
  if (table.sort === "state") return data.state[i];
  if (table.sort === "parents") return data.parents[i].length ? data.parents[i][0] : null;
  return columns[table.sort].values[i];
}

function fill() {
  const which = byId("which").value, wanted = byId("find").value.trim();
  table.rows = [];
  for (let i = 0; i < total; i++) {
    if (which === "front" && !onFront.has(i)) continue;
    if (which === "drawn" && !drawn.has(i)) continue;
    if (which.length === 1 && data.state[i] !== which) continue;
    if (wanted && String(data.number[i]) !== wanted) continue;
    table.rows.push(i);
  }
  const keys = new Map(table.rows.map((i) => [i, keyOf(i)]));
  const turn = table.down ? -1 : 1;
  table.rows.sort((a, b) => {
    const one = keys.get(a), other = keys.get(b);
    if (one === null || other === null) return (one === null) - (other === null) || a - b;
    return turn * (one < other ? -1 : one > other ? 1 : 0) || a - b;
  });
  show();
}

function show() {
  drawHead();
  const pages = Math.max(1, Math.ceil(table.rows.length / PAGE));
  table.page = Math.min(Math.max(table.page, 0), pages - 1);
  const rows = table.rows.slice(table.page * PAGE, (table.page + 1) * PAGE);
  byId("body").replaceChildren(...rows.flatMap((i) => (i === chosen ? [rowOf(i), detailOf(i)] : [rowOf(i)])));
  const first = table.rows.length ? table.page * PAGE + 1 : 0;
  byId("where").textContent = `${first.toLocaleString("en")} to ${(table.page * PAGE + rows.length).toLocaleString("en")} of ${table.rows.length.toLocaleString("en")}`;
  byId("before").disabled = table.page === 0;
  byId("after").disabled = table.page >= pages - 1;
}

function rowOf(i) {
  const state = STATES[data.state[i]];
  const opened = i === chosen;
  return element("tr", {
    class: ["trial", state, onFront.has(i) ? "front" : "", opened ? "open" : ""].join(" "), id: "trial-" + data.number[i],
    onclick: () => open(opened ? null : i),
  },
  element("td", {}, element("button", { class: "link", "aria-expanded": String(opened) }, String(data.number[i]))),
  ...columns.map((column) => element("td", {}, short(column.values[i]))),
  element("td", { class: "left" }, state),
  element("td", { class: "left" }, data.parents[i].join(", ")));
}

function open(i, far = false) {
  chosen = i;
  mark();
  if (i !== null && !table.rows.includes(i)) { byId("which").value = "all"; byId("find").value = ""; fill(); }
  if (i !== null) table.page = Math.floor(table.rows.indexOf(i) / PAGE);
  show();
  if (i !== null && far) byId("trial-" + data.number[i]).scrollIntoView({ block: "start" });
}

function wordOf(path, i) {
  const index = data.choices[path][i];
  return index < 0 ? null : data.words[path][index];
}

function detailOf(i) {
  const cell = element("td", { colspan: columns.length + 3 });
  const facts = element("dl");
  const fact = (name, ...value) => facts.append(element("dt", {}, name), element("dd", {}, ...value));
  for (const column of columns) if (column.values[i] !== null) fact(column.label, column.values[i].toLocaleString("en", { maximumSignificantDigits: 12 }));
  if (data.seed[i] !== null) fact("seed", String(data.seed[i]));
  const parents = data.parents[i].filter((number) => placeOf.has(number));
  if (parents.length)
    fact("made from", ...parents.flatMap((number, n) => [n ? ", " : "", element("button", { class: "link", onclick: () => open(placeOf.get(number), true) }, `trial ${number}`)]));
  if (data.errors[i]) fact(data.state[i] === "s" ? "why it was skipped" : "why it failed", data.errors[i]);
  cell.append(facts);
  const drawing = drawn.get(i);
  if (drawing) cell.append(element("div", { class: "wide" }, drawing.querySelector("svg").cloneNode(true)));
  const groups = new Map();
  data.paths.forEach((path, k) => {
    const word = wordOf(k, i);
    if (word === null) return;
    const cut = path.indexOf(".");
    const group = cut < 0 ? "" : path.slice(0, cut);
    const other = parents.length > 0 && parents.every((number) => wordOf(k, placeOf.get(number)) !== word);
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(element("div", { class: other ? "other" : null }, element("span", {}, cut < 0 ? path : path.slice(cut + 1)), element("span", {}, word)));
  });
  if (parents.length) cell.append(element("p", { class: "note" }, "Marked: what no parent has."));
  cell.append(element("div", { class: "groups" }, ...[...groups].map(([name, rows]) => element("div", { class: "group" }, name ? element("h4", {}, name) : null, ...rows))));
  return element("tr", { class: "detail" }, cell);
}

// --- Start

for (const id of ["across", "upright"])
  byId(id).append(...columns.map((column, k) => element("option", { value: k, selected: k === data[id] }, column.label)));
for (const id of ["across", "upright", "everything"]) byId(id).addEventListener("change", drawScatter);
for (const [id, event] of [["which", "change"], ["find", "input"]]) byId(id).addEventListener(event, () => { table.page = 0; fill(); });
byId("before").addEventListener("click", () => { table.page -= 1; show(); });
byId("after").addEventListener("click", () => { table.page += 1; show(); });
for (const button of document.querySelectorAll("[data-open]")) button.addEventListener("click", () => open(placeOf.get(Number(button.dataset.open)), true));
for (const tab of document.querySelectorAll("[data-show]")) tab.addEventListener("click", () => {
  for (const other of document.querySelectorAll("[data-show]")) other.setAttribute("aria-pressed", String(other === tab));
  for (const figure of drawn.values()) figure.classList.toggle("now", figure.id === "drawing-" + tab.dataset.show);
});
drawScatter();
drawCurves();
fill();
document.documentElement.dataset.ready = "yes";
