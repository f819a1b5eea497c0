// One job: its stages while it runs, then its report, or why there is none.

import * as api from "./api.js";
import { $, el, focusTitle, say, show } from "./dom.js";
import { ended, watch } from "./events.js";
import { thumbnail } from "./files.js";
import { rememberIfNew } from "./remembered.js";
import { problemBox, STEPS, told } from "./words.js";

let shown = new AbortController(); // whatever goes on for the job in view
let address = null; // of its report, as a file of this page's own
let cancelling = null;
let previewed = false; // whether the question that was sent last is still there, with its pictures

export function startJob() {
  $("cancel").addEventListener("click", () => cancelling?.());
  window.addEventListener("message", (event) => {
    // The report is of no origin, so its frame is known by its window.
    const height = event.source === $("frame").contentWindow && Number(event.data?.reportHeight);
    if (height > 0) $("frame").style.height = `${Math.min(Math.ceil(height), 100_000)}px`;
  });
}

/** Stop whatever is shown, and show nothing of it any more. */
export function leaveJob() {
  shown.abort(new DOMException("left", "AbortError"));
  shown = new AbortController();
  cancelling = null;
  // A new frame each time: one that is used again would add to the history, and Back stay in it.
  const frame = $("frame").cloneNode();
  frame.hidden = true;
  frame.removeAttribute("srcdoc");
  frame.removeAttribute("style");
  $("frame").replaceWith(frame);
  if (address) URL.revokeObjectURL(address);
  address = null;
  for (const id of ["alone", "download", "cancel", "under-way", "notes"]) $(id).hidden = true;
  $("job-problem").replaceChildren();
  return shown.signal;
}

function begin(title) {
  const signal = leaveJob();
  show("job");
  $("job-title").textContent = title;
  return signal;
}

/** A question on its way to the gateway: what that says of its job, or null where it was called off. */
export async function showSending(prompt, previews, send) {
  const signal = begin("Sending");
  asked(prompt, previews);
  previewed = true;
  step("sending", null, "The image is on its way");
  focusTitle("job");
  const ours = new AbortController();
  signal.addEventListener("abort", () => ours.abort());
  offerCancel(() => ours.abort());
  try {
    const sent = (part) => step("sending", part, part < 1 ? "The image is on its way" : "The image is being read");
    return await send({ sent, signal: ours.signal });
  } catch (error) {
    if (ours.signal.aborted) return null;
    throw error;
  }
}

/** A job by its id, from wherever it stands to its end. `notes`: what of a study it is about. */
export async function showJob(id, { known = false, notes = [] } = {}) {
  const signal = begin("Under way");
  $("notes").hidden = !notes.length;
  $("notes").querySelector("ul").replaceChildren(...notes.map((note) => el("li", {}, note)));
  if (known) offerCancel(() => cancel(id)); // also while nothing is heard of it
  previewed &&= known;
  if (!previewed) $("asked").hidden = true;
  step("waiting", null, "Looking where it stands");
  focusTitle("job");
  let recalled = previewed;
  const work = async () => {
    for await (const status of watch(id, signal)) {
      if (status === null) {
        $("job-problem").replaceChildren(problemBox(new api.Problem(0, { detail: "Trying again …" })));
        continue;
      }
      $("job-problem").replaceChildren();
      rememberIfNew(id);
      if (ended(status)) return finish(id, status, signal);
      if (!recalled) recall(id, signal);
      recalled = true;
      offerCancel(() => cancel(id));
      step(...[told(status)].flatMap(([name, sentence]) => [name, status.state === "running" ? status.progress : null, sentence]));
    }
  };
  try {
    await work();
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof api.Problem) || error.status === 401) throw error;
    end("Cannot be shown");
    $("job-problem").replaceChildren(problemBox(error));
  }
}

async function cancel(id) {
  $("cancel").disabled = true;
  try {
    await api.cancel(id); // its last status comes as any other
  } catch (error) {
    if (error instanceof api.Problem) $("job-problem").replaceChildren(problemBox(error));
    else throw error;
  } finally {
    $("cancel").disabled = false;
  }
}

async function finish(id, status, signal) {
  if (status.state !== "succeeded") {
    const cancelled = status.state === "cancelled";
    const error = status.error ?? { message: cancelled ? "" : "It failed, and left no word of why." };
    const problem = new api.Problem(0, { code: cancelled ? "job_cancelled" : (error.code ?? "job_error"), detail: error.message });
    problem.job = true;
    end(cancelled ? "Cancelled" : "Failed");
    if ($("asked").hidden) recall(id, signal);
    const again = el("a", { className: "button", href: "#" }, "Ask again");
    $("job-problem").replaceChildren(problemBox(problem, again));
    return;
  }
  const html = await api.report(id, signal);
  if (signal.aborted) return;
  end("Relevancy report");
  $("asked").hidden = true; // the report has it
  say("Done: the report is below");
  address = URL.createObjectURL(new Blob([html], { type: "text/html;charset=utf-8" }));
  $("alone").href = $("download").href = address;
  $("download").download = `report-${id.slice(0, 8)}.html`;
  $("alone").hidden = $("download").hidden = false;
  $("frame").srcdoc = html;
  $("frame").hidden = false;
  // The report has those of whoever asked first.
  if ([...$("notes").querySelectorAll("li")].every((note) => html.includes(note.innerHTML))) $("notes").hidden = true;
}

function end(title) {
  const lost = document.activeElement === $("cancel");
  $("under-way").hidden = $("cancel").hidden = true;
  cancelling = null;
  $("job-title").textContent = title;
  if (lost) focusTitle("job"); // what had the focus is gone
}

function offerCancel(how) {
  cancelling = how;
  $("cancel").hidden = false;
}

/** Show the question of a job that another page asked, or this one before it was loaded anew. */
async function recall(id, signal) {
  try {
    const prompt = await api.question(id, signal);
    if (!signal.aborted && $("frame").hidden) asked(prompt, []);
  } catch {
    // Where it stands is told all the same, and so is what goes wrong in that.
  }
}

function asked(prompt, previews) {
  $("asked").hidden = false;
  const pictures = previews.slice(0, 6).map(({ name, address: from }) => thumbnail(name, from));
  const more = previews.length > 6 ? [el("span", { className: "dim" }, `and ${previews.length - 6} more`)] : [];
  $("asked").replaceChildren(el("p", { dir: "auto" }, prompt), el("div", { className: "row" }, ...pictures, ...more));
}

function step(name, progress, sentence) {
  const place = STEPS.findIndex(([one]) => one === name);
  $("under-way").hidden = false;
  $("steps").replaceChildren(
    ...STEPS.map(([, label], number) => {
      const item = el("li", { className: number < place ? "past" : "" }, label);
      if (number === place) item.setAttribute("aria-current", "step");
      return item;
    }),
  );
  if (progress === null || progress === undefined) $("bar").removeAttribute("value");
  else $("bar").value = progress;
  if ($("stage").textContent !== sentence) say(sentence); // once a stage, not at every percent
  $("stage").textContent = sentence;
  $("job-title").textContent = name === "sending" ? "Sending" : "Under way";
}
