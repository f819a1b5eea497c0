// The cards of recent jobs. Questions, pictures and answers are fetched each time, and kept nowhere.

import * as api from "./api.js";
import { $, el, focusTitle, say } from "./dom.js";
import { forget, forgetAll, remembered } from "./remembered.js";

let drawn = new AbortController();

export function startRecent() {
  $("forget-all").addEventListener("click", () => {
    forgetAll();
    say("All forgotten");
    showRecent();
    focusTitle("ask");
  });
}

export function showRecent() {
  drawn.abort();
  drawn = new AbortController();
  const jobs = remembered();
  $("recent").hidden = !jobs.length;
  const cards = jobs.map(card);
  $("jobs").replaceChildren(...cards.map(({ item }) => item));
  fill(cards, drawn.signal);
}

function card({ id, at }) {
  const picture = el("span", { className: "thumb" });
  const question = el("span", { className: "question", dir: "auto" });
  const text = el("span", { className: "answer", dir: "auto" }, "…");
  const when = new Date(at);
  const time = el("time", { dateTime: when.toISOString() }, when.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }));
  const link = el("a", { href: `#job=${id}`, className: "card" }, picture, el("span", { className: "said" }, question, text), time);
  const remove = () => {
    forget(id);
    say("Forgotten");
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    $("recent").hidden = next === null;
    if (next) next.querySelector("button").focus();
    else focusTitle("ask");
  };
  const button = el("button", { type: "button", className: "remove", title: "Forget", "aria-label": `Forget the question of ${time.textContent}`, onclick: remove }, "×");
  const item = el("li", {}, link, button);
  return { id, item, picture, question, text };
}

/** A few at a time: a gateway counts what a key asks for. */
async function fill(cards, signal) {
  const left = [...cards];
  const work = async () => {
    for (let next = left.shift(); next && !signal.aborted; next = left.shift()) await fillOne(next, signal);
  };
  await Promise.all([work(), work(), work()]);
}

async function fillOne({ id, picture, question, text }, signal) {
  try {
    const status = await api.status(id, signal);
    question.textContent = await api.question(id, signal);
    if (status.state !== "succeeded") {
      text.textContent = { submitted: "Waiting", running: "Under way", failed: "Failed", cancelled: "Cancelled" }[status.state];
      text.classList.add("dim");
      picture.hidden = ["failed", "cancelled"].includes(status.state);
      return;
    }
    const result = await api.result(id, signal);
    text.textContent = result.answer || "The answer is empty";
    const name = Object.keys(result.artifacts ?? {}).find((one) => one.startsWith("overlay-"));
    if (!name) return;
    const address = URL.createObjectURL(await api.artifact(id, name, signal));
    const image = el("img", { src: address, alt: "" });
    image.onload = image.onerror = () => URL.revokeObjectURL(address);
    picture.replaceChildren(image);
  } catch (error) {
    if (signal.aborted) return;
    text.textContent = error.status === 404 ? "Not there any more, or of another key" : "Cannot be fetched now";
    text.classList.add("dim");
    picture.hidden = error.status === 404;
  }
}
