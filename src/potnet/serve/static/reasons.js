// Why a model predicts what it predicts: shares by channel and distance, and as colours on atoms.
import { $, digits, element, named, unitText } from "/static/dom.js";

export const EXPLAINED = ["formation_energy", "band_gap", "bulk_modulus", "shear_modulus", "highest_phonon_frequency"];

export function reasons(found) {
  const unit = found.unit || found.value_unit;
  $("reasons-said").textContent = `${digits(found.total)} ${unit} = ${digits(found.composition)} for the composition alone, and ${digits(found.surroundings)} for the surroundings of the atoms, which these shares add up to:`;
  const head = element("tr");
  for (const [k, name] of ["channel", ...found.distances, "sum"].entries()) head.append(element("th", name, { scope: "col", class: k ? "number" : "" }));
  $("shares").tHead.replaceChildren(head);
  const table = found.by_channel_and_distance;
  const most = Math.max(...table.flat().map(Math.abs)) || 1;
  const total = (rows, k) => rows.reduce((sum, row) => sum + row[k], 0);
  const lines = table.map((row, k) => line(found.channels[k], row, row.reduce((a, b) => a + b, 0), most, true));
  const sums = found.distances.map((_, k) => total(table, k));
  lines.push(line("sum", sums, sums.reduce((a, b) => a + b, 0), most, false));
  $("shares").tBodies[0].replaceChildren(...lines);
}

function line(name, shares, sum, most, isShaded) {
  const text = (share) => (Math.abs(share) < 5e-4 * most ? "0" : digits(share, 2)); // less is not worth a look
  const row = element("tr");
  row.append(element("th", named(name), { scope: "row" }));
  for (const share of shares) {
    const cell = element("td", text(share), { class: "number share" });
    if (isShaded) {
      cell.style.setProperty("--much", `${Math.round((45 * Math.abs(share)) / most)}%`);
      cell.classList.add(share < 0 ? "less" : "more");
    }
    row.append(cell);
  }
  row.append(element("td", text(sum), { class: "number" }));
  return row;
}

// One number for each atom that was drawn; none where another cell was explained.
export function atomShares(found, crystal) {
  if (found.atoms.length !== crystal.n_atoms) return null;
  return { name: `share of ${named(found.property)}`, unit: unitText(found.unit || found.value_unit), values: found.atoms.map((atom) => atom.share) };
}
