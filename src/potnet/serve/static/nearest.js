// The known materials that are nearest, and two materials side by side.
import { $, digits, element, formula, header, named, pickable } from "/static/dom.js";

const VALUES = { formation_energy: "eV/atom", band_gap: "eV", bulk_modulus: "GPa", shear_modulus: "GPa" };

export function nearest(found, crystal, choose) {
  const same = found.crystals.filter((known) => known.is_same).length;
  const count = same === 1 ? "One is this very crystal." : same ? `${same} are this very crystal.` : "None is this very crystal.";
  $("nearest-said").textContent = `By structure and chemistry. ${count}`;
  header($("near"), [["material"], ["group", "number"], ["distance", "number"], ["eV/atom", "number"], ["gap", "number"]]);
  $("near").tBodies[0].replaceChildren(...found.crystals.map((known) => {
    const row = element("tr");
    const name = element("td");
    name.append(formula(known.formula), element("span", known.id, { class: "note" }));
    const numbers = [known.space_group, known.distance, known.formation_energy, known.band_gap];
    row.append(name, ...numbers.map((value, k) => element("td", k === 1 && known.is_same ? "same" : digits(value, 3), { class: "number" })));
    pickable(row, () => {
      for (const other of $("near").tBodies[0].rows) other.setAttribute("aria-selected", String(other === row));
      choose(knownColumn(known));
    });
    return row;
  }));
}

export function knownColumn(known) {
  const values = Object.entries(VALUES).map(([property, unit]) => [property, { value: known[property], unit }]);
  return { title: known.formula, note: `${known.id}, as known`, values: new Map(values) };
}

export function predictedColumn(crystal) {
  const values = crystal.rows.map((row) => [row.property, row]);
  return { title: crystal.formula, note: `${crystal.id}, as predicted`, values: new Map(values) };
}

export function sideBySide(left, right) {
  const head = element("tr");
  head.append(element("th", "", { scope: "col" }));
  for (const { title, note } of [left, right]) {
    const cell = element("th", "", { scope: "col", class: "number" });
    cell.append(formula(title), element("span", note, { class: "note" }));
    head.append(cell);
  }
  head.append(element("th", "difference", { scope: "col", class: "number" }));
  $("pair").tHead.replaceChildren(head);
  const both = [...left.values.keys()].filter((property) => (right.values.get(property)?.value ?? null) !== null && left.values.get(property).value !== null);
  $("pair").tBodies[0].replaceChildren(...both.map((property) => line(property, left.values.get(property), right.values.get(property))));
  $("pair-said").textContent = both.length ? "" : "They have no property in common.";
}

function line(property, left, right) {
  const row = element("tr");
  const name = element("th", named(property), { scope: "row" });
  if (left.unit) name.append(element("span", ` ${left.unit}`, { class: "unit" }));
  row.append(name);
  for (const side of [left, right]) {
    const cell = element("td", digits(side.value), { class: "number" });
    if ((side.lower ?? null) !== null) cell.append(element("span", `${digits(side.lower, 3)} to ${digits(side.upper, 3)}`, { class: "note" }));
    row.append(cell);
  }
  row.append(element("td", digits(right.value - left.value, 3), { class: "number" }));
  return row;
}
