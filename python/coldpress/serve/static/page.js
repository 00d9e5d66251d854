// The search page: a query by text, image or item; its results; filters, the map and what it took.

import { call, post } from "/static/api.js";
import { EmbeddingMap } from "/static/map.js";
import { Latency } from "/static/latency.js";
import { watchDrift } from "/static/drift.js";

const $ = (id) => document.getElementById(id);
const latency = new Latency($("bars"), $("latency"));
let info = null;
let map = null;
let last = null; // what was asked last, so that filters and the number of results apply to it
let turn = 0; // answers of earlier questions are dropped

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function say(message, bad = false) {
  $("status").textContent = message;
  $("status").classList.toggle("bad", bad);
}

function conditions() {
  const chosen = [...$("filters").querySelectorAll("select")].filter((select) => select.value !== "");
  return Object.fromEntries(chosen.map((select) => [select.name, JSON.parse(select.value)]));
}

function request(query) {
  const where = conditions();
  const k = Number($("k").value);
  if (!(query.image instanceof Blob)) {
    return { ...query, k, ...(Object.keys(where).length ? { where } : {}) };
  }
  const form = new FormData();
  form.append("image", query.image);
  form.append("k", k);
  if (Object.keys(where).length) form.append("where", JSON.stringify(where));
  return form;
}

async function search(query, name) {
  last = { query, name };
  const mine = ++turn;
  say(`Searching for ${name} …`);
  const begun = performance.now();
  try {
    const answer = await post("/v1/search", request(query));
    const { results } = await answer.json();
    if (mine !== turn) return;
    latency.add(performance.now() - begun, answer.headers.get("server-timing"));
    const [{ hits }] = results;
    show(hits);
    map?.mark(hits.map((hit) => hit.key), query.key);
    say(hits.length ? `${hits.length} nearest to ${name}` : `Nothing near ${name} meets the filters`);
  } catch (error) {
    if (mine === turn) say(error.message, true);
  }
}

function show(hits) {
  $("hits").classList.toggle("texts", !info.index.thumbnails);
  $("hits").replaceChildren(...hits.map(card));
}

function card(hit, rank) {
  const body = element("div", { className: "body" });
  if (hit.text) body.append(element("p", { className: "text", textContent: hit.text }));
  body.append(element("p", { className: "key clip", textContent: hit.key, title: hit.key }));
  const known = Object.entries(hit.metadata).filter(([, value]) => value !== null && value !== "");
  if (known.length) {
    const shown = known.map(([name, value]) => element("span", { textContent: `${name} ${value}`, title: `${name}: ${value}` }));
    body.append(element("p", { className: "known" }, ...shown));
  }
  const more = element("button", { type: "button", textContent: "More like this" });
  more.setAttribute("aria-label", `More like ${hit.key}`);
  more.addEventListener("click", () => like(hit.key));
  const meter = element("meter", { min: 0, max: 1, value: Math.max(0, hit.score) });
  meter.setAttribute("aria-hidden", "true");
  const score = element("span", { className: "score", textContent: hit.score.toFixed(3) });
  body.append(element("div", { className: "foot" }, score, meter, more));
  const item = element("li", { className: "hit" });
  item.dataset.key = hit.key;
  if (info.index.thumbnails) item.append(picture(hit.key, rank));
  item.append(body);
  return item;
}

function picture(key, rank) {
  const image = element("img", { alt: key, loading: rank < 8 ? "eager" : "lazy" });
  const path = `/v1/thumbnail?key=${encodeURIComponent(key)}`;
  if (!sessionStorage.getItem("api-key")) {
    image.src = path;
  } else { // an <img> sends no key
    call(path).then((answer) => answer.blob()).then((blob) => { image.src = URL.createObjectURL(blob); }, () => {});
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  }
  return image;
}

function like(key) {
  $("text").value = "";
  search({ key }, `“${key}”`);
  window.scrollTo({ top: 0, behavior: "smooth" });
}

function searchImage(file) {
  if (!file) return;
  $("text").value = "";
  search({ image: file }, file.name ? `the image “${file.name}”` : "the image");
}

function offerFilters(choices) {
  for (const [name, values] of Object.entries(choices)) {
    const select = element("select", { name }, new Option("any", ""));
    select.append(...values.map((value) => new Option(String(value), JSON.stringify(value))));
    select.addEventListener("change", () => last && search(last.query, last.name));
    $("filters").append(element("label", { className: "quiet", textContent: `${name} ` }, select));
  }
  $("filters").hidden = !Object.keys(choices).length;
}

async function drawMap() {
  const places = await (await call("/v1/map")).json();
  for (const name of Object.keys(places.columns)) $("colour").append(new Option(name));
  $("colour").parentElement.hidden = !$("colour").options.length;
  $("map-panel").hidden = false;
  map = new EmbeddingMap($("map"), $("legend"), places, { hover: (key) => { $("point").textContent = key; }, pick: like });
  if ($("colour").options.length) map.colourBy($("colour").value);
  $("colour").addEventListener("change", () => map.colourBy($("colour").value));
}

function acceptImages() {
  $("pick").hidden = false;
  $("file").addEventListener("change", () => { searchImage($("file").files[0]); $("file").value = ""; });
  let depth = 0; // dragging over a child leaves its parent
  addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; $("drop").hidden = false; });
  addEventListener("dragleave", () => { depth -= 1; $("drop").hidden = depth <= 0; });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    $("drop").hidden = true;
    searchImage(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => searchImage([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
}

async function start() {
  info = await (await call("/v1/info")).json();
  watchDrift($("drift-panel"), $("drift"));
  const rows = info.index ? `${info.index.rows.toLocaleString()} items, ` : "";
  $("about").textContent = `${rows}${info.model}, ${info.dim} dimensions, ${info.precision}`;
  if (!info.index) {
    $("ask").hidden = true;
    $("columns").hidden = true;
    say("This server has no index to search: start it with --index. The API is at /docs.");
    return;
  }
  if (!info.takes.includes("text")) {
    $("text").disabled = true;
    $("text").placeholder = `${info.model} takes images: choose, drop or paste one`;
  }
  if (info.takes.includes("image")) acceptImages();
  offerFilters(info.index.choices);
  if (info.index.map) await drawMap();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) search({ text }, `“${text}”`);
});
$("k").addEventListener("change", () => last && search(last.query, last.name));
start().catch((error) => say(error.message, true));
