// Two materials side by side: another structure of the batch, of a file, or a known one.
import { $, element, fixed, formula, named, unitText, within } from "/static/dom.js";

const KNOWN = { formation_energy: "eV/atom", band_gap: "eV", bulk_modulus: "GPa", shear_modulus: "GPa" };

export function knownColumn(known) {
  const values = Object.entries(KNOWN).map(([property, unit]) => [property, { value: known[property], unit }]);
  return { title: known.formula, note: `${known.id}, as known`, values: new Map([...measures(known.space_group, known.n_atoms, known.volume_per_atom), ...values]) };
}

export function predictedColumn(crystal) {
  const values = crystal.rows.map((row) => [row.property, row]);
  const group = Number(crystal.space_group.match(/\((\d+)\)/)?.[1]) || null;
  return { title: crystal.formula, note: `${crystal.id}, as predicted`, values: new Map([...measures(group, crystal.n_atoms, volume(crystal) / crystal.n_atoms), ...values]) };
}

function measures(group, atoms, volumePerAtom) {
  return [
    ["space group", { value: group, isName: true }],
    ["atoms of the cell", { value: atoms, isName: true }],
    ["volume per atom", { value: volumePerAtom, unit: "Å^3" }],
  ];
}

function volume({ cell: [a, b, c] }) {
  return Math.abs(a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0]));
}

export function sideBySide(left, right, said) {
  const head = element("tr");
  head.append(element("th", "property", { scope: "col" }));
  for (const { title, note } of [left, right]) {
    const cell = element("th", "", { scope: "col", class: "number" });
    cell.append(formula(title), element("span", note, { class: "note" }));
    head.append(cell);
  }
  head.append(element("th", "difference", { scope: "col", class: "number" }));
  $("pair").tHead.replaceChildren(head);
  const has = (side, property) => (side.values.get(property)?.value ?? null) !== null;
  const both = [...left.values.keys()].filter((property) => has(left, property) && has(right, property));
  $("pair").tBodies[0].replaceChildren(...both.map((property) => line(property, left.values.get(property), right.values.get(property))));
  $("pair-said").textContent = said;
}

function line(property, left, right) {
  const row = element("tr");
  const name = element("th", named(property), { scope: "row" });
  if (left.unit) name.append(element("span", ` ${unitText(left.unit)}`, { class: "unit" }));
  row.append(name);
  const decimals = [];
  for (const side of [left, right]) {
    const [value, interval] = within({ lower: null, ...side });
    if (value !== "0") decimals.push((value.split(".")[1] ?? "").length);
    const cell = element("td", value, { class: "number" });
    if (interval) cell.append(element("span", interval, { class: "note" }));
    row.append(cell);
  }
  const apart = left.isName ? (left.value === right.value ? "same" : "other") : fixed(right.value - left.value, Math.min(4, ...decimals));
  row.append(element("td", apart, { class: "number" }));
  return row;
}
