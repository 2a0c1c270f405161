// The sheet: a row for each property, its interval beside what known materials have.
import { $, digits, drawing, element, header, named, unitText, within } from "/static/dom.js";

const SIZE = { width: 220, height: 46, base: 32, pad: 6 };

export function sheet(crystal, distributions) {
  header($("sheet"), [["property"], ["value, 90\u202f% interval", "number"], ["beside known materials"]]);
  const told = new Set(); // a doubt is said in full where it comes first
  $("sheet").tBodies[0].replaceChildren(...crystal.rows.map((row) => line(row, distributions[row.property], told)));
}

function doubts(flags, told) {
  const shown = flags.split("; ").map((flag) => (told.has(flag) && flag.includes(":") ? `${flag.split(":")[0]}, as above` : flag));
  for (const flag of flags.split("; ")) told.add(flag);
  return shown.join("; ");
}

function line(row, distribution, told) {
  const made = element("tr");
  const name = element("th", named(row.property), { scope: "row" });
  if (row.flags) name.append(element("span", doubts(row.flags, told), { class: "doubt" }));
  const note = remark(row);
  if (note) name.append(element("span", note, { class: "note" }));
  const [shown, interval] = within(row);
  const value = element("td", row.value === null ? "–" : shown, { class: "number" });
  if (row.unit && row.value !== null) value.append(element("span", ` ${unitText(row.unit)}`, { class: "unit" }));
  if (interval) value.append(element("span", interval, { class: "note" }));
  const bar = element("td", "", { class: "beside" });
  if (row.value !== null && (row.lower !== null || distribution || isChance(row))) bar.append(beside(row, distribution));
  made.append(name, value, bar);
  return made;
}

function beside(row, distribution) {
  const { width, height, base, pad } = SIZE;
  const values = [row.value, row.lower, row.upper, row.reference].filter((v) => v !== null && v !== undefined);
  const ends = SEEN[row.property] ?? (distribution ? [distribution.edges[0], distribution.edges.at(-1)] : [0]);
  const [low, high] = [Math.min(...ends, ...values), Math.max(...ends, ...values)];
  const x = (v) => pad + ((width - 2 * pad) * (v - low)) / (high - low || 1);
  const { svg, part } = drawing(width, height, { class: "distribution", role: "img" });
  svg.setAttribute("aria-label", said(row, distribution));
  part("title", {}, said(row, distribution));
  if (distribution) part("path", { class: "shape", d: outline(distribution, x, base, low, high) });
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
const SEEN = { energy_above_hull: [-0.1, 0.3], has_band_gap: [0, 1] };
const isChance = (row) => row.property.startsWith("has_");

// What stands below the name; where the hull is from is said beside it.
function remark(row) {
  const parts = row.note.split("; ").filter(Boolean);
  const kept = row.property === "energy_above_hull" ? parts.filter((part) => !/^(hull of|not comparable)/.test(part)) : parts;
  if (isChance(row)) kept.push("probability");
  return kept.join("; ");
}

// Square roots of the counts: the few at the ends are seen too. What is out of sight is not drawn.
function outline({ edges, counts }, x, base, low, high) {
  const most = Math.sqrt(Math.max(...counts));
  const seen = counts.map((n, k) => [n, edges[k], edges[k + 1]]).filter(([, left, right]) => left >= low - 1e-9 && right <= high + 1e-9);
  if (!seen.length) return "";
  const points = seen.map(([n, left, right]) => `L${x(left).toFixed(1)} ${height(n)}L${x(right).toFixed(1)} ${height(n)}`);
  function height(n) {
    return (base - ((base - 4) * Math.sqrt(n)) / most).toFixed(1);
  }
  return `M${x(seen[0][1])} ${base}${points.join("")}L${x(seen.at(-1)[2])} ${base}z`;
}

function said(row, distribution) {
  const unit = row.unit ? ` ${unitText(row.unit)}` : "";
  const [value, interval] = within(row);
  const parts = [`${named(row.property)} ${value}${unit}`];
  if (interval) parts.push(`90\u202f% interval ${interval}${unit}`);
  if (row.reference !== null) parts.push(`known ${digits(row.reference)}${unit}`);
  if (distribution) parts.push(`${Math.round(100 * rank(row.value, distribution))} % of ${distribution.n.toLocaleString("en")} known materials have less (${distribution.source})`);
  return parts.join(", ");
}

function rank(value, { edges, counts, zeros, n }) {
  const below = counts.reduce((sum, count, k) => sum + (edges[k + 1] <= value ? count : 0), value > 0 ? zeros : 0);
  return below / n;
}
