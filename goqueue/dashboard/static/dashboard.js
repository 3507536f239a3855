// What the pages do beyond HTML: stay live, tell times, draw charts, listen to keys. Everything can be read without.
"use strict";

const REFRESH_SECONDS = 2;
const page = document.documentElement;
// Where the dashboard of one of several namespaces is
const base = page.dataset.base ?? "";

// Times

const relative = (seconds) => {
  if (seconds >= -0.5 && seconds < 1) return "now";
  const ago = Math.abs(seconds);
  const [value, unit] = ago < 60 ? [ago, "s"] : ago < 3600 ? [ago / 60, "min"] : ago < 86400 ? [ago / 3600, "h"] : [ago / 86400, "d"];
  const text = `${Math.floor(value)} ${unit}`;
  return seconds < -0.5 ? `in ${text}` : `${text} ago`;
};

function tellTimes(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const seconds = (now - Date.parse(element.getAttribute("datetime"))) / 1000;
    const text = "running" in element.dataset ? relative(Math.max(seconds, 1)).replace(" ago", "") : relative(seconds);
    if (element.textContent !== text) element.textContent = text;
  }
}

// The live part: asked for again every two seconds, while somebody looks and the answer is known to be new

let paused = false;
let tag = null;

// Rows stay where they are while somebody points at one: who is about to click it would click another
const POINTING_SECONDS = 2;
let pointedAt = -Infinity;
document.addEventListener("pointermove", (event) => {
  if (event.target.closest?.("#live [data-row], #live form, #live button")) pointedAt = performance.now();
});

function refresh() {
  if (document.hidden || paused) return;
  const live = document.getElementById("live");
  const edits = live && live.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), select, textarea");
  const points = performance.now() - pointedAt < POINTING_SECONDS * 1000;
  if (live && !edits && !points && !live.querySelector("dialog[open], [data-row] input:checked")) htmx.trigger(live, "refresh");
  for (const chart of document.querySelectorAll("[data-chart]")) if (isDue(chart)) loadChart(chart);
}

document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.target?.id === "live" && event.detail.verb === "get" && tag) event.detail.headers["If-None-Match"] = tag;
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.target?.id !== "live") return;
  const answer = event.detail.xhr;
  if (answer.status === 200) tag = answer.getResponseHeader("ETag");
  setState(answer.status === 200 || answer.status === 304 ? "" : answer.status === 404 ? "not there any more" : "not reachable");
});

document.addEventListener("htmx:sendError", () => setState("not reachable"));
document.addEventListener("htmx:afterSwap", (event) => {
  tellTimes(event.detail.target ?? document);
  restoreRow();
  followLogs();
});

function setState(text) {
  const state = document.querySelector(".live-state");
  state.hidden = !text && !paused;
  state.textContent = text || (paused ? "paused" : "");
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});

// A log shows its end, and follows it unless somebody has scrolled up to read

const readInside = new WeakSet();
const END_PIXELS = 24;
document.addEventListener("scroll", ({ target }) => {
  if (!target.matches?.(".log")) return;
  if (target.scrollHeight - target.scrollTop - target.clientHeight > END_PIXELS) readInside.add(target);
  else readInside.delete(target);
}, true);

function followLogs() {
  for (const log of document.querySelectorAll(".log")) if (!readInside.has(log)) log.scrollTop = log.scrollHeight;
}

// What a person opened stays open, and what was drawn stays drawn, when the live part is merged
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) => !(name === "open" && node.matches("details, dialog")) && !(name === "checked" && node.matches("[data-row] input"));
Idiomorph.defaults.callbacks.beforeNodeMorphed = (node) => !(node.nodeType === 1 && node.matches("[data-chart], [data-still]"));
Idiomorph.defaults.ignoreActiveValue = true;

// Charts: <div data-chart="lines" data-source="…" data-unit="seconds">

const charts = new WeakMap();
const tags = new WeakMap();

const CHART_HEIGHT = 200;

// For uPlot: from this distance of the marks on, what they say, and what the first of a day or a year adds below
const TIMES = [
  [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
];

// What changes rarely says how often it is worth asking: data-every="10"
const isDue = (element) => !element.dataset.every || performance.now() - (element.asked ?? -Infinity) >= element.dataset.every * 1000;

// A point without neighbours is no line
const alone = (plot, index) => plot.data[index].flatMap((value, at, values) => (value != null && values[at - 1] == null && values[at + 1] == null ? [at] : []));

async function loadChart(element) {
  element.asked = performance.now();
  const headers = tags.has(element) ? { "If-None-Match": tags.get(element) } : {};
  let answer;
  try {
    answer = await fetch(element.dataset.source, { headers, cache: "no-store" });
  } catch {
    return;
  }
  // A session that ended leads to the login, which is no chart.
  if (!answer.ok || answer.redirected) return;
  tags.set(element, answer.headers.get("ETag"));
  draw(element, await answer.json());
}

const colour = (name) => getComputedStyle(page).getPropertyValue(`--${name}`).trim();

function humane(value, unit) {
  if (value == null) return "–";
  if (value === 0) return "0";
  if (unit === "seconds") {
    if (value < 1) return `${+(value * 1000).toPrecision(3)} ms`;
    return value < 60 ? `${+value.toPrecision(3)} s` : value < 3600 ? `${+(value / 60).toPrecision(3)} min` : `${+(value / 3600).toPrecision(3)} h`;
  }
  const text = value >= 1e6 ? `${+(value / 1e6).toPrecision(3)} M` : value >= 1e4 ? `${+(value / 1e3).toPrecision(3)} k` : `${+value.toPrecision(3)}`;
  return unit === "per_second" ? `${text}/s` : text;
}

// The document: {x: [seconds since the epoch, …], series: [{name, colour, values: […]}, …], from, to}
function draw(element, document_) {
  const data = [document_.x, ...document_.series.map((one) => one.values)];
  const known = charts.get(element);
  const shape = document_.series.map((one) => one.name + colour(one.colour)).join();
  element.range = [document_.from, document_.to];
  element.classList.toggle("blank", !document_.series.some((one) => one.values.some(Boolean)));
  if (known && known.shape === shape) {
    known.plot.setData(data);
    return;
  }
  if (known) known.plot.destroy();
  const unit = element.dataset.unit;
  const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const colours = [null, ...document_.series.map((one) => colour(one.colour))];
  const options = {
    width: element.clientWidth,
    height: CHART_HEIGHT,
    padding: [8, 20, 0, 0],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
    scales: { x: { time: true, range: () => element.range }, y: { range: (_plot, _low, high) => [0, Math.max(high ?? 0, Number(element.dataset.least ?? 0.01)) * 1.1] } },
    axes: [
      { ...axis, size: 40, space: 64, values: TIMES },
      { ...axis, size: 56, space: 36, values: (_plot, values) => values.map((value) => humane(value, unit)) },
    ],
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    legend: { markers: { width: 0, fill: (_plot, index) => colours[index] } },
    series: [
      { value: (_plot, value) => (value == null ? "times in UTC" : new Date(value * 1000).toISOString().replace("T", " ").slice(0, 19)) },
      ...document_.series.map((one, at) => ({
        label: one.name, stroke: colours[at + 1], fill: at === 0 ? `${colours[at + 1]}22` : undefined, width: 1.5,
        spanGaps: false, points: { show: false, size: 5, filter: alone }, value: (_plot, value) => (value == null ? "" : humane(value, unit)),
      })),
    ],
  };
  charts.set(element, { plot: new uPlot(options, data, element), shape });
  widths.observe(element);
  element.dataset.drawn = "";
}

const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const known = charts.get(target);
    if (known && target.clientWidth && target.clientWidth !== known.plot.width) known.plot.setSize({ width: target.clientWidth, height: CHART_HEIGHT });
  }
});

// Theme

function switchTheme() {
  const dark = page.dataset.theme ? page.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  page.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("goqueue-theme", page.dataset.theme);
  } catch {
    // It holds for this page.
  }
  drawAnew();
}

function drawAnew() {
  for (const element of document.querySelectorAll("[data-chart]")) {
    tags.delete(element);
    loadChart(element);
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);

// Keys

const places = { o: "/dashboard", j: "/dashboard/jobs", q: "/dashboard/queues", t: "/dashboard/types", f: "/dashboard/failures", s: "/dashboard/schedules", w: "/dashboard/workers", c: "/dashboard/create" };
let going = false;
let rowId = null;

const rows = () => [...document.querySelectorAll("[data-row]")];

function restoreRow() {
  for (const row of rows()) row.classList.toggle("current", rowId !== null && row.id === rowId);
}

function moveRow(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.id === rowId);
  const row = all[Math.min(Math.max(at + step, 0), all.length - 1)];
  rowId = row.id;
  restoreRow();
  row.scrollIntoView({ block: "nearest" });
  (row.querySelector("a") ?? row).focus({ preventScroll: true });
}

function openKeys() {
  document.getElementById("keys").showModal();
}

function togglePause() {
  paused = !paused;
  setState("");
  if (!paused) refresh();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), select, textarea") || document.querySelector("dialog[open]")) return;
  const { key } = event;
  if (going) {
    going = false;
    if (places[key]) location.href = base + places[key];
    return;
  }
  const actions = {
    "/": () => {
      const search = document.querySelector("[data-search]");
      if (search) search.focus();
      else location.href = `${base}/dashboard/jobs#find`;
    },
    j: () => moveRow(1),
    k: () => moveRow(-1),
    x: () => document.querySelector("[data-row].current input[type=checkbox]")?.click(),
    g: () => { going = true; },
    p: togglePause,
    "?": openKeys,
  };
  if (!actions[key]) return;
  event.preventDefault();
  actions[key]();
});

// Small helps: copy, select all, forms that follow their selects, a question before what cannot be undone

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const source = copy.dataset.copy ? document.getElementById(copy.dataset.copy) : copy.closest("figure, .copyable").querySelector("pre, code");
    const before = copy.textContent;
    try {
      await navigator.clipboard.writeText(source.dataset.text ?? source.textContent);
      copy.textContent = "copied";
    } catch {
      // Browsers have no clipboard where the page came over plain HTTP from another machine.
      getSelection().selectAllChildren(source);
      copy.textContent = "selected";
    }
    setTimeout(() => { copy.textContent = before; }, 1500);
  }
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
  const folder = event.target.closest("[data-fold]");
  if (folder) for (const one of folder.closest(".copyable, figure").querySelectorAll("details")) one.open = folder.dataset.fold === "open";
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
  if (event.target.matches("[data-selects-all]")) {
    for (const box of document.querySelectorAll("[data-row] input[type=checkbox]")) box.checked = event.target.checked;
  }
  if (event.target.matches("[data-selects-all], [data-row] input[type=checkbox]")) {
    const chosen = document.querySelectorAll("[data-row] input[type=checkbox]:checked").length;
    for (const element of document.querySelectorAll("[data-chosen]")) element.textContent = chosen;
    for (const element of document.querySelectorAll("[data-needs-choice]")) element.disabled = chosen === 0;
  }
});

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

// Start

for (const button of document.querySelectorAll("[data-theme-switch], [data-keys]")) button.hidden = false;
document.querySelector("[data-theme-switch]").addEventListener("click", switchTheme);
document.querySelector("[data-keys]").addEventListener("click", openKeys);
if (location.hash === "#find") document.querySelector("[data-search]")?.focus();
tellTimes();
followLogs();
for (const chart of document.querySelectorAll("[data-chart]")) loadChart(chart);
setInterval(tellTimes, 1000);
setInterval(refresh, REFRESH_SECONDS * 1000);
page.dataset.ready = "";

// The page of a job: what is too large to stand in the page is fetched when it is copied

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy-from]");
  if (!button) return;
  const before = button.textContent;
  try {
    const answer = await fetch(button.dataset.copyFrom, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    await navigator.clipboard.writeText(await answer.text());
    button.textContent = "copied";
  } catch {
    button.textContent = "not copied";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
});

// The list of jobs: what needs a choice waits for one

for (const element of document.querySelectorAll("[data-needs-choice]")) element.disabled = !document.querySelector("[data-row] input[type=checkbox]:checked");
for (const element of document.querySelectorAll("[data-chosen-label]")) element.hidden = false;

// A form that somebody opened in the live part stays as they left it

const mayMorph = Idiomorph.defaults.callbacks.beforeNodeMorphed;
Idiomorph.defaults.callbacks.beforeNodeMorphed = (node, ...others) => mayMorph(node, ...others) && !(node.nodeType === 1 && node.matches("details[open] > form, form#retry-form"));
