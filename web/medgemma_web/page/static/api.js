// The gateway's HTTP API: each call with the key, each refusal as a Problem.

import { currentKey } from "./key.js";

/** What went wrong. `code` is stable; "away" is ours: nobody answered. */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail ?? body.title ?? "");
    this.status = status;
    this.code = body.code ?? (status ? `http_${status}` : "away");
    this.image = body.image ?? null; // which of the images it is about, from 0
    this.retryAfter = Number(body.retry_after) || null;
  }

  get away() {
    return this.code === "away" || [502, 503, 504].includes(this.status);
  }
}

const headers = () => ({ Authorization: `Bearer ${currentKey() ?? ""}` });

function spelled(status, text, after) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // Not ours: a proxy's page, maybe.
  }
  if (after && !body.retry_after) body.retry_after = after;
  return new Problem(status, body);
}

export async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem(0);
  }
  if (answer.ok) return answer;
  throw spelled(answer.status, await answer.text().catch(() => ""), answer.headers.get("Retry-After"));
}

const job = (id) => `v1/explanations/${id}`;
const json = async (path, options) => (await call(path, options)).json();

export const models = (signal) => json("v1/models", { signal });
export const status = (id, signal) => json(job(id), { signal });
/** The words of a question: of a study's prompt, which is mostly ours, what stands last. */
export const question = async (id, signal) =>
  (await json(`${job(id)}/question`, { signal })).prompt.findLast((part) => typeof part === "string") ?? "";
export const result = (id, signal) => json(`${job(id)}/result`, { signal });
export const cancel = (id) => json(job(id), { method: "DELETE" });
export const events = (id, signal) => call(`${job(id)}/events`, { signal });
export const report = async (id, signal) => (await call(`${job(id)}/report`, { signal })).text();
export const artifact = async (id, name, signal) =>
  (await call(`${job(id)}/artifacts/${encodeURIComponent(name)}`, { signal })).blob();

/** Send a question with its files. `sent` hears which part of it is on its way, 0 to 1: only
 * XMLHttpRequest tells of an upload. `once` names this asking, so that a second try is no second job. */
export function submit(question, files, once, { sent, signal }) {
  const form = new FormData();
  form.append("request", JSON.stringify(question));
  for (const { part, file } of files) form.append(part, file, file.name);
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", "v1/explanations");
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Idempotency-Key", once);
    request.upload.onprogress = (event) => event.lengthComputable && sent(event.loaded / event.total);
    request.onerror = () => fail(new Problem(0));
    request.onabort = () => fail(signal.reason);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) done(JSON.parse(request.responseText));
      else fail(spelled(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

/** A name that nobody else thinks of; crypto.randomUUID is there on https and localhost alone. */
export function newName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
