// The page: which part of it is shown, by key and by address.

import * as api from "./api.js";
import { refused, showModels, startAsk } from "./ask.js";
import { $, focusTitle, show } from "./dom.js";
import { leaveJob, showJob, showSending, startJob } from "./job.js";
import { currentKey, readAddress, useKey } from "./key.js";
import { showRecent, startRecent } from "./recent.js";
import { remember } from "./remembered.js";
import { problemBox } from "./words.js";

let sent = null; // the job whose question is still in view

/** Do something; a key that is not taken leads to the form for one. */
async function guarded(work) {
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof api.Problem)) throw error;
    if (error.status === 401) {
      useKey(null);
      askForKey(error);
    } else if (!$("ask").hidden) {
      refused(error);
    } else {
      askForKey(error);
    }
  }
}

function askForKey(problem = null) {
  leaveJob();
  show("key");
  $("forget-key").hidden = true;
  $("key-problem").replaceChildren(...(problem ? [problemBox(problem)] : []));
  $("key-value").select(); // a wrong one is written over
}

function route({ start = false } = {}) {
  const job = readAddress();
  if (currentKey() === null) return askForKey();
  $("forget-key").hidden = false;
  if (job !== null) return guarded(() => showJob(job, { known: job === sent, ...history.state }));
  const signal = leaveJob();
  show("ask");
  if (!start) focusTitle("ask");
  $("ask-problem").replaceChildren();
  showRecent();
  return guarded(() => showModels(signal));
}

async function ask(prompt, previews, send) {
  try {
    const job = await showSending(prompt, previews, send);
    if (job === null) {
      route();
      return;
    }
    sent = job.id;
    remember(job.id);
    const address = `#job=${job.id}`;
    const here = location.hash === address;
    if (!here) location.hash = address;
    // The gateway tells them once. So they outlive a reload, and end with the tab.
    history.replaceState({ notes: job.notes }, "");
    if (here) route(); // else hashchange does the rest
  } catch (error) {
    if (error.status === 401) throw error;
    leaveJob();
    show("ask");
    showRecent();
    throw error;
  }
}

startAsk((...question) => guarded(() => ask(...question)));
startJob();
startRecent();

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key-value").value.trim());
  guarded(async () => {
    await api.models();
    $("key-value").value = "";
    await route();
  });
});

$("forget-key").addEventListener("click", () => {
  useKey(null);
  askForKey();
});

window.addEventListener("hashchange", () => route());
// The same address again does not change it: "New question" from a question that is on its way.
for (const id of ["home", "new"]) {
  $(id).addEventListener("click", () => {
    if (!new URLSearchParams(location.hash.slice(1)).has("job")) route();
  });
}
route({ start: true });
