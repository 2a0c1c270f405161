// The known materials that are nearest.
import { $, element, fixed, formula, pickable } from "/static/dom.js";

const HEADS = [["material"], ["space group", ""], ["distance", ""], ["formation energy", "eV/atom"], ["band gap", "eV"]];

export function nearest(found, choose) {
  const same = found.crystals.filter((known) => known.is_same).length;
  const count = same === 1 ? "One is this very crystal." : same ? `${same} are this very crystal.` : "None is this very crystal.";
  $("nearest-said").textContent = `By structure and chemistry: at a distance of 0.1 it is hardly another material, at 1 a relative. ${count} Choose one to see it beside this crystal.`;
  const head = element("tr");
  for (const [name, unit] of HEADS) {
    const cell = element("th", name, { scope: "col", class: unit === undefined ? "" : "number" });
    if (unit) cell.append(element("span", unit, { class: "note" }));
    head.append(cell);
  }
  $("near").tHead.replaceChildren(head);
  $("near").tBodies[0].replaceChildren(...found.crystals.map((known) => {
    const row = element("tr");
    const name = element("td");
    name.append(formula(known.formula), element("span", known.id, { class: "note" }));
    const numbers = [known.space_group ?? "–", known.is_same ? "same" : fixed(known.distance, 2), fixed(known.formation_energy, 3), fixed(known.band_gap, 2)];
    row.append(name, ...numbers.map((text) => element("td", text, { class: "number" })));
    pickable(row, () => choose(known, row));
    return row;
  }));
}
