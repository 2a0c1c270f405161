// A potential on a plane: colours for values, circles where the plane cuts atoms.
import { $, digits, drawing, element, unitText } from "/static/dom.js";
import { RISING, SIGNED, colour, gradient } from "/static/colours.js";

const CORE = 0.4; // Å, the sphere around an atom that is not evaluated

export function landscape(found) {
  const values = found.values.flat().filter((v) => v !== null).sort((a, b) => a - b);
  const high = values[Math.floor(0.985 * (values.length - 1))];
  const isSigned = found.potential === "coulomb" || values[0] <= 0;
  const most = isSigned ? Math.max(Math.abs(values[Math.floor(0.015 * values.length)]), Math.abs(high)) || 1 : high;
  const least = isSigned ? -most : Math.max(values[0], high * 1e-6);
  const place = isSigned ? (v) => (v - least) / (most - least) : (v) => Math.log(v / least) / Math.log(most / least || 2);
  const stops = isSigned ? SIGNED : RISING;
  const plate = element("div", "", { class: "plate" });
  plate.append(painted(found, (v) => colour(stops, place(v))), cuts(found));
  $("map").replaceChildren(plate, ...ramp(stops, least, most, found.unit));
  const bound = found.error_bound.toExponential(0).replace("-", "−");
  $("map-said").textContent = `Plane ${found.plane}, ${digits(found.width, 3)} Å wide; errors below ${bound} ${unitText(found.unit)}. Open circles: atoms off the plane.`;
}

function painted({ values, plane }, shade) {
  const n = values.length;
  const canvas = element("canvas", "", { width: n, height: n, role: "img", "aria-label": `The potential on plane ${plane}` });
  const context = canvas.getContext("2d");
  const image = context.createImageData(n, n);
  values.forEach((row, y) => row.forEach((value, x) => {
    const rgb = value === null ? [222, 226, 231] : shade(value);
    image.data.set([...rgb, 255], 4 * ((n - 1 - y) * n + x)); // rows come from below
  }));
  context.putImageData(image, 0, 0);
  return canvas;
}

function cuts({ atoms, width }) {
  const { svg, part } = drawing(400, 400, { "aria-hidden": "true" });
  const scale = 400 / width;
  for (const { symbol, x, y, height } of atoms) {
    const [cx, cy] = [200 + x * scale, 200 - y * scale];
    if (Math.abs(height) > 0.9 * CORE) {
      part("circle", { cx, cy, r: 0.5 * CORE * scale, fill: "none", stroke: "#10161d", opacity: 0.6 });
      continue;
    }
    part("circle", { cx, cy, r: Math.sqrt(CORE ** 2 - height ** 2) * scale, fill: "#f4f6f8", stroke: "#10161d" });
    part("text", { x: cx, y: cy + 4, "text-anchor": "middle" }, symbol);
  }
  return svg;
}

function ramp(stops, least, most, unit) {
  const bar = element("div", "", { class: "ramp", "aria-hidden": "true" });
  bar.style.background = gradient(stops);
  const ends = element("p", "", { class: "ends soft" });
  ends.append(element("span", `${digits(least, 2)} ${unitText(unit)}`), element("span", `${digits(most, 2)} ${unitText(unit)}`));
  return [bar, ends];
}
