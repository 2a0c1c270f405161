// The page: sends texts to /predict, shows crystals and sheets. Text from files is only ever put
// into text nodes.
import { draw, savePicture } from "/static/viewer.js";

const $ = (id) => document.getElementById(id);
const state = { crystals: [], shown: null, order: { key: "id", down: false } };
let token = sessionStorage.getItem("token") ?? "";

async function ask(path, body) {
  const headers = { "content-type": "application/json", accept: body?.stream ? "application/x-ndjson" : "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const options = body ? { method: "POST", headers, body: JSON.stringify({ structures: body.structures }) } : { headers };
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    token = prompt("Token of this server") ?? "";
    sessionStorage.setItem("token", token);
    if (token) return ask(path, body);
  }
  if (!answer.ok) throw new Error((await answer.json()).detail ?? answer.statusText);
  return answer;
}

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

async function predict(structures) {
  $("go").disabled = true;
  $("failures").replaceChildren();
  $("said").textContent = "Reading and predicting ...";
  const found = [];
  let refused = 0;
  try {
    const answer = await ask("/predict", { structures, stream: true });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      rest += value ?? "";
      const lines = rest.split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const record = JSON.parse(line);
        if (record.detail) throw new Error(record.detail);
        if (record.reason) {
          refused += 1;
          $("failures").append(element("li", record.reason));
        } else {
          found.push(record);
          state.crystals = found;
          list();
          if (found.length === 1) show(record);
        }
        $("said").textContent = `${found.length} predicted, ${refused} refused`;
      }
      if (done) break;
    }
  } catch (error) {
    $("said").textContent = error.message;
  }
  $("go").disabled = false;
}

const value = (crystal, property) => crystal.rows.find((row) => row.property === property)?.value;
const COLUMNS = [
  ["id", (c) => c.id],
  ["formula", (c) => c.formula],
  ["above hull", (c) => value(c, "energy_above_hull")],
  ["gap", (c) => value(c, "band_gap")],
];
const digits = (x) => (x === null || x === undefined ? "" : typeof x === "number" ? Number(x.toPrecision(4)).toString() : x);

function list() {
  $("results").hidden = state.crystals.length < 2;
  const [, key] = COLUMNS.find(([name]) => name === state.order.key);
  const wanted = $("filter").value.toLowerCase();
  const rows = state.crystals
    .filter((c) => `${c.id} ${c.formula}`.toLowerCase().includes(wanted))
    .sort((a, b) => (key(a) ?? Infinity) > (key(b) ?? Infinity) ? 1 : -1);
  if (state.order.down) rows.reverse();
  const head = element("tr");
  for (const [name] of COLUMNS) {
    const cell = element("th", "", { scope: "col", "aria-sort": name !== state.order.key ? "none" : state.order.down ? "descending" : "ascending" });
    const button = element("button", name, { type: "button" });
    button.addEventListener("click", () => {
      state.order = { key: name, down: state.order.key === name && !state.order.down };
      list();
    });
    cell.append(button);
    head.append(cell);
  }
  document.querySelector("#list thead").replaceChildren(head);
  document.querySelector("#list tbody").replaceChildren(...rows.slice(0, 500).map((crystal) => {
    const row = element("tr", "", { tabindex: "0", "aria-selected": String(crystal === state.shown) });
    for (const [, read] of COLUMNS) row.append(element("td", digits(read(crystal))));
    row.addEventListener("click", () => show(crystal));
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") show(crystal); });
    return row;
  }));
}

function show(crystal) {
  state.shown = crystal;
  $("crystal").hidden = false;
  $("title").textContent = `${crystal.formula}  ${crystal.id}`;
  $("facts").textContent = [crystal.space_group, `${crystal.n_atoms} atoms`, `${digits(crystal.density)} g/cm³`].filter(Boolean).join(" · ");
  draw($("viewer"), crystal, Number($("cells").value));
  const names = ["property", "value", "unit", "90 % interval", ""];
  const head = element("tr");
  names.forEach((name, k) => head.append(element("th", name, { scope: "col", class: k === 1 ? "number" : "" })));
  document.querySelector("#sheet thead").replaceChildren(head);
  document.querySelector("#sheet tbody").replaceChildren(...crystal.rows.map((row) => {
    const line = element("tr");
    const name = element("td", row.property.replaceAll("_", " "));
    if (row.flags) name.append(element("span", row.flags, { class: "doubt" }));
    if (row.note) name.append(element("span", row.note, { class: "note" }));
    const ends = row.lower === null ? "" : `${digits(row.lower)} to ${digits(row.upper)}`;
    const bar = element("td");
    if (row.lower !== null && row.value !== null) bar.append(interval(row));
    line.append(name, element("td", digits(row.value), { class: "number" }), element("td", row.unit), element("td", ends), bar);
    return line;
  }));
  if (!$("results").hidden) list();
}

// A bar of the interval on an axis that holds 0 and the interval.
function interval(row) {
  const low = Math.min(0, row.lower), high = Math.max(0, row.upper), span = high - low || 1;
  const x = (v) => 4 + (136 * (v - low)) / span;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const part = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, v] of Object.entries(attributes)) made.setAttribute(key, v);
    svg.append(made);
  };
  svg.setAttribute("class", "interval");
  svg.setAttribute("viewBox", "0 0 144 16");
  svg.setAttribute("aria-hidden", "true");
  part("line", { class: "axis", x1: x(0), x2: x(0), y1: 0, y2: 16 });
  part("line", { x1: x(row.lower), x2: x(row.upper), y1: 8, y2: 8 });
  part("circle", { cx: x(row.value), cy: 8, r: 4 });
  return svg;
}

function download(name, kind, text) {
  const link = element("a", "", { download: name, href: URL.createObjectURL(new Blob([text], { type: kind })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A cell that no spreadsheet takes for a formula.
function cell(found) {
  let text = found === null || found === undefined ? "" : String(found);
  if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

$("csv").addEventListener("click", () => {
  const rows = state.crystals.flatMap((crystal) => crystal.rows);
  const header = Object.keys(rows[0] ?? {});
  const lines = [header, ...rows.map((row) => header.map((name) => row[name]))];
  download("potnet.csv", "text/csv", lines.map((line) => line.map(cell).join(",")).join("\n") + "\n");
});
$("json").addEventListener("click", () => download("potnet.json", "application/json", JSON.stringify(state.crystals, null, 1)));
$("filter").addEventListener("input", list);
$("cells").addEventListener("change", () => state.shown && draw($("viewer"), state.shown, Number($("cells").value)));
$("picture").addEventListener("click", () => savePicture(download));
$("go").addEventListener("click", () => predict([{ name: "", content: $("text").value }]));
const read = async (files) => predict(await Promise.all([...files].map(async (file) => ({ name: file.name, content: await file.text() }))));
$("files").addEventListener("change", (event) => read(event.target.files));
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) read(event.dataTransfer.files);
  });
}
const examples = await (await ask("/examples")).json();
$("examples").append(...examples.map((example, k) => element("option", example.name, { value: String(k) })));
$("examples").addEventListener("change", (event) => {
  const example = examples[Number(event.target.value)];
  if (event.target.value === "") return;
  $("text").value = example.content;
  predict([example]);
});
document.body.dataset.ready = "yes";
