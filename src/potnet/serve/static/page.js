// The page: what was sent, what came back, and which crystal is looked at.
import { $, digits, element, formula } from "/static/dom.js";
import { asText, ask } from "/static/api.js";
import { listen, offerExamples, predict } from "/static/intake.js";
import { list, offerDownloads } from "/static/table.js";
import { sheet } from "/static/sheet.js";
import { hull } from "/static/hull.js";
import { nearest, predictedColumn, sideBySide } from "/static/nearest.js";
import { landscape } from "/static/landscape.js";
import { EXPLAINED, atomShares, reasons } from "/static/reasons.js";
import { Viewer, shades } from "/static/viewer.js";

const state = { crystals: [], shown: null, shares: null, timer: null };
const [viewer, second] = [new Viewer($("viewer")), new Viewer($("second"))];
const distributions = ask("/distributions").catch(() => ({}));

function begin() {
  state.crystals = [];
  table();
}

function add(crystal) {
  state.crystals.push(crystal);
  if (state.crystals.length === 1) show(crystal);
  state.timer ??= setTimeout(table, state.crystals.length < 50 ? 50 : 400);
}

function table() {
  clearTimeout(state.timer);
  state.timer = null;
  list(state.crystals, state.shown, show);
  const others = state.crystals.filter((crystal) => crystal !== state.shown).slice(0, 500);
  const chosen = $("other").value;
  $("other").replaceChildren(element("option", "another structure", { value: "" }));
  $("other").append(...others.map((crystal) => element("option", `${crystal.id} (${crystal.formula})`, { value: crystal.id })));
  $("other").value = others.some((crystal) => crystal.id === chosen) ? chosen : "";
}

async function show(crystal) {
  state.shown = crystal;
  $("crystal").hidden = false;
  $("title").replaceChildren(formula(crystal.formula), " ", element("span", crystal.id, { class: "soft" }));
  $("facts").textContent = [crystal.space_group || "no space group", `${crystal.n_atoms} atoms`, `${digits(crystal.density)} g/cm³`].join(" · ");
  $("warnings").replaceChildren(...crystal.warnings.map((warning) => element("li", warning)));
  for (const id of ["map", "hull"]) $(id).replaceChildren();
  for (const id of ["pair", "near", "shares"]) {
    $(id).tHead.replaceChildren();
    $(id).tBodies[0].replaceChildren();
  }
  clearReasons(crystal);
  $("other").value = "";
  $("second").hidden = true;
  $("pair-said").textContent = "Choose another structure here, or click a known material.";
  redraw();
  sheet(crystal, {});
  table();
  sheet(crystal, await distributions);
  await Promise.all([stability(crystal), near(crystal)]);
}

function redraw() {
  if (!state.shown) return;
  const shares = $("colour").value === "share" ? state.shares : null;
  viewer.draw(state.shown, Number($("cells").value), shares && shades(shares));
  const most = shares && Math.max(...shares.map(Math.abs));
  $("scale").hidden = !shares;
  $("scale").textContent = shares ? `Blue: up to −${digits(most, 2)}; brown: up to ${digits(most, 2)} of the prediction by one atom.` : "";
}

// Asks, and says why where there is no answer; nothing of a crystal that is no longer shown.
async function told(place, crystal, path, body, use) {
  try {
    const found = await ask(path, body);
    if (state.shown === crystal) use(found);
  } catch (error) {
    if (state.shown === crystal) $(place).textContent = error.message;
  }
}

async function stability(crystal) {
  const row = crystal.rows.find(({ property, value }) => property === "formation_energy" && value !== null);
  $("stability").hidden = !row;
  if (!row) return;
  const asked = { formula: crystal.formula, formation_energy: row.value, lower: row.lower, upper: row.upper };
  await told("stability-said", crystal, "/stability", asked, (found) => hull(found, row));
}

async function near(crystal) {
  $("nearest").hidden = !crystal.pbc.every(Boolean);
  if ($("nearest").hidden) return;
  await told("nearest-said", crystal, "/nearest", asText(crystal), (found) => nearest(found, crystal, (known) => {
    $("other").value = "";
    $("second").hidden = true;
    sideBySide(predictedColumn(crystal), known);
    $("compare").scrollIntoView({ block: "nearest" });
  }));
}

function compare() {
  const other = state.crystals.find(({ id }) => id === $("other").value);
  $("second").hidden = !other;
  if (!other) return;
  second.draw(other);
  sideBySide(predictedColumn(state.shown), predictedColumn(other));
}

function clearReasons(crystal) {
  state.shares = null;
  $("colour").value = "";
  $("colour").options[1].disabled = true;
  const names = crystal.rows.filter((row) => EXPLAINED.includes(row.property) && row.value !== null).map((row) => row.property);
  $("reasons").hidden = !names.length;
  $("explained").replaceChildren(...names.map((name) => element("option", name.replaceAll("_", " "), { value: name })));
  $("reasons-said").textContent = "What each channel of the network, distance and atom adds to a prediction.";
}

async function explain() {
  const crystal = state.shown;
  $("reasons-said").textContent = "Explaining ...";
  $("explain").disabled = true;
  await told("reasons-said", crystal, "/explain", { ...asText(crystal), property: $("explained").value }, (found) => {
    reasons(found);
    state.shares = atomShares(found, crystal);
    $("colour").options[1].disabled = !state.shares;
    $("colour").value = state.shares ? "share" : "";
    redraw();
  });
  $("explain").disabled = false;
}

async function drawMap() {
  const crystal = state.shown;
  const plane = $("plane").value ? $("plane").value.split(" ").map(Number) : null;
  $("map-said").textContent = "Summing ...";
  $("draw").disabled = true;
  await told("map-said", crystal, "/landscape", { ...asText(crystal), potential: $("potential").value, plane }, landscape);
  $("draw").disabled = false;
}

const go = (structures) => predict(structures, { begin, add });
listen(go);
offerDownloads(() => state.crystals);
$("filter").addEventListener("input", table);
$("cells").addEventListener("change", redraw);
$("picture").addEventListener("click", () => viewer.save());
$("colour").addEventListener("change", redraw);
$("explain").addEventListener("click", explain);
$("draw").addEventListener("click", drawMap);
$("other").addEventListener("change", compare);
await offerExamples(go);
const { version } = await ask("/health");
$("about").textContent = `potnet ${version}. Drawn by 3Dmol.js (BSD-3).`;
document.body.dataset.ready = "yes";
