// The table of many structures: sorted, filtered, downloaded.
import { $, digits, download, element, fixed, formula, pickable } from "/static/dom.js";

const MOST = 500; // rows that are drawn
const order = { key: "id", down: false };
const value = (crystal, property) => crystal.rows.find((row) => row.property === property)?.value;
const number = (property, unit, decimals) => [property.replaceAll("_", " "), (c) => value(c, property), unit, decimals];
const COLUMNS = [
  ["id", (c) => c.id],
  ["formula", (c) => c.formula],
  ["space group", (c) => c.space_group],
  ["atoms", (c) => c.n_atoms, ""],
  number("formation_energy", "eV/atom", 3),
  number("energy_above_hull", "eV/atom", 3),
  number("band_gap", "eV", 2),
  number("bulk_modulus", "GPa", 0),
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
  for (const [name, read, unit, decimals] of COLUMNS) {
    const cell = element("td", "", unit === undefined ? {} : { class: "number" });
    cell.append(name === "formula" ? formula(crystal.formula) : decimals === undefined ? digits(read(crystal)) : fixed(read(crystal), decimals));
    row.append(cell);
  }
  pickable(row, () => choose(crystal));
  return row;
}


// A number with seven digits, as potnet predict writes it (C's %.7g).
function general(x) {
  const [mantissa, exponent] = x.toExponential(6).split("e").map(Number);
  if (x === 0 || (exponent >= -4 && exponent < 7)) return String(Number(x.toPrecision(7)));
  return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

// A cell that no spreadsheet takes for a formula.
function cell(found) {
  let text = found === null || found === undefined ? "" : typeof found === "number" ? general(found) : String(found);
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
  $("json").addEventListener("click", () => {
    const rows = crystals().flatMap((crystal) => crystal.rows);
    download("potnet.json", "application/json", `[\n${rows.map((row) => JSON.stringify(row)).join(",\n")}\n]\n`);
  });
}
