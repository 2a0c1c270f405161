// Atoms coloured by a number: what a file states of them, site potentials, shares of a prediction.
import { $, digits, element, unitText } from "/static/dom.js";
import { asText, ask } from "/static/api.js";
import { gradient, scaleOf } from "/static/colours.js";
import { elementColour } from "/static/viewer.js";

const POTENTIALS = { coulomb: "Coulomb", london: "London", pauli: "Pauli" };
const ROWS = 200; // of the table of values

// The numbers that can be chosen for a crystal, by what stands in the list.
export function choices(crystal, explained) {
  const option = (name, value) => element("option", name, { value });
  const group = (label, options) => {
    const made = element("optgroup", "", { label });
    made.append(...options);
    return made;
  };
  const found = [option("element", "")];
  if (crystal.atom_values.length) found.push(group("stated in the file", crystal.atom_values.map(({ name }, k) => option(name, `file:${k}`))));
  found.push(group("potential at the atom", Object.entries(POTENTIALS).map(([key, name]) => option(name, `sum:${key}`))));
  if (explained) found.push(group("reasons", [option("share of the prediction", "share")]));
  $("colour").replaceChildren(...found);
}

// What is known of the atoms under a choice: a name, a unit, values; asks for what is not there yet.
export async function numbers(crystal, choice, shares) {
  const [kind, key] = choice.split(":");
  if (kind === "file") return { ...crystal.atom_values[Number(key)], unit: "" };
  if (kind === "share") return shares();
  const found = await potentials(crystal);
  const at = found.potentials.indexOf(key);
  return { name: `${POTENTIALS[key]} potential of all other atoms, each counted as one`, unit: unitText(found.units[at]), values: found.values.map((row) => row[at]) };
}

const sums = new WeakMap();
function potentials(crystal) {
  if (!sums.has(crystal)) {
    const asked = ask("/sums", { ...asText(crystal), potentials: Object.keys(POTENTIALS), per: "atom" });
    asked.catch(() => sums.delete(crystal));
    sums.set(crystal, asked);
  }
  return sums.get(crystal);
}

// Below the picture: what colours mean, and all values in words.
export function legend(crystal, shown) {
  $("values").hidden = !shown;
  if (!shown) {
    const symbols = [...new Set(crystal.symbols)];
    $("legend").replaceChildren(...symbols.flatMap((symbol) => {
      const dot = element("i", "", { class: "swatch ball", "aria-hidden": "true" });
      dot.style.background = elementColour(symbol);
      return [dot, element("span", symbol)];
    }));
    return null;
  }
  const { stops, least, greatest, shade } = scaleOf(shown.values);
  const bar = element("div", "", { class: "ramp", "aria-hidden": "true" });
  bar.style.background = gradient(stops);
  const ends = element("p", "", { class: "ends" });
  const unit = shown.unit ? ` ${shown.unit}` : "";
  ends.append(element("span", `${digits(least, 3)}${unit}`), element("span", shown.name), element("span", `${digits(greatest, 3)}${unit}`));
  const scale = element("div", "", { class: "scale" });
  scale.append(bar, ends);
  $("legend").replaceChildren(scale);
  table(crystal, shown);
  return { colours: shown.values.map(shade), values: shown.values, unit: shown.unit };
}

// Atoms of one element and one value are one row.
function table(crystal, { values, unit }) {
  const groups = new Map();
  values.forEach((value, k) => {
    const key = `${crystal.symbols[k]} ${digits(value, 5)}`;
    groups.set(key, [...(groups.get(key) ?? []), k]);
  });
  const head = element("tr");
  for (const [name, kind] of [["element", ""], ["atoms", ""], [unit ? `value, ${unit}` : "value", "number"]]) head.append(element("th", name, { scope: "col", class: kind }));
  $("value-list").tHead.replaceChildren(head);
  $("value-list").tBodies[0].replaceChildren(...[...groups.values()].slice(0, ROWS).map((atoms) => {
    const row = element("tr");
    const names = atoms.slice(0, 6).map((k) => k + 1).join(", ") + (atoms.length > 6 ? ` and ${atoms.length - 6} more` : "");
    row.append(element("th", crystal.symbols[atoms[0]], { scope: "row" }), element("td", names), element("td", digits(values[atoms[0]], 5), { class: "number" }));
    return row;
  }));
}
