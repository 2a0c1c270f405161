// The table of many structures: sorted, filtered, downloaded.
import { $, digits, download, element, formula, pickable } from "/static/dom.js";

const MOST = 500; // rows that are drawn
const order = { key: "id", down: false };
const value = (crystal, property) => crystal.rows.find((row) => row.property === property)?.value;
const number = (property, unit) => [`${property.replaceAll("_", " ")}`, (c) => value(c, property), unit];
const COLUMNS = [
  ["id", (c) => c.id],
  ["formula", (c) => c.formula],
  ["space group", (c) => c.space_group],
  ["atoms", (c) => c.n_atoms, ""],
  number("formation_energy", "eV/atom"),
  number("energy_above_hull", "eV/atom"),
  number("band_gap", "eV"),
  number("bulk_modulus", "GPa"),
  ["doubts", (c) => new Set(c.rows.flatMap((row) => (row.flags ? row.flags.split("; ") : []))).size, ""],
];

export function list(crystals, chosen, choose) {
  $("batch").hidden = crystals.length < 2;
  if (crystals.length < 2) return;
  const wanted = $("filter").value.toLowerCase().split(/\s+/);
  const [, read] = COLUMNS.find(([name]) => name === order.key);
  const found = crystals
    .filter((c) => wanted.every((word) => `${c.id} ${c.formula} ${c.space_group}`.toLowerCase().includes(word)))
    .sort((a, b) => compared(read(a), read(b)) * (order.down ? -1 : 1));
  heads(() => list(crystals, chosen, choose));
  const rows = found.slice(0, MOST).map((crystal) => line(crystal, crystal === chosen, choose));
  $("list").tBodies[0].replaceChildren(...rows);
  const more = found.length > MOST ? `, the first ${MOST} shown` : "";
  $("shown").textContent = `${found.length} of ${crystals.length}${more}`;
}

function compared(a, b) {
  if ((a ?? null) === null || (b ?? null) === null) return ((a ?? null) === null) - ((b ?? null) === null);
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

function heads(again) {
  const head = element("tr");
  for (const [name, , unit] of COLUMNS) {
    const sort = name !== order.key ? "none" : order.down ? "descending" : "ascending";
    const cell = element("th", "", { scope: "col", "aria-sort": sort, class: unit === undefined ? "" : "number" });
    const button = element("button", name, { type: "button" });
    button.addEventListener("click", () => {
      Object.assign(order, { key: name, down: order.key === name && !order.down });
      again();
      $("list").tHead.querySelector(`th[aria-sort$="ending"] button`)?.focus();
    });
    cell.append(button);
    if (unit) cell.append(element("span", ` ${unit}`, { class: "note" }));
    head.append(cell);
  }
  $("list").tHead.replaceChildren(head);
}

function line(crystal, isChosen, choose) {
  const row = element("tr", "", { "aria-selected": String(isChosen) });
  for (const [name, read, unit] of COLUMNS) {
    const cell = element("td", "", unit === undefined ? {} : { class: "number" });
    cell.append(name === "formula" ? formula(crystal.formula) : digits(read(crystal)));
    row.append(cell);
  }
  pickable(row, () => choose(crystal));
  return row;
}


// A cell that no spreadsheet takes for a formula.
function cell(found) {
  let text = found === null || found === undefined ? "" : String(found);
  if (/^\s*[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function offerDownloads(crystals) {
  $("csv").addEventListener("click", () => {
    const rows = crystals().flatMap((crystal) => crystal.rows);
    const names = Object.keys(rows[0] ?? {});
    const lines = [names, ...rows.map((row) => names.map((name) => row[name]))];
    download("potnet.csv", "text/csv", lines.map((line) => line.map(cell).join(",")).join("\n") + "\n");
  });
  $("json").addEventListener("click", () => download("potnet.json", "application/json", JSON.stringify(crystals(), null, 1)));
}
