// The page: what was sent, what came back, and which crystal is looked at.
import { $, digits, element, formula, named } from "/static/dom.js";
import { asText, ask } from "/static/api.js";
import { choices, legend, numbers } from "/static/atoms.js";
import { knownColumn, predictedColumn, sideBySide } from "/static/compare.js";
import { listen, offerExamples, predict } from "/static/intake.js";
import { list, offerDownloads } from "/static/table.js";
import { sheet } from "/static/sheet.js";
import { hull } from "/static/hull.js";
import { nearest } from "/static/nearest.js";
import { landscape } from "/static/landscape.js";
import { EXPLAINED, atomShares, reasons } from "/static/reasons.js";
import { Viewer } from "/static/viewer.js";

const CHOOSE = "Choose another structure or a file here, or a known material in the list of the nearest.";
const SHARES = "What each channel of the network, each distance and each atom adds to a prediction.";
const state = { crystals: [], shown: null, shares: null, known: null, timer: null, isWarm: false, examples: [] };
const [viewer, second] = [new Viewer($("viewer")), new Viewer($("second"))];
const distributions = ask("/distributions").catch(() => ({}));

function begin() {
  state.crystals = [];
  table();
}

function add(crystal) {
  state.isWarm = true;
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
  const group = crystal.space_group ? `space group ${crystal.space_group}` : "no space group";
  $("facts").textContent = [group, `${crystal.n_atoms} ${crystal.n_atoms === 1 ? "atom" : "atoms"}`, `${digits(crystal.density)} g/cm³`].join(" · ");
  $("warnings").replaceChildren(...crystal.warnings.map((warning) => element("li", warning)));
  for (const id of ["map", "hull"]) $(id).replaceChildren();
  for (const id of ["near", "shares"]) {
    $(id).tHead.replaceChildren();
    $(id).tBodies[0].replaceChildren();
  }
  clearReasons(crystal);
  clearPair();
  colours();
  sheet(crystal, {});
  table();
  sheet(crystal, await distributions);
  await Promise.all([stability(crystal), near(crystal)]);
}

// Draws the crystal in the colours that are chosen, once their numbers are there.
async function colours() {
  const crystal = state.shown;
  const choice = $("colour").value;
  if (!choice) return draw(null);
  $("legend").textContent = "Computing ...";
  await told("legend", crystal, () => numbers(crystal, choice, shares), (found) => {
    if ($("colour").value === choice) draw(found);
  });
}

function draw(numbersOfAtoms) {
  const shades = legend(state.shown, numbersOfAtoms);
  viewer.draw(state.shown, { cells: Number($("cells").value), ...shades });
}

async function shares() {
  if (!state.shares) await explain(false);
  if (!state.shares) throw new Error("There are no shares of the atoms of this cell.");
  return state.shares;
}

// Asks, and says why where there is no answer; nothing of a crystal that is no longer shown.
async function told(place, crystal, asking, use) {
  try {
    const found = await asking();
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
  await told("stability-said", crystal, () => ask("/stability", asked), (found) => hull(found, row));
}

async function near(crystal) {
  $("nearest").hidden = !crystal.pbc.every(Boolean);
  if ($("nearest").hidden) return;
  await told("nearest-said", crystal, () => ask("/nearest", asText(crystal)), (found) => nearest(found, besideKnown));
}

function clearPair(chosen = null) {
  state.known = null;
  $("other").value = "";
  $("second").hidden = true;
  for (const row of $("near").tBodies[0].rows) row.setAttribute("aria-selected", String(row === chosen));
  for (const part of [$("pair").tHead, $("pair").tBodies[0]]) part.replaceChildren();
  $("pair-said").textContent = CHOOSE;
}

// The index of known materials has no positions: its structure is that of an example or a file.
async function besideKnown(known, row) {
  const crystal = state.shown;
  clearPair(row);
  state.known = known;
  const own = known.is_same ? crystal : state.crystals.find((one) => one.known.includes(known.id));
  const example = state.examples.find(({ name }) => name === known.example);
  const from = own ? `the structure is that of ${own.id}` : `the structure is that of the example ${known.example}`;
  const said = own || example ? `Values of ${known.id} are those of the Materials Project of 2018 and 2019; ${from}.` : `The index holds values, not positions. Choose a file of ${known.id} to see its structure here.`;
  sideBySide(predictedColumn(crystal), knownColumn(known), said);
  $("compare").scrollIntoView({ block: "nearest" });
  if (own) drawSecond(own);
  else if (example) await told("pair-said", crystal, () => ask("/check", { structures: [example] }), ({ crystals }) => drawSecond(crystals[0]));
}

function drawSecond(crystal) {
  $("second").hidden = false;
  second.draw(crystal);
}

function beside(other) {
  const known = state.known;
  drawSecond(other);
  if (known && other.known.includes(known.id)) {
    sideBySide(predictedColumn(state.shown), knownColumn(known), `${other.id} is ${known.id}: this is its structure.`);
    return;
  }
  clearPair();
  drawSecond(other);
  sideBySide(predictedColumn(state.shown), predictedColumn(other), known ? `${other.id} is not ${known.id}; what is predicted of it stands here.` : "");
}

function compare() {
  const other = state.crystals.find(({ id }) => id === $("other").value);
  state.known = null;
  if (other) beside(other);
  else clearPair();
  if (other) $("other").value = other.id;
}

async function fromFile(file) {
  if (!file) return;
  const crystal = state.shown;
  $("pair-said").textContent = "Reading ...";
  const asking = async () => ask("/predict", { structures: [{ name: file.name, content: await file.text() }] });
  await told("pair-said", crystal, asking, ({ crystals, failures }) => {
    if (crystals.length) beside(crystals[0]);
    else $("pair-said").textContent = failures[0]?.reason ?? "The file must hold a structure, got none.";
  });
}

function clearReasons(crystal) {
  state.shares = null;
  const names = crystal.rows.filter((row) => EXPLAINED.includes(row.property) && row.value !== null).map((row) => row.property);
  choices(crystal, names.length > 0);
  $("reasons").hidden = !names.length;
  $("explained").replaceChildren(...names.map((name) => element("option", named(name), { value: name })));
  $("reasons-said").textContent = SHARES;
}

async function explain(isShown = true) {
  const crystal = state.shown;
  $("reasons-said").textContent = "Explaining ...";
  $("explain").disabled = true;
  const asked = { ...asText(crystal), property: $("explained").value };
  await told("reasons-said", crystal, () => ask("/explain", asked), (found) => {
    reasons(found);
    state.shares = atomShares(found, crystal);
    if (isShown) $("colour").value = state.shares ? "share" : "";
    if (isShown) colours();
  });
  $("explain").disabled = false;
}

async function drawMap() {
  const plane = $("plane").value ? $("plane").value.split(" ").map(Number) : null;
  const crystal = state.shown;
  $("map-said").textContent = "Summing ...";
  $("draw").disabled = true;
  const asked = { ...asText(crystal), potential: $("potential").value, plane };
  await told("map-said", crystal, () => ask("/landscape", asked), landscape);
  $("draw").disabled = false;
}

// Says that models are read as long as they are; a page is there before them.
async function health() {
  const { version, is_warm: isWarm } = await ask("/health");
  state.isWarm ||= isWarm;
  $("about").textContent = `potnet ${version}. ${isWarm ? "" : "The models are being read. "}Drawn by 3Dmol.js (BSD-3).`;
  if (!isWarm) setTimeout(() => health().catch(() => {}), 1000);
}

const go = (structures) => predict(structures, { begin, add, isWarm: () => state.isWarm });
listen(go);
offerDownloads(() => state.crystals);
$("filter").addEventListener("input", table);
$("cells").addEventListener("change", colours);
$("picture").addEventListener("click", () => viewer.save());
$("colour").addEventListener("change", colours);
$("explain").addEventListener("click", () => explain());
$("explained").addEventListener("change", () => (state.shares = null));
$("draw").addEventListener("click", drawMap);
$("other").addEventListener("change", compare);
$("pair-file").addEventListener("change", (event) => {
  fromFile(event.target.files[0]);
  event.target.value = "";
});
try {
  state.examples = await offerExamples(go);
  await health();
} catch (error) {
  $("said").textContent = error.message;
}
document.body.dataset.ready = "yes";
