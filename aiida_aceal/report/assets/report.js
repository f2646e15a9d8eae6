"use strict";
// Charts (SVG, hover, zoom), structures (canvas, turn and zoom), sorting of tables, copying of commands.
// Plain JavaScript without any library: the page must work from a file, without a network.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const NS = "http://www.w3.org/2000/svg";
  const PALETTE = ["#2f6db5", "#e4572e", "#3a9d5d", "#8e5ea2", "#c99700", "#17a2a2", "#b5446e", "#6b7280"];
  const tip = document.getElementById("tip");

  function make(name, attributes, parent, text) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }
  function draw(name, attributes, parent, text) {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  }
  function words(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e5 || size < 1e-3) return value.toExponential(size >= 1e5 ? 1 : 2).replace("e+", "e");
    return String(Number(value.toPrecision(4)));
  }
  function showTip(event, text) {
    tip.textContent = text;
    tip.style.display = "block";
    const x = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
    tip.style.left = Math.max(4, x) + "px";
    tip.style.top = Math.max(4, event.clientY - tip.offsetHeight - 10) + "px";
  }
  const hideTip = () => { tip.style.display = "none"; };

  // --- charts ------------------------------------------------------------------------------------------------
  const W = 560, H = 340, BOX = { left: 66, right: 14, top: 12, bottom: 44 };

  function ticks(low, high, log, integer) {
    const found = [];
    if (log) {
      for (let e = Math.floor(low); e <= Math.ceil(high); e++) {
        const parts = high - low < 2 ? [1, 2, 5] : [1];
        for (const m of parts) { const v = e + Math.log10(m); if (v >= low && v <= high) found.push(v); }
      }
      if (found.length > 9) return found.filter((v, i) => i % Math.ceil(found.length / 8) === 0);
      return found;
    }
    let step = Math.pow(10, Math.floor(Math.log10((high - low) / 5 || 1)));
    while ((high - low) / step > 7) step *= step.toExponential()[0] === "2" ? 2.5 : 2;
    if (integer) step = Math.max(1, Math.round(step));
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) found.push(Math.abs(v) < 1e-12 * step ? 0 : v);
    return found;
  }

  class Chart {
    constructor(parent, spec, number) {
      this.spec = spec;
      this.hidden = new Set();
      this.element = make("figure", { class: "chart", id: "chart-" + spec.id, style: "margin:0" }, parent);
      const header = make("header", {}, this.element);
      make("h3", {}, header, spec.title);
      this.choice = 0;
      if (spec.choices.length > 1) {
        const select = make("select", { "aria-label": spec.title }, header);
        spec.choices.forEach((c, i) => make("option", { value: i }, select, c.name));
        this.choice = spec.choices.length - 1;
        if (spec.start !== undefined) this.choice = spec.start;
        select.value = this.choice;
        select.addEventListener("change", () => { this.choice = Number(select.value); this.hidden.clear(); this.reset(); });
      }
      this.clip = "clip" + number;
      this.svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" }, this.element);
      this.legend = make("div", { class: "legend" }, this.element);
      this.svg.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
      this.svg.addEventListener("dblclick", () => this.reset());
      this.svg.addEventListener("pointerdown", (e) => this.press(e));
      this.svg.addEventListener("pointermove", (e) => this.move(e));
      this.svg.addEventListener("pointerleave", hideTip);
      for (const end of ["pointerup", "pointercancel"]) this.svg.addEventListener(end, () => { this.grip = null; });
      this.reset();
    }
    get view() { return this.spec.choices[this.choice]; }
    value(axis, v) { return this.view[axis].log ? (v > 0 ? Math.log10(v) : null) : v; }
    reset() {
      const range = { x: [Infinity, -Infinity], y: [Infinity, -Infinity] };
      const take = (axis, v) => {
        const t = v === null || v === undefined ? null : this.value(axis, v);
        if (t === null || !isFinite(t)) return;
        range[axis][0] = Math.min(range[axis][0], t);
        range[axis][1] = Math.max(range[axis][1], t);
      };
      for (const s of this.view.series) {
        if (this.hidden.has(s.name)) continue;
        s.x.forEach((v, i) => { if (s.y[i] !== null) { take("x", v); take("y", s.y[i] + (s.base ? s.base[i] : 0)); } });
        if (s.kind === "bars") { take("y", 0); s.x.forEach((v) => { take("x", v - 0.5); take("x", v + 0.5); }); }
      }
      for (const h of this.view.hlines || []) take("y", h.value);
      for (const v of this.view.vlines || []) take("x", v.value);
      this.range = {};
      for (const axis of ["x", "y"]) {
        let [low, high] = range[axis];
        if (!isFinite(low)) [low, high] = this.view[axis].log ? [-1, 1] : [0, 1];
        if (high - low < 1e-12) { low -= 0.5; high += 0.5; }
        const margin = 0.05 * (high - low);
        this.range[axis] = [low === 0 && !this.view[axis].log ? 0 : low - margin, high + margin];
      }
      if (this.view.diagonal) {
        const both = [Math.min(this.range.x[0], this.range.y[0]), Math.max(this.range.x[1], this.range.y[1])];
        this.range = { x: both.slice(), y: both.slice() };
      }
      this.paint();
    }
    px(v) { return BOX.left + ((v - this.range.x[0]) / (this.range.x[1] - this.range.x[0])) * (W - BOX.left - BOX.right); }
    py(v) { return H - BOX.bottom - ((v - this.range.y[0]) / (this.range.y[1] - this.range.y[0])) * (H - BOX.top - BOX.bottom); }
    place(event) {
      const box = this.svg.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * W, ((event.clientY - box.top) / box.height) * H];
    }
    wheel(event) {
      event.preventDefault();
      const [px, py] = this.place(event), f = event.deltaY > 0 ? 1.2 : 1 / 1.2;
      const at = {
        x: this.range.x[0] + ((px - BOX.left) / (W - BOX.left - BOX.right)) * (this.range.x[1] - this.range.x[0]),
        y: this.range.y[0] + ((H - BOX.bottom - py) / (H - BOX.top - BOX.bottom)) * (this.range.y[1] - this.range.y[0]),
      };
      for (const axis of ["x", "y"]) this.range[axis] = this.range[axis].map((v) => at[axis] + (v - at[axis]) * f);
      this.paint();
    }
    press(event) {
      this.grip = { at: this.place(event), range: { x: this.range.x.slice(), y: this.range.y.slice() } };
      this.svg.setPointerCapture(event.pointerId);
    }
    move(event) {
      const [px, py] = this.place(event);
      if (this.grip) {
        const r = this.grip.range;
        const dx = ((px - this.grip.at[0]) / (W - BOX.left - BOX.right)) * (r.x[1] - r.x[0]);
        const dy = ((py - this.grip.at[1]) / (H - BOX.top - BOX.bottom)) * (r.y[1] - r.y[0]);
        this.range = { x: r.x.map((v) => v - dx), y: r.y.map((v) => v + dy) };
        this.paint();
        return;
      }
      let best = null, nearest = 18 * 18;
      for (const p of this.points) {
        const d = (p.px - px) ** 2 + (p.py - py) ** 2;
        if (d < nearest) { nearest = d; best = p; }
      }
      if (!best) { hideTip(); return; }
      const v = this.view;
      const lines = [best.series.name, `${v.x.label}: ${words(best.x)}`, `${v.y.label}: ${words(best.y)}`];
      if (best.text) lines.push(best.text);
      showTip(event, lines.join("\n"));
    }
    paint() {
      const { svg, view } = this;
      svg.replaceChildren();
      this.points = [];
      const right = W - BOX.right, bottom = H - BOX.bottom;
      const defs = draw("defs", {}, svg), clip = draw("clipPath", { id: this.clip }, defs);
      draw("rect", { x: BOX.left, y: BOX.top, width: right - BOX.left, height: bottom - BOX.top }, clip);
      for (const t of ticks(this.range.x[0], this.range.x[1], view.x.log, view.x.integer)) {
        draw("line", { x1: this.px(t), x2: this.px(t), y1: BOX.top, y2: bottom, stroke: "#e6e8eb" }, svg);
        draw("text", { x: this.px(t), y: bottom + 16, "text-anchor": "middle", "font-size": 12 }, svg, words(view.x.log ? 10 ** t : t));
      }
      for (const t of ticks(this.range.y[0], this.range.y[1], view.y.log, view.y.integer)) {
        draw("line", { x1: BOX.left, x2: right, y1: this.py(t), y2: this.py(t), stroke: "#e6e8eb" }, svg);
        draw("text", { x: BOX.left - 6, y: this.py(t) + 4, "text-anchor": "end", "font-size": 12 }, svg, words(view.y.log ? 10 ** t : t));
      }
      draw("rect", { x: BOX.left, y: BOX.top, width: right - BOX.left, height: bottom - BOX.top, fill: "none", stroke: "#888" }, svg);
      draw("text", { x: (BOX.left + right) / 2, y: H - 8, "text-anchor": "middle", "font-size": 13 }, svg, view.x.label);
      draw("text", { x: 0, y: 0, transform: `translate(14 ${(BOX.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle", "font-size": 13 }, svg, view.y.label);
      const plot = draw("g", { "clip-path": `url(#${this.clip})` }, svg);
      if (view.diagonal) {
        const [low, high] = [Math.min(this.range.x[0], this.range.y[0]), Math.max(this.range.x[1], this.range.y[1])];
        draw("line", { x1: this.px(low), y1: this.py(low), x2: this.px(high), y2: this.py(high), stroke: "#999" }, plot);
      }
      view.series.forEach((s, i) => this.series(plot, s, s.color || PALETTE[i % PALETTE.length]));
      for (const h of view.hlines || []) {
        const v = this.value("y", h.value);
        if (v === null) continue;
        draw("line", { x1: BOX.left, x2: right, y1: this.py(v), y2: this.py(v), stroke: "#b3261e", "stroke-dasharray": "5 4" }, plot);
        draw("text", { x: right - 4, y: this.py(v) - 4, "text-anchor": "end", "font-size": 11, fill: "#b3261e" }, plot, `${h.name} ${words(h.value)}`);
      }
      for (const l of view.vlines || []) {
        const v = this.value("x", l.value);
        if (v === null) continue;
        draw("line", { x1: this.px(v), x2: this.px(v), y1: BOX.top, y2: bottom, stroke: "#b3261e", "stroke-dasharray": "5 4" }, plot);
        draw("text", { x: this.px(v) + 4, y: BOX.top + 12, "font-size": 11, fill: "#b3261e" }, plot, `${l.name} ${words(l.value)}`);
      }
      if (!view.series.some((s) => s.x.length)) draw("text", { x: W / 2, y: H / 2, "text-anchor": "middle", fill: "#777" }, svg, "no numbers yet");
      this.legend.replaceChildren();
      view.series.forEach((s, i) => {
        const entry = make("span", { class: this.hidden.has(s.name) ? "off" : "" }, this.legend);
        make("i", { style: `background:${s.color || PALETTE[i % PALETTE.length]}` }, entry);
        entry.append(s.name);
        entry.addEventListener("click", () => { this.hidden.has(s.name) ? this.hidden.delete(s.name) : this.hidden.add(s.name); this.reset(); });
      });
    }
    series(plot, s, color) {
      if (this.hidden.has(s.name)) return;
      let path = "";
      s.x.forEach((x, i) => {
        const y = s.y[i], vx = this.value("x", x);
        const vy = y === null || y === undefined ? null : this.value("y", y + (s.base ? s.base[i] : 0));
        if (vx === null || vy === null) { path += " "; return; }
        const px = this.px(vx), py = this.py(vy);
        if (s.kind === "bars") {
          const foot = this.py(s.base ? s.base[i] : Math.max(0, this.range.y[0])), half = (this.px(vx + 0.4) - this.px(vx - 0.4)) / 2;
          draw("rect", { x: px - half, y: Math.min(py, foot), width: 2 * half, height: Math.abs(foot - py), fill: color }, plot);
        } else if (s.kind === "line" || s.kind === "both") path += `${path.endsWith(" ") || !path ? "M" : "L"}${px.toFixed(1)},${py.toFixed(1)}`;
        if (s.kind === "cross") draw("path", { d: `M${px - 5},${py - 5}L${px + 5},${py + 5}M${px - 5},${py + 5}L${px + 5},${py - 5}`, stroke: color, "stroke-width": 2.5 }, plot);
        else if (s.kind === "ring") draw("circle", { cx: px, cy: py, r: 5, fill: "none", stroke: color, "stroke-width": 2 }, plot);
        else if (s.kind === "both" || s.kind === "points") draw("circle", { cx: px, cy: py, r: s.kind === "points" ? 2 : 3.4, fill: color, "fill-opacity": s.kind === "points" ? 0.55 : 1 }, plot);
        this.points.push({ px, py, x, y, series: s, text: s.text ? s.text[i] : "" });
      });
      if (path.trim()) draw("path", { d: path, fill: "none", stroke: color, "stroke-width": 1.8, ...(s.dash ? { "stroke-dasharray": "4 4" } : {}) }, plot);
    }
  }
  const charts = document.getElementById("charts");
  if (charts) data.charts.forEach((spec, i) => new Chart(charts, spec, i));

  // --- structures --------------------------------------------------------------------------------------------
  function heat(t) { // dark blue, green, yellow, red: readable for most colour-blind people by its lightness
    const stops = [[49, 54, 149], [69, 160, 155], [253, 219, 100], [215, 48, 39]];
    const s = Math.min(0.9999, Math.max(0, t)) * (stops.length - 1), k = Math.floor(s), f = s - k;
    return stops[k].map((v, i) => Math.round(v + (stops[k + 1][i] - v) * f));
  }
  class Viewer {
    constructor(root, structures) {
      this.structures = structures;
      this.canvas = root.querySelector("canvas");
      this.info = root.querySelector(".info");
      this.kind = root.querySelector("select.kind");
      this.select = root.querySelector("select.one");
      this.turn = [0.35, -0.5];
      this.zoom = 1;
      for (const kind of [...new Set(structures.map((s) => s.kind))]) make("option", { value: kind }, this.kind, kind);
      this.kind.addEventListener("change", () => this.list());
      this.select.addEventListener("change", () => this.show(Number(this.select.value)));
      for (const [name, step] of [["back", -1], ["next", 1]])
        root.querySelector(`button.${name}`).addEventListener("click", () => this.step(step));
      this.canvas.addEventListener("pointerdown", (e) => { this.grip = [e.clientX, e.clientY, ...this.turn]; this.canvas.setPointerCapture(e.pointerId); });
      this.canvas.addEventListener("pointermove", (e) => this.move(e));
      this.canvas.addEventListener("pointerup", () => { this.grip = null; });
      this.canvas.addEventListener("pointerleave", hideTip);
      this.canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom *= e.deltaY > 0 ? 1 / 1.1 : 1.1; this.paint(); }, { passive: false });
      this.canvas.addEventListener("dblclick", () => { this.zoom = 1; this.turn = [0.35, -0.5]; this.paint(); });
      window.addEventListener("resize", () => this.paint());
      this.list();
    }
    list() {
      this.select.replaceChildren();
      this.structures.forEach((s, i) => { if (s.kind === this.kind.value) make("option", { value: i }, this.select, s.name); });
      this.show(Number(this.select.value));
    }
    step(by) {
      const n = this.select.options.length;
      this.select.selectedIndex = (this.select.selectedIndex + by + n) % n;
      this.show(Number(this.select.value));
    }
    show(index) { this.one = this.structures[index]; this.info.textContent = this.one ? this.one.text : ""; this.paint(); }
    move(event) {
      if (this.grip) {
        this.turn = [this.grip[2] + (event.clientY - this.grip[1]) / 120, this.grip[3] + (event.clientX - this.grip[0]) / 120];
        this.paint();
        return;
      }
      const box = this.canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      for (let i = this.drawn.length - 1; i >= 0; i--) {
        const a = this.drawn[i];
        if ((a.x - x) ** 2 + (a.y - y) ** 2 < a.r ** 2) {
          showTip(event, `${a.symbol} ${a.index}` + (a.gamma === null ? "" : `\nγ ${words(a.gamma)}`));
          return;
        }
      }
      hideTip();
    }
    paint() {
      const c = this.canvas, g = c.getContext("2d"), ratio = window.devicePixelRatio || 1;
      const w = c.clientWidth, h = c.clientHeight, s = this.one;
      this.drawn = [];
      if (!s || !w) return;
      c.width = w * ratio; c.height = h * ratio;
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      g.clearRect(0, 0, w, h);
      const n = s.symbols.length, mid = [0, 0, 0], corners = [];
      const cell = s.cell;
      if (cell) for (let k = 0; k < 8; k++) corners.push([0, 1, 2].map((j) => (k & 1 ? cell[0][j] : 0) + (k & 2 ? cell[1][j] : 0) + (k & 4 ? cell[2][j] : 0)));
      const all = cell ? corners : s.positions;
      for (const p of all) p.forEach((v, j) => { mid[j] += v / all.length; });
      const size = Math.max(2, ...[...all, ...s.positions].map((p) => Math.hypot(...p.map((v, j) => v - mid[j]))));
      const [a, b] = this.turn, scale = (0.47 * Math.min(w, h) / size) * this.zoom;
      const turned = (p) => {
        const [x, y, z] = p.map((v, j) => v - mid[j]);
        const x1 = x * Math.cos(b) + z * Math.sin(b), z1 = -x * Math.sin(b) + z * Math.cos(b);
        return [w / 2 + scale * x1, h / 2 - scale * (y * Math.cos(a) - z1 * Math.sin(a)), y * Math.sin(a) + z1 * Math.cos(a)];
      };
      if (cell) {
        g.strokeStyle = "#9aa1ab"; g.lineWidth = 1;
        const flat = corners.map(turned);
        for (let k = 0; k < 8; k++) for (const bit of [1, 2, 4]) if (!(k & bit)) { g.beginPath(); g.moveTo(flat[k][0], flat[k][1]); g.lineTo(flat[k | bit][0], flat[k | bit][1]); g.stroke(); }
      }
      const top = Math.max(s.scale || 1, 1e-9);
      const order = s.positions.map((p, i) => ({ at: turned(p), i })).sort((p, q) => p.at[2] - q.at[2]);
      for (const { at, i } of order) {
        const gamma = s.gamma ? s.gamma[i] : null;
        const rgb = gamma === null ? [150, 156, 166] : heat(Math.log1p(Math.max(0, gamma)) / Math.log1p(top));
        const r = scale * s.radii[i] * 0.62, fade = Math.min(1, Math.max(0, 0.5 + at[2] / (2.2 * size)));
        const light = g.createRadialGradient(at[0] - r / 3, at[1] - r / 3, r / 8, at[0], at[1], r);
        const shade = (f) => `rgb(${rgb.map((v) => Math.round(Math.min(255, v * f + 255 * (1 - fade) * 0.45))).join(",")})`;
        light.addColorStop(0, shade(1.25)); light.addColorStop(1, shade(0.72));
        g.fillStyle = light;
        g.beginPath(); g.arc(at[0], at[1], r, 0, 2 * Math.PI); g.fill();
        this.drawn.push({ x: at[0], y: at[1], r, symbol: s.symbols[i], index: i, gamma });
      }
      if (s.gamma) {
        for (let k = 0; k < 120; k++) { g.fillStyle = `rgb(${heat(k / 119).join(",")})`; g.fillRect(12 + k, h - 26, 1.5, 10); }
        g.fillStyle = "#333"; g.font = "11px system-ui, sans-serif"; g.textAlign = "left";
        g.fillText("γ 0", 12, h - 4); g.textAlign = "right"; g.fillText(words(top), 132, h - 4);
      }
    }
  }
  const viewer = document.getElementById("viewer");
  if (viewer && data.structures.length) new Viewer(viewer, data.structures);

  // --- tables and commands -----------------------------------------------------------------------------------
  const numberOf = (text) => { const m = text.replace(/[<>,]/g, "").match(/-?\d+(\.\d+)?(e[-+]?\d+)?/i); return m ? Number(m[0]) : null; };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.dataset.sort = "";
      head.addEventListener("click", () => {
        const down = head.dataset.sort === "up";
        heads.forEach((other) => { other.dataset.sort = ""; });
        head.dataset.sort = down ? "down" : "up";
        const rows = [...table.tBodies[0].rows].map((row) => {
          const text = row.cells[column].textContent.trim(), value = numberOf(text);
          return { row, text, value };
        });
        const compare = (p, q) => {
          if ((p.value === null) !== (q.value === null)) return p.value === null ? 1 : -1; // without a number: last
          return (p.value !== null ? p.value - q.value : p.text.localeCompare(q.text)) * (down ? -1 : 1);
        };
        rows.sort(compare);
        rows.forEach(({ row }) => table.tBodies[0].appendChild(row));
      });
    });
  }
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", () => {
      const text = button.dataset.command;
      const done = () => { const before = button.textContent; button.textContent = "copied"; setTimeout(() => { button.textContent = before; }, 1200); };
      if (navigator.clipboard && window.isSecureContext) { navigator.clipboard.writeText(text).then(done); return; }
      const area = make("textarea", {}, document.body); // pages opened from a file have no clipboard of their own
      area.value = text; area.select(); document.execCommand("copy"); area.remove(); done();
    });
  }
})();
