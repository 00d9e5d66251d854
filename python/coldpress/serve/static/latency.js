// What the last searches took: all of it, and the part of the server.

const SHOWN = 40;
const SVG = "http://www.w3.org/2000/svg";

export class Latency {
  constructor(svg, words) {
    this.svg = svg;
    this.words = words;
    this.times = [];
  }

  // `timing` is the header Server-Timing.
  add(all, timing) {
    const server = Number(/dur=([\d.]+)/.exec(timing ?? "")?.[1] ?? NaN);
    this.times = [...this.times, { all, server }].slice(-SHOWN);
    this.draw();
    const sorted = this.times.map((time) => time.all).sort((a, b) => a - b);
    const middle = sorted[Math.floor(sorted.length / 2)];
    const part = Number.isNaN(server) ? "" : ` (server ${server.toFixed(1)})`;
    this.words.textContent = `Last ${all.toFixed(1)} ms${part}, median ${middle.toFixed(0)}, slowest ${sorted.at(-1).toFixed(0)}`;
  }

  draw() {
    const most = Math.max(...this.times.map((time) => time.all));
    this.svg.setAttribute("viewBox", `0 0 ${SHOWN} 1`);
    this.svg.replaceChildren(...this.times.flatMap(({ all, server }, i) => {
      const bars = [bar(i, all / most, "all")];
      if (!Number.isNaN(server)) bars.push(bar(i, Math.min(server, all) / most, "server"));
      return bars;
    }));
  }
}

function bar(i, height, name) {
  const rect = document.createElementNS(SVG, "rect");
  const place = { x: i + 0.1, y: 1 - height, width: 0.8, height, class: name };
  for (const [attribute, value] of Object.entries(place)) rect.setAttribute(attribute, value);
  return rect;
}
