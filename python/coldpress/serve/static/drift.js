// Whether queries are still like those that the server learned from: a bar for each window, against its threshold.

import { call } from "/static/api.js";

const SHOWN = 40;
const EVERY_MS = 15000;
const HIGHEST = 3; // thresholds: a bar of more ends there, so that the others can be seen
const SVG = "http://www.w3.org/2000/svg";

// Ask the server now and then while the page is looked at.
export function watchDrift(panel, place) {
  async function look() {
    if (document.hidden) return;
    try {
      const found = await (await call("/v1/drift")).json();
      place.replaceChildren(...Object.entries(found).flatMap(([modality, one]) => show(modality, one, Object.keys(found).length > 1)));
      panel.hidden = false;
    } catch { /* the search says what is wrong with the server */ }
  }
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
  return look();
}

function show(modality, found, several) {
  const words = sentence(found);
  const made = several ? [element("h3", `Of ${modality}s`)] : [];
  if (found.history.length) made.push(drawing(found.history.slice(-SHOWN), words));
  const said = element("p", words, found.alarm ? "bad" : "quiet");
  return [...made, said, ...found.history.length ? [element("p", rate(found), "quiet")] : []];
}

function sentence(found) {
  if (found.state === "learning") {
    return `Learning what is usual: ${found.pending.toLocaleString()} of ${found.needed.toLocaleString()} queries seen.`;
  }
  if (!found.history.length) {
    return `Compared with ${found.reference}; ${found.pending.toLocaleString()} of ${found.needed.toLocaleString()} queries for a first look.`;
  }
  const p = found.p_value < 0.01 ? found.p_value.toPrecision(1) : found.p_value.toFixed(2);
  const last = `the last ${found.window.toLocaleString()} queries`;
  return found.alarm
    ? `Drift: ${last} differ from ${found.reference} (p = ${p}).`
    : `No drift: ${last} are like ${found.reference} (p = ${p}).`;
}

// How often an alarm means nothing, in windows and, at the speed of the last ones, in time.
function rate({ windows, alarms, history, windows_between_false_alarms: between }) {
  const seconds = history.length > 1 ? (history.at(-1).ended - history[0].ended) / (history.length - 1) : 0;
  const time = seconds ? `, at this load one in ${duration(seconds * between)}` : "";
  const counts = `Alarms, above the dashed line: ${alarms.toLocaleString()} of ${windows.toLocaleString()} windows.`;
  return `${counts} By chance one in ${between.toLocaleString()}${time}.`;
}

function duration(seconds) {
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    const number = Math.round(seconds / length);
    if (number >= 1) return `${number.toLocaleString()} ${unit}${number === 1 ? "" : "s"}`;
  }
  return "a minute";
}

// Statistics as parts of their thresholds: the line is where an alarm begins.
function drawing(history, words) {
  const heights = history.map((one) => Math.min(HIGHEST, Math.max(0, one.statistic / one.threshold)));
  const most = Math.max(1.5, ...heights);
  const svg = node("svg", { viewBox: `0 0 ${SHOWN} 1`, preserveAspectRatio: "none", role: "img", "aria-label": words });
  svg.append(...history.map((one, i) => {
    const height = Math.max(0.02, heights[i] / most);
    const bar = node("rect", { x: i + 0.1, y: 1 - height, width: 0.8, height, class: one.alarm ? "alarm" : "window" });
    const title = node("title", {});
    title.textContent = `${new Date(1000 * one.ended).toLocaleString()}: p = ${one.p_value.toPrecision(2)}${one.alarm ? ", alarm" : ""}`;
    bar.append(title);
    return bar;
  }));
  const y = 1 - 1 / most;
  svg.append(node("line", { x1: 0, x2: SHOWN, y1: y, y2: y, class: "threshold" }));
  return svg;
}

function node(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function element(name, textContent, className = "") {
  return Object.assign(document.createElement(name), { textContent, className });
}
