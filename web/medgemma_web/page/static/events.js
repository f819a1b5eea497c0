// Where a job stands, as it changes: by server-sent events, and by asking where these do not come.
// EventSource cannot send a key, so the stream is read here.

import * as api from "./api.js";
import { sleep } from "./dom.js";

const QUIET = 20_000; // milliseconds without a byte: a proxy may be holding the stream back
const FIRST_PAUSE = 500;
const LAST_PAUSE = 5_000;
const STREAMS_TRIED = 2; // that brought nothing, before the job is only asked about

export const ended = (status) => ["succeeded", "failed", "cancelled"].includes(status.state);

/** Each status of a job until it has ended; null while the gateway does not answer. */
export async function* watch(id, signal) {
  const hopeless = (error) =>
    signal.aborted || (error instanceof api.Problem && !error.away && error.status !== 429);
  let pause = FIRST_PAUSE;
  let fruitless = 0;
  for (;;) {
    if (fruitless < STREAMS_TRIED) {
      fruitless += 1;
      try {
        for await (const status of stream(id, signal)) {
          fruitless = 0;
          pause = FIRST_PAUSE;
          yield status;
          if (ended(status)) return;
        }
      } catch (error) {
        if (hopeless(error)) throw error;
      }
    }
    try {
      const status = await api.status(id, signal);
      yield status;
      if (ended(status)) return;
    } catch (error) {
      if (hopeless(error)) throw error;
      yield null;
      fruitless = 0; // what comes back may be another gateway
    }
    await sleep(pause, signal);
    pause = Math.min(pause * 1.5, LAST_PAUSE);
  }
}

async function* stream(id, signal) {
  const ours = new AbortController();
  const stop = () => ours.abort(signal.reason);
  signal.addEventListener("abort", stop);
  let timer = setTimeout(() => ours.abort(), QUIET);
  try {
    const answer = await api.events(id, ours.signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => ours.abort(), QUIET);
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const found = parse(block);
        if (found !== null) yield found;
      }
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
    ours.abort();
  }
}

/** The status in one event; null for a comment, which keeps the line open, and for other events. */
function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  }
  return name === "status" && data.length ? JSON.parse(data.join("\n")) : null;
}
