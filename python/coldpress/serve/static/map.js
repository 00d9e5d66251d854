// The map of the index: a canvas that zooms, moves and tells what is under the pointer; all of it by keyboard too.

const PALETTE = ["#2f7fd8", "#e8823a", "#2ca58d", "#d64f6b", "#8d6fd1", "#c9a227", "#17a2c4", "#b0683c", "#5b9a3c", "#d16fb4", "#6c7fb0", "#8a8f2a"];
const NEAR = 14; // pixels
const SVG = "http://www.w3.org/2000/svg";

export class EmbeddingMap {
  constructor(canvas, legend, places, { hover, pick }) {
    Object.assign(this, { canvas, legend, places, hover, pick });
    this.view = { x: 0, y: 0, zoom: 1 };
    this.colours = null;
    this.marked = new Set();
    this.asked = null;
    this.under = -1;
    canvas.addEventListener("pointerdown", (event) => this.grab(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointerleave", () => this.point(-1));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Colour the points by a column: its most frequent values, the others quietly.
  colourBy(column) {
    const values = this.places.columns[column];
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    const named = [...counts].filter(([value]) => value !== null).sort((a, b) => b[1] - a[1]).slice(0, PALETTE.length);
    const colours = new Map(named.map(([value], i) => [value, PALETTE[i]]));
    this.colours = values.map((value) => colours.get(value));
    this.legend.replaceChildren(...named.map(([value, count]) => entry(`${value} (${count})`, colours.get(value))));
    this.draw();
  }

  // Ring the results of a search, and the item that it was for.
  mark(keys, asked) {
    this.marked = new Set(keys);
    this.asked = asked;
    this.draw();
  }

  scale() {
    return 0.47 * Math.min(this.canvas.clientWidth, this.canvas.clientHeight) * this.view.zoom;
  }

  screen(i) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return [width / 2 + (this.places.x[i] - this.view.x) * this.scale(), height / 2 - (this.places.y[i] - this.view.y) * this.scale()];
  }

  draw() {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    const style = getComputedStyle(canvas);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const quiet = style.getPropertyValue("--dim").trim();
    const size = Math.min(6, 2.2 * Math.sqrt(this.view.zoom));
    const special = [];
    pen.globalAlpha = 0.85;
    this.places.keys.forEach((key, i) => {
      if (this.marked.has(key) || key === this.asked || i === this.under) special.push(i);
      else disc(pen, this.screen(i), size, this.colours?.[i] ?? quiet);
    });
    pen.globalAlpha = 1;
    for (const i of special) {
      disc(pen, this.screen(i), size + 1.5, this.colours?.[i] ?? quiet);
      pen.lineWidth = this.places.keys[i] === this.asked ? 4 : 2;
      pen.strokeStyle = style.getPropertyValue("--text");
      pen.stroke();
    }
  }

  nearest(x, y) {
    let found = -1;
    let best = NEAR;
    for (let i = 0; i < this.places.keys.length; i += 1) {
      const [a, b] = this.screen(i);
      const distance = Math.hypot(a - x, b - y);
      if (distance < best) [found, best] = [i, distance];
    }
    return found;
  }

  point(i) {
    if (i === this.under) return;
    this.under = i;
    if (i >= 0) this.hover(this.places.keys[i]);
    this.draw();
  }

  grab(event) {
    this.held = { x: event.offsetX, y: event.offsetY, moved: false };
    this.canvas.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (!this.held) {
      this.point(this.nearest(event.offsetX, event.offsetY));
      return;
    }
    const [dx, dy] = [event.offsetX - this.held.x, event.offsetY - this.held.y];
    if (!this.held.moved && Math.hypot(dx, dy) < 4) return;
    this.held = { x: event.offsetX, y: event.offsetY, moved: true };
    this.shift(-dx, dy);
  }

  release(event) {
    const held = this.held;
    this.held = null;
    const i = this.nearest(event.offsetX, event.offsetY);
    if (held && !held.moved && i >= 0) this.pick(this.places.keys[i]);
  }

  shift(dx, dy) {
    this.view.x += dx / this.scale();
    this.view.y += dy / this.scale();
    this.draw();
  }

  // Zoom so that what lies under (x, y) stays there.
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const [dx, dy] = [x - this.canvas.clientWidth / 2, this.canvas.clientHeight / 2 - y];
    const before = this.scale();
    this.view.zoom = Math.min(200, Math.max(0.5, this.view.zoom * factor));
    this.view.x += dx / before - dx / this.scale();
    this.view.y += dy / before - dy / this.scale();
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
  }

  key(event) {
    const step = 40;
    const actions = {
      ArrowLeft: () => this.shift(-step, 0), ArrowRight: () => this.shift(step, 0),
      ArrowUp: () => this.shift(0, step), ArrowDown: () => this.shift(0, -step),
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5),
      0: () => { this.view = { x: 0, y: 0, zoom: 1 }; this.draw(); },
      Enter: () => {
        const i = this.nearest(this.canvas.clientWidth / 2, this.canvas.clientHeight / 2);
        if (i >= 0) this.pick(this.places.keys[i]);
      },
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
    if (event.key !== "Enter") this.point(this.nearest(this.canvas.clientWidth / 2, this.canvas.clientHeight / 2));
  }
}

function disc(pen, [x, y], size, colour) {
  pen.beginPath();
  pen.arc(x, y, size, 0, 2 * Math.PI);
  pen.fillStyle = colour;
  pen.fill();
}

function entry(words, colour) {
  const item = document.createElement("li");
  const svg = document.createElementNS(SVG, "svg");
  const circle = document.createElementNS(SVG, "circle");
  for (const [name, value] of Object.entries({ cx: 5, cy: 5, r: 5, fill: colour })) circle.setAttribute(name, value);
  svg.setAttribute("viewBox", "0 0 10 10");
  svg.append(circle);
  item.append(svg, words);
  return item;
}
