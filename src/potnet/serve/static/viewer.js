// The crystal in three dimensions, drawn by 3Dmol.js; cell and bonds come from the server.
let viewer = null;

export function draw(place, crystal, cells) {
  viewer ??= globalThis.$3Dmol.createViewer(place, { backgroundAlpha: 0 });
  viewer.clear();
  const along = (axis) => (crystal.pbc[axis] ? cells : 1);
  const at = (shift) => [0, 1, 2].map((k) => shift[0] * crystal.cell[0][k] + shift[1] * crystal.cell[1][k] + shift[2] * crystal.cell[2][k]);
  const sum = (a, b) => a.map((x, k) => x + b[k]);
  const atoms = new Map();
  const place_atom = (atom, shift) => {
    const key = [atom, ...shift].join();
    if (!atoms.has(key)) {
      const [x, y, z] = sum(crystal.positions[atom], at(shift));
      atoms.set(key, { elem: crystal.symbols[atom], x, y, z, bonds: [], bondOrder: [], index: atoms.size, serial: atoms.size });
    }
    return atoms.get(key);
  };
  for (let a = 0; a < along(0); a += 1)
    for (let b = 0; b < along(1); b += 1)
      for (let c = 0; c < along(2); c += 1) {
        crystal.symbols.forEach((_, atom) => place_atom(atom, [a, b, c]));
        for (const [i, j, ...shift] of crystal.bonds) {
          const first = place_atom(i, [a, b, c]);
          const other = place_atom(j, sum([a, b, c], shift)); // also through the boundary
          first.bonds.push(other.index);
          first.bondOrder.push(1);
          other.bonds.push(first.index);
          other.bondOrder.push(1);
        }
      }
  const model = viewer.addModel();
  model.addAtoms([...atoms.values()]);
  model.setStyle({}, { stick: { radius: 0.12, colorscheme: "Jmol" }, sphere: { scale: 0.28, colorscheme: "Jmol" } });
  edges(crystal.cell, (from, to) => viewer.addLine({ start: point(from), end: point(to), color: "#7a8594" }));
  viewer.zoomTo();
  viewer.render();
}

export function savePicture(download) {
  if (!viewer) return;
  const bytes = Uint8Array.from(atob(viewer.pngURI().split(",")[1]), (c) => c.charCodeAt(0));
  download("crystal.png", "image/png", bytes);
}

const point = ([x, y, z]) => ({ x, y, z });

function edges(cell, line) {
  const corner = (bits) => [0, 1, 2].map((k) => bits.reduce((s, bit, a) => s + bit * cell[a][k], 0));
  for (let n = 0; n < 8; n += 1) {
    const bits = [n & 1, (n >> 1) & 1, (n >> 2) & 1];
    bits.forEach((bit, axis) => {
      if (!bit) line(corner(bits), corner(bits.map((b, a) => (a === axis ? 1 : b))));
    });
  }
}
