// A crystal in three dimensions, drawn by 3Dmol.js; cell and bonds come from the server.
import { digits, download } from "/static/dom.js";

const TURN = 12; // degrees an arrow key
const KEYS = { ArrowLeft: ["y", -TURN], ArrowRight: ["y", TURN], ArrowUp: ["x", -TURN], ArrowDown: ["x", TURN] };
const ZOOM = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 };
const EDGE = 0.02; // of a lattice vector: an atom so near to a face is drawn on the opposite one, too

export class Viewer {
  constructor(place) {
    this.place = place;
    this.view = null;
    this.tip = null;
    place.addEventListener("keydown", (event) => this.key(event));
  }

  // Colours and numbers, one an atom, may stand in the place of elements.
  draw(crystal, { cells = 1, colours = null, values = null, unit = "" } = {}) {
    this.view ??= globalThis.$3Dmol.createViewer(this.place, { backgroundAlpha: 0, antialias: true });
    const { view } = this;
    this.home ??= view.getView();
    // The same crystal stays as it was turned; another one is seen from where all are.
    const turned = this.crystal === crystal && this.cells === cells ? view.getView() : null;
    Object.assign(this, { crystal, cells });
    this.place.setAttribute("aria-label", `${crystal.formula} in three dimensions: arrow keys turn it, plus and minus change its size`);
    view.clear();
    const model = view.addModel();
    model.addAtoms(atoms(crystal, cells));
    const colour = colours ? { colorfunc: (atom) => colours[atom.properties.site] } : { colorscheme: "Jmol" };
    const stick = { radius: 0.1, ...colour };
    model.setStyle({ predicate: (atom) => !atom.properties.end }, { stick, sphere: { scale: 0.28, ...colour } });
    model.setStyle({ predicate: (atom) => atom.properties.end }, { stick });
    const ink = getComputedStyle(this.place).getPropertyValue("--soft").trim() || "#7a8594";
    edges(crystal.cell, (start, end) => view.addCylinder({ start, end, radius: 0.035, color: ink }));
    for (const [axis, position] of axes(crystal.cell)) view.addLabel(axis, { position, fontColor: ink, fontSize: 13, backgroundOpacity: 0, alignment: "center" });
    model.setHoverable({}, true, (atom) => this.point(atom, values, unit), () => this.point(null));
    view.setView(this.home);
    view.rotate(12, "y");
    view.rotate(14, "x");
    if (turned) view.setView(turned);
    else view.zoomTo();
    if (!turned) view.zoom(1.1);
    view.render();
  }

  // Says in a corner which atom the pointer is on.
  point(atom, values, unit) {
    this.tip ??= this.place.appendChild(Object.assign(document.createElement("span"), { className: "tip" }));
    const number = atom && values ? `: ${digits(values[atom.properties.site])} ${unit}` : "";
    this.tip.textContent = atom ? `${atom.elem} ${atom.properties.site + 1}${number}` : "";
  }

  key(event) {
    if (!this.view || event.ctrlKey || event.altKey || event.metaKey) return;
    if (KEYS[event.key]) this.view.rotate(KEYS[event.key][1], KEYS[event.key][0]);
    else if (ZOOM[event.key]) this.view.zoom(ZOOM[event.key]);
    else return;
    event.preventDefault();
    this.view.render();
  }

  save() {
    if (!this.view) return;
    const bytes = Uint8Array.from(atob(this.view.pngURI().split(",")[1]), (c) => c.charCodeAt(0));
    download("crystal.png", "image/png", bytes);
  }
}

// The colours of elements, as they are drawn.
export function elementColour(symbol) {
  const found = globalThis.$3Dmol.elementColors.Jmol[symbol] ?? 0xff1493;
  return `#${found.toString(16).padStart(6, "0")}`;
}

const along = (cell, shift) => [0, 1, 2].map((k) => shift[0] * cell[0][k] + shift[1] * cell[1][k] + shift[2] * cell[2][k]);
const sum = (a, b) => a.map((x, k) => x + b[k]);
const STUB = 0.35; // of a bond that leads out
const onTheWay = (a, b) => a.map((x, k) => x + STUB * (b[k] - x));

// All atoms of the cells, also on their last faces, and a piece of each bond that leads out of them.
function atoms({ symbols, positions, cell, pbc, bonds }, cells) {
  const n = pbc.map((isPeriodic) => (isPeriodic ? cells : 1));
  const scaled = positions.map((place) => inCell(cell, place));
  const placed = new Map();
  const found = [];
  const add = (site, [x, y, z], end = false) => {
    const made = { elem: symbols[site], x, y, z, bonds: [], bondOrder: [], index: found.length, serial: found.length, properties: { site, end } };
    found.push(made);
    return made;
  };
  const join = (one, other) => {
    one.bonds.push(other.index);
    one.bondOrder.push(1);
    other.bonds.push(one.index);
    other.bondOrder.push(1);
  };
  // The cells in which an atom is drawn: those that were asked for, as the atom lies in them.
  scaled.forEach((place, site) => {
    const spans = place.map((at, k) => {
      if (!pbc[k]) return [0];
      const first = -Math.floor(at + EDGE); // brings it into the first cell
      const last = first + n[k] - (at + first < EDGE ? 0 : 1);
      return Array.from({ length: last - first + 1 }, (_, step) => first + step);
    });
    for (const a of spans[0]) for (const b of spans[1]) for (const c of spans[2]) placed.set([site, a, b, c].join(), add(site, sum(positions[site], along(cell, [a, b, c]))));
  });
  const out = bonds.flatMap(([i, j, ...shift]) => [[i, j, shift], [j, i, shift.map((x) => -x)]]);
  const of = Map.groupBy ? Map.groupBy(out, ([i]) => i) : grouped(out);
  for (const [key, atom] of [...placed]) {
    const [site, ...at] = key.split(",").map(Number);
    for (const [, other, shift] of of.get(site) ?? []) {
      const cellOfOther = sum(at, shift);
      const partner = placed.get([other, ...cellOfOther].join());
      const there = sum(positions[other], along(cell, cellOfOther));
      if (partner === undefined) join(atom, add(site, onTheWay([atom.x, atom.y, atom.z], there), true));
      else if (atom.index < partner.index) join(atom, partner);
    }
  }
  return found;
}

function grouped(pairs) {
  const found = new Map();
  for (const pair of pairs) found.set(pair[0], [...(found.get(pair[0]) ?? []), pair]);
  return found;
}

// A place in units of the lattice vectors.
function inCell([a, b, c], place) {
  const cross = (p, q) => [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]];
  const dot = (p, q) => p[0] * q[0] + p[1] * q[1] + p[2] * q[2];
  const volume = dot(a, cross(b, c));
  return [cross(b, c), cross(c, a), cross(a, b)].map((normal) => dot(place, normal) / volume);
}

const point = ([x, y, z]) => ({ x, y, z });

function axes(cell) {
  return cell.map((vector, k) => ["abc"[k], point(vector.map((x) => x * (1 + 0.7 / Math.hypot(...vector))))]);
}

function edges(cell, line) {
  const corner = (bits) => point(along(cell, bits));
  for (let n = 0; n < 8; n += 1) {
    const bits = [n & 1, (n >> 1) & 1, (n >> 2) & 1];
    bits.forEach((bit, axis) => {
      if (!bit) line(corner(bits), corner(bits.map((b, a) => (a === axis ? 1 : b))));
    });
  }
}
