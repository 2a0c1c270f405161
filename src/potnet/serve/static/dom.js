// Elements made of text. Text from files is only ever put into text nodes.
export const $ = (id) => document.getElementById(id);

export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export function drawing(width, height, attributes = {}) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, ...attributes })) svg.setAttribute(key, value);
  const part = (name, given, text = "") => {
    const made = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(given)) made.setAttribute(key, value);
    made.textContent = text;
    svg.append(made);
    return made;
  };
  const titled = (name, given, title) => {
    const label = document.createElementNS(svg.namespaceURI, "title");
    label.textContent = title;
    part(name, given).append(label);
  };
  return { svg, part, titled };
}

export function digits(x, n = 4) {
  if (x === null || x === undefined) return "";
  return typeof x === "number" ? Number(x.toPrecision(n)).toString().replace("-", "−") : String(x);
}

export const unitText = (unit) => unit.replace("^3", "³").replace("^2", "²").replace("^-6", "⁻⁶").replace(/^1\/(.+)/, "$1⁻¹");

const NAMES = { has_band_gap: "has a band gap", young_modulus: "Young’s modulus", poisson_ratio: "Poisson’s ratio", pugh_ratio: "Pugh’s ratio" };

export function named(property) {
  return NAMES[property] ?? property.replaceAll("_", " ");
}

// A number with so many decimals; a plain 0 where nothing else is left.
export function fixed(x, decimals) {
  if (x === null || x === undefined) return "–";
  return Math.abs(x) < 0.5 * 10 ** -decimals ? "0" : x.toFixed(decimals).replace("-", "−");
}

// A value and its interval to the digits that the interval leaves it: two of its half.
export function within({ value, lower, upper }) {
  if (value === null || lower === null || !(upper > lower)) return [digits(value), ""];
  const decimals = Math.min(Math.max(0, 1 - Math.floor(Math.log10((upper - lower) / 2))), 4);
  const [v, low, high] = [value, lower, upper].map((x) => fixed(x, decimals));
  return [v, `${low} to ${high}`];
}

// A formula with its numbers set low.
export function formula(text, name = "span") {
  const made = element(name);
  for (const piece of text.split(/(\d+(?:\.\d+)?)/)) made.append(/^\d/.test(piece) ? element("sub", piece) : piece);
  return made;
}

// The same where only text can stand.
export const lowered = (text) => text.replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);

export function header(table, names) {
  const head = element("tr");
  for (const [name, kind = ""] of names) head.append(element("th", name, { scope: "col", class: kind }));
  table.tHead.replaceChildren(head);
}

export function download(name, kind, data) {
  const link = element("a", "", { download: name, href: URL.createObjectURL(new Blob([data], { type: kind })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A row that is chosen by click or Enter, and walked by arrows.
export function pickable(row, choose) {
  row.classList.add("pick");
  row.tabIndex = 0;
  row.addEventListener("click", choose);
  row.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose();
    }
    const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (next && row[next]) {
      event.preventDefault();
      row[next].focus();
    }
  });
}
