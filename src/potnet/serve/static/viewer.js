// A crystal in three dimensions, drawn by 3Dmol.js; cell and bonds come from the server.
import { download } from "/static/dom.js";

const FROM = [31, 95, 159], MIDDLE = [235, 238, 242], TO = [180, 83, 9];

export class Viewer {
  constructor(place) {
    this.place = place;
    this.view = null;
  }

  // Colours, one an atom, may stand in the place of those of the elements.
  draw(crystal, cells = 1, colours = null) {
    this.view ??= globalThis.$3Dmol.createViewer(this.place, { backgroundAlpha: 0, antialias: true });
    const { view } = this;
    this.home ??= view.getView();
    // The same crystal stays as it was turned; another one is seen from where all are.
    const turned = this.crystal === crystal ? view.getView() : null;
    this.crystal = crystal;
    view.clear();
    const model = view.addModel();
    model.addAtoms(atoms(crystal, cells));
    const colour = colours ? { colorfunc: (atom) => colours[atom.properties.site] } : { colorscheme: "Jmol" };
    model.setStyle({}, { stick: { radius: 0.12, ...colour }, sphere: { scale: 0.28, ...colour } });
    edges(crystal.cell, (start, end) => view.addLine({ start, end, color: "#7a8594" }));
    view.setView(this.home);
    view.rotate(12, "y");
    view.rotate(14, "x");
    if (turned) view.setView(turned);
    view.zoomTo();
    view.render();
  }

  save() {
    if (!this.view) return;
    const bytes = Uint8Array.from(atob(this.view.pngURI().split(",")[1]), (c) => c.charCodeAt(0));
    download("crystal.png", "image/png", bytes);
  }
}

// From blue below zero over grey to brown above: one colour an atom.
export function shades(values) {
  const most = Math.max(...values.map(Math.abs)) || 1;
  return values.map((value) => {
    const [end, t] = [value < 0 ? FROM : TO, Math.abs(value) / most];
    return `rgb(${MIDDLE.map((m, k) => Math.round(m + (end[k] - m) * t)).join(",")})`;
  });
}

function atoms(crystal, cells) {
  const along = (axis) => (crystal.pbc[axis] ? cells : 1);
  const at = (shift) => [0, 1, 2].map((k) => shift[0] * crystal.cell[0][k] + shift[1] * crystal.cell[1][k] + shift[2] * crystal.cell[2][k]);
  const sum = (a, b) => a.map((x, k) => x + b[k]);
  const placed = new Map();
  const place = (site, shift) => {
    const key = [site, ...shift].join();
    if (!placed.has(key)) {
      const [x, y, z] = sum(crystal.positions[site], at(shift));
      placed.set(key, { elem: crystal.symbols[site], x, y, z, bonds: [], bondOrder: [], index: placed.size, serial: placed.size, properties: { site } });
    }
    return placed.get(key);
  };
  for (let a = 0; a < along(0); a += 1)
    for (let b = 0; b < along(1); b += 1)
      for (let c = 0; c < along(2); c += 1) {
        crystal.symbols.forEach((_, site) => place(site, [a, b, c]));
        for (const [i, j, ...shift] of crystal.bonds) {
          const ends = [place(i, [a, b, c]), place(j, sum([a, b, c], shift))]; // also through the boundary
          ends.forEach((one, k) => {
            one.bonds.push(ends[1 - k].index);
            one.bondOrder.push(1);
          });
        }
      }
  return [...placed.values()];
}

function edges(cell, line) {
  const corner = (bits) => {
    const [x, y, z] = [0, 1, 2].map((k) => bits.reduce((s, bit, a) => s + bit * cell[a][k], 0));
    return { x, y, z };
  };
  for (let n = 0; n < 8; n += 1) {
    const bits = [n & 1, (n >> 1) & 1, (n >> 2) & 1];
    bits.forEach((bit, axis) => {
      if (!bit) line(corner(bits), corner(bits.map((b, a) => (a === axis ? 1 : b))));
    });
  }
}
