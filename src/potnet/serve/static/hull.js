// The hull of two or three elements: what is stable, and where this crystal lies.
import { $, digits, drawing, element, formula, lowered, within } from "/static/dom.js";

export function hull(found, row) {
  const place = $("hull");
  place.replaceChildren();
  $("stability-said").replaceChildren(...sentence(found));
  $("stability-note").textContent = `${found.snapshot[0].toUpperCase()}${found.snapshot.slice(1)}.`;
  if (!found.diagram) return;
  const draw = found.diagram.elements.length === 2 ? binary : ternary;
  place.append(draw(found, row), legend(found));
}

function legend(found) {
  const made = element("p", "", { class: "legend soft", "aria-hidden": "true" });
  const marks = [["phase", "stable phase"], ["dot", "this crystal"]];
  marks.push(["part", isOwn(found) ? "stable phase of this composition" : "what it would decompose into"]);
  for (const [kind, name] of marks) {
    const { svg, part } = drawing(12, 12, { width: 12, height: 12 });
    part("circle", { cx: 6, cy: 6, r: 4.5, class: kind });
    const mark = element("span");
    mark.append(svg, name);
    made.append(mark);
  }
  return made;
}

const isOwn = ({ decomposition, formula: own }) => decomposition.length === 1 && decomposition[0].formula === own;

function sentence(found) {
  const { energy_above_hull: above, lower, upper } = found;
  const [, interval] = within({ value: above, lower, upper });
  const energy = within({ value: Math.abs(above), lower, upper })[0];
  const judged = !interval ? "" : ` The 90\u202f% interval, ${interval} eV/atom, ${lower > 0 ? "lies above the hull" : upper < 0 ? "lies below the hull" : "includes the hull"}.`;
  const where = `${energy} eV/atom ${above >= 0 ? "above" : "below"} the hull`;
  if (isOwn(found)) return [`${where}, where a stable phase of this composition is known.${judged}`];
  const parts = found.decomposition.flatMap(({ formula: text, share }, k) => [k ? " + " : "", `${digits(share, 3)} `, formula(text)]);
  return [`${where}, a mixture of `, ...parts, ` (shares of the atoms).${judged}`];
}

const isPart = (found, phase) => found.decomposition.some((part) => part.formula === phase.formula);

// Where the composition of this crystal lies: the mixture of what it decomposes into.
function shares(found) {
  const total = found.diagram.elements.map(() => 0);
  for (const part of found.decomposition) {
    const phase = found.diagram.phases.find((one) => one.formula === part.formula);
    phase.shares.forEach((share, k) => (total[k] += part.share * share));
  }
  return total;
}

function binary(found, row) {
  const [width, height, left, top, bottom] = [380, 230, 46, 14, 34];
  const { elements, phases, lines } = found.diagram;
  const energies = [...phases.map((p) => p.formation_energy), row.value, row.lower ?? row.value, row.upper ?? row.value];
  const [low, high] = [Math.min(...energies) * 1.08 - 0.02, Math.max(0, ...energies) + 0.05];
  const x = (share) => left + (width - left - 16) * share;
  const y = (energy) => top + ((height - top - bottom) * (high - energy)) / (high - low);
  const { svg, part, titled } = drawing(width, height, { role: "img", "aria-label": `Hull of ${elements.join(" and ")}` });
  part("line", { class: "axis", x1: x(0), x2: x(1), y1: y(0), y2: y(0) });
  for (const tick of ticks(low, high)) part("text", { x: left - 8, y: y(tick) + 3, "text-anchor": "end" }, digits(tick, 2));
  part("text", { x: 10, y: height / 2, transform: `rotate(-90 10 ${height / 2})`, "text-anchor": "middle" }, "eV/atom");
  for (const [a, b] of lines) {
    const [p, q] = [phases[a], phases[b]];
    part("line", { class: "tie", x1: x(p.shares[1]), y1: y(p.formation_energy), x2: x(q.shares[1]), y2: y(q.formation_energy) });
  }
  for (const phase of phases) {
    const at = { cx: x(phase.shares[1]), cy: y(phase.formation_energy), r: 4, class: isPart(found, phase) ? "part" : "phase" };
    titled("circle", at, `${lowered(phase.formula)}: ${digits(phase.formation_energy, 3)} eV/atom`);
  }
  phases.forEach((phase) => {
    const isEnd = phase.formation_energy === 0;
    const at = { x: x(phase.shares[1]), y: isEnd ? height - 16 : y(phase.formation_energy) + 17, "text-anchor": isEnd && phase.shares[1] === 1 ? "end" : isEnd ? "start" : "middle" };
    if (phases.length < 12 || isEnd || isPart(found, phase)) part("text", { ...at, class: isEnd ? "strong" : "halo" }, lowered(phase.formula));
  });
  crystalMark(part, titled, x(shares(found)[1]), row, y, found);
  return svg;
}

function crystalMark(part, titled, x, row, y, found) {
  if (row.lower !== null) part("line", { class: "bar", x1: x, x2: x, y1: y(row.lower), y2: y(row.upper), opacity: 0.35 });
  part("line", { class: "gap", x1: x, x2: x, y1: y(row.value), y2: y(found.hull_energy) });
  titled("circle", { class: "dot", cx: x, cy: y(row.value), r: 5.5 }, `this crystal: ${digits(row.value, 3)} eV/atom`);
}

function ticks(low, high) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5].find((size) => (high - low) / size <= 6) ?? 10;
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) found.push(Math.abs(tick) < 1e-9 ? 0 : tick);
  return found;
}

function ternary(found) {
  const [width, height] = [380, 320];
  const corners = [[40, 285], [340, 285], [190, 25]];
  const { elements, phases, lines } = found.diagram;
  const at = (parts) => [0, 1].map((k) => parts.reduce((sum, share, n) => sum + share * corners[n][k], 0));
  const { svg, part, titled } = drawing(width, height, { role: "img", "aria-label": `Hull of ${elements.join(", ")}` });
  const join = (a, b, kind) => part("line", { class: kind, x1: a[0], y1: a[1], x2: b[0], y2: b[1] });
  for (const [a, b] of lines) join(at(phases[a].shares), at(phases[b].shares), "tie");
  const own = at(shares(found));
  for (const phase of phases.filter((one) => isPart(found, one))) join(own, at(phase.shares), "gap");
  for (const phase of phases) {
    const [cx, cy] = at(phase.shares);
    titled("circle", { cx, cy, r: isPart(found, phase) ? 5 : 3.5, class: isPart(found, phase) ? "part" : "phase" }, `${lowered(phase.formula)}: ${digits(phase.formation_energy, 3)} eV/atom`);
    const isRight = cx >= own[0];
    const label = { x: cx + (isRight ? 10 : -10), y: cy + 4, "text-anchor": isRight ? "start" : "end", class: "halo" };
    if (isPart(found, phase) && phase.formation_energy !== 0) part("text", label, lowered(phase.formula));
  }
  elements.forEach((symbol, k) => part("text", { class: "strong", x: corners[k][0] + [-8, 8, 0][k], y: corners[k][1] + [16, 16, -10][k], "text-anchor": "middle" }, symbol));
  titled("circle", { class: "dot", cx: own[0], cy: own[1], r: 5.5 }, `this crystal: ${digits(found.energy_above_hull, 3)} eV/atom above the hull`);
  return svg;
}
