// The sheet: a row for each property, its interval beside what known materials have.
import { $, digits, drawing, element, header, named, unitText } from "/static/dom.js";

const SIZE = { width: 220, height: 46, base: 32, pad: 6 };

export function sheet(crystal, distributions) {
  header($("sheet"), [["property"], ["value, 90 % interval", "number"], ["beside known materials"]]);
  $("sheet").tBodies[0].replaceChildren(...crystal.rows.map((row) => line(row, distributions[row.property])));
}

function line(row, distribution) {
  const made = element("tr");
  const name = element("th", named(row.property), { scope: "row" });
  if (row.flags) name.append(element("span", row.flags, { class: "doubt" }));
  const note = remark(row);
  if (note) name.append(element("span", note, { class: "note" }));
  const value = element("td", row.value === null ? "–" : digits(row.value), { class: "number" });
  if (row.unit && row.value !== null) value.append(element("span", ` ${unitText(row.unit)}`, { class: "unit" }));
  if (row.lower !== null) value.append(element("span", `${digits(row.lower, 3)} to ${digits(row.upper, 3)}`, { class: "note" }));
  const bar = element("td", "", { class: "beside" });
  if (row.value !== null && (row.lower !== null || distribution || isChance(row))) bar.append(beside(row, distribution));
  made.append(name, value, bar);
  return made;
}

function beside(row, distribution) {
  const { width, height, base, pad } = SIZE;
  const values = [row.value, row.lower, row.upper, row.reference].filter((v) => v !== null && v !== undefined);
  const around = FIXED[row.property] ?? [Math.min(0, ...values), Math.max(0, ...values)];
  const edges = distribution?.edges ?? around;
  const low = Math.min(edges[0], ...values);
  const high = Math.max(edges.at(-1), ...values);
  const x = (v) => pad + ((width - 2 * pad) * (v - low)) / (high - low || 1);
  const { svg, part } = drawing(width, height, { class: "distribution", role: "img" });
  svg.setAttribute("aria-label", said(row, distribution));
  if (distribution) part("path", { class: "shape", d: outline(distribution, x, base) });
  part("line", { class: "axis", x1: pad, x2: width - pad, y1: base, y2: base });
  if (row.lower !== null) part("line", { class: "bar", x1: x(row.lower), x2: x(row.upper), y1: base, y2: base });
  if (row.reference !== null) {
    const at = x(row.reference);
    part("path", { class: "known", d: `M${at} ${base - 5}l5 5l-5 5l-5-5z` });
  }
  part("circle", { class: "dot", cx: x(row.value), cy: base, r: 4.5 });
  part("text", { x: pad, y: height - 1 }, digits(low, 2));
  part("text", { x: width - pad, y: height - 1, "text-anchor": "end" }, digits(high, 2));
  return svg;
}

// Ranges that mean something by themselves: far above the hull nothing can be made.
const FIXED = { energy_above_hull: [-0.1, 0.3], has_band_gap: [0, 1] };
const isChance = (row) => row.property.startsWith("has_");

// What stands below the name; where the hull is from is said beside it.
function remark(row) {
  const parts = row.note.split("; ");
  const kept = row.property === "energy_above_hull" ? parts.filter((part) => !/^(hull of|not comparable)/.test(part)) : parts;
  if (isChance(row)) kept.push("probability");
  return kept.join("; ");
}

// Square roots of the counts: the few at the ends are seen too.
function outline({ edges, counts }, x, base) {
  const most = Math.sqrt(Math.max(...counts));
  const points = counts.map((n, k) => `L${x(edges[k]).toFixed(1)} ${height(n)}L${x(edges[k + 1]).toFixed(1)} ${height(n)}`);
  function height(n) {
    return (base - ((base - 4) * Math.sqrt(n)) / most).toFixed(1);
  }
  return `M${x(edges[0])} ${base}${points.join("")}L${x(edges.at(-1))} ${base}z`;
}

function said(row, distribution) {
  const unit = row.unit ? ` ${row.unit}` : "";
  const parts = [`${named(row.property)} ${digits(row.value)}${unit}`];
  if (row.lower !== null) parts.push(`90 % interval ${digits(row.lower, 3)} to ${digits(row.upper, 3)}${unit}`);
  if (row.reference !== null) parts.push(`known ${digits(row.reference)}${unit}`);
  if (distribution) parts.push(`${Math.round(100 * rank(row.value, distribution))} % of known materials have less`);
  return parts.join(", ");
}

function rank(value, { edges, counts, zeros, n }) {
  const below = counts.reduce((sum, count, k) => sum + (edges[k + 1] <= value ? count : 0), value > 0 ? zeros : 0);
  return below / n;
}
