// From files and pasted text to sheets: in parts, so that the first comes soon and each is small.
import { $, element } from "/static/dom.js";
import { ask, records } from "/static/api.js";

const PART = { files: 100, characters: 8e6 };
const SHOWN = 200; // reasons
let running = null;

export async function predict(structures, { begin, add, isWarm }) {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  const counts = { predicted: 0, refused: 0, left: structures.length };
  begin();
  $("failures").replaceChildren();
  $("more").textContent = "";
  $("welcome").hidden = true;
  $("progress").removeAttribute("value");
  for (const id of ["progress", "cancel"]) $(id).hidden = false;
  $("said").textContent = isWarm() ? "Reading ..." : "The models are being read, once; the first answer takes some seconds ...";
  try {
    for (const part of parts(structures)) await one(part, counts, mine.signal, add);
    $("said").textContent = told(counts);
  } catch (error) {
    if (running === mine) $("said").textContent = mine.signal.aborted ? `Cancelled: ${told(counts)}` : `${error.message} ${told(counts)}.`;
  }
  if (running === mine) {
    running = null;
    for (const id of ["progress", "cancel"]) $(id).hidden = true;
  }
}

async function one(part, counts, signal, add) {
  const answer = await ask("/predict", { structures: part }, { stream: true, signal });
  counts.left += Number(answer.headers.get("structures")) - part.length;
  for await (const record of records(answer)) {
    if (signal.aborted) throw new Error("cancelled");
    if (record.reason) {
      counts.refused += 1;
      if (counts.refused <= SHOWN) $("failures").append(element("li", record.reason));
      else $("more").textContent = `and ${counts.refused - SHOWN} more`;
    } else {
      counts.predicted += 1;
      add(record);
    }
    const done = counts.predicted + counts.refused;
    $("progress").max = Math.max(counts.left, done);
    $("progress").value = done;
    $("said").textContent = `${done} of ${Math.max(counts.left, done)}`;
  }
}

function* parts(structures) {
  let part = [];
  let size = 0;
  for (const structure of structures) {
    if (part.length && (part.length >= PART.files || size + structure.content.length > PART.characters)) {
      yield part;
      [part, size] = [[], 0];
    }
    part.push(structure);
    size += structure.content.length;
  }
  if (part.length) yield part;
}

const told = ({ predicted, refused }) => `${predicted} predicted, ${refused} refused`;

export function listen(go) {
  const read = async (files) => {
    if (files.length) go(await Promise.all([...files].map(async (file) => ({ name: file.name, content: await file.text() }))));
  };
  $("go").addEventListener("click", () => go([{ name: "", content: $("text").value }]));
  $("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("go").click();
  });
  $("cancel").addEventListener("click", () => running?.abort());
  $("files").addEventListener("change", async (event) => {
    await read(event.target.files);
    event.target.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    $("drop").addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop") read(event.dataTransfer.files);
    });
  }
}

export async function offerExamples(go) {
  const examples = await ask("/examples");
  $("examples").append(...examples.map((example, k) => element("option", example.name, { value: String(k) })));
  $("examples").append(element("option", "all of them", { value: "all" }));
  $("examples").addEventListener("change", (event) => {
    const { value } = event.target;
    if (value === "") return;
    const chosen = value === "all" ? examples : [examples[Number(value)]];
    $("text").value = value === "all" ? "" : chosen[0].content;
    go(chosen);
  });
  return examples;
}
