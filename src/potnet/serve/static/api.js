// What the page asks of its server.
let token = sessionStorage.getItem("token") ?? "";

export async function ask(path, body, { stream = false, signal } = {}) {
  const headers = { accept: stream ? "application/x-ndjson" : "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const options = { headers, signal };
  if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  if (body) headers["content-type"] = "application/json";
  const answer = await fetch(path, options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server does not answer. Start potnet serve again.");
  });
  if (answer.status === 401) {
    token = prompt("Token of this server") ?? "";
    sessionStorage.setItem("token", token);
    if (token) return ask(path, body, { stream, signal });
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({})); // a proxy may answer in its own words
    throw new Error(problem.detail ?? `The server answered ${answer.status} ${answer.statusText}.`);
  }
  return stream ? answer : answer.json();
}

// The records of a stream, as they come.
export async function* records(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error("The server went away before it was done.");
    });
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const record = JSON.parse(line);
      if (record.detail) throw new Error(record.detail);
      yield record;
    }
    if (done) return;
  }
}

// A crystal that the server sent, as it takes it back.
export function asText({ id, numbers, positions, cell, pbc }) {
  return { name: "structure.json", content: JSON.stringify({ id, numbers, positions, cell, pbc }) };
}
