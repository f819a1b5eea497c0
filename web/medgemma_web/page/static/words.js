// What the page says: of stages, of what went wrong, and of what to do about it.

import { el } from "./dom.js";

export const STEPS = [
  ["sending", "Sent"],
  ["waiting", "Waiting"],
  ["loading", "Loading"],
  ["generating", "Answering"],
  ["explaining", "Explaining"],
  ["storing", "Storing"],
];

/** Which step a status is at, and a sentence about it. */
export function told(status) {
  if (status.state === "submitted") return ["waiting", waiting(status.ahead)];
  const sentence = {
    loading: "A worker has it, and reads the image",
    generating: "The model writes its answer",
    explaining: "Its answer is traced back to image and words",
    storing: "Maps and answer are being stored",
  };
  const stage = status.stage ?? "loading";
  const again = status.attempt > 1 ? ` (attempt ${status.attempt})` : "";
  return [stage, (sentence[stage] ?? stage) + again];
}

function waiting(ahead) {
  if (ahead === null || ahead === undefined) return "On the queue, waiting for a worker";
  if (ahead === 0) return "Next on the queue";
  return ahead === 1 ? "On the queue: 1 job goes first" : `On the queue: ${ahead} jobs go first`;
}

const OPERATOR = "whoever runs this service";
const CHOOSE = "Choose a PNG, JPEG, TIFF or DICOM file, or a zip of a study.";
const LATER = "Your question is still in the form: ask again in a moment.";

/** By code: a title, and what to do. The gateway's own sentence stands between them. */
const KNOWN = {
  away: ["The gateway does not answer", "Is it running, and are you on its network?"],
  key_unknown: ["This key is not known", `Check that you have all of it, or ask ${OPERATOR} for one.`],
  queue_full: ["The queue is full", LATER],
  too_many_requests: ["Too many requests", LATER],
  too_many_uploads: ["Too many uploads at once", LATER],
  quota_used_up: ["Your jobs of today are used up", "Ask again tomorrow, or have the quota of your key raised."],
  model_not_served: ["No worker serves this model", `Tell ${OPERATOR}: a worker has to be started once before questions are taken.`],
  not_an_image: ["That file is not an image", null],
  truncated_image: ["The image is cut off", "Export or download it again: its end is missing."],
  empty_image: ["The image is empty", CHOOSE],
  image_too_large: ["The image is too large", "Send it in fewer pixels."],
  upload_too_large: ["That is too large to send", "Send fewer or smaller files."],
  upload_too_slow: ["The upload was too slow", "Try again on a better line."],
  burned_in: ["Text may be burned into the pixels", "Take an image without a patient's name in its pixels."],
  study_empty: ["Nothing to show in this study", CHOOSE],
  archive_unreadable: ["The zip file cannot be read", "Make it again, without a password."],
  keyword_not_in_answer: ["The answer does not have that word", "Ask again without a word, or with one of the answer's own."],
  sequence_too_long: ["Too much for the model at once", "Send fewer images, or a shorter question."],
  too_many_targets: ["Too many words to explain", "Ask again without “every word”."],
  out_of_memory: ["The worker ran out of memory", "Ask with fewer images, or without “every word”."],
  worker_lost: ["Every worker that took this job died of it", `It is set aside, and not tried again by itself. Ask again to try once more; if that fails, tell ${OPERATOR}: “medgemma-explainer dead” shows what is known.`],
  time_limit: ["It took too long", "Ask with fewer images, or without “every word”."],
  job_expired: ["Its time ran out before a worker had it", "Ask again."],
  job_not_found: ["There is no such job", "It may have been deleted, or belong to another key."],
  job_purged: ["This job was deleted", "Ask again, with the image."],
  job_cancelled: ["Cancelled", "Nothing was explained. Ask again whenever you like."],
};

/** Their title says all that the gateway's sentence does. */
const SAID = ["job_cancelled", "key_unknown"];

export function explain(problem) {
  const [title, advice] = KNOWN[problem.code] ?? [null, null];
  if (title !== null) return { title, advice };
  if (problem.status >= 500 || problem.code === "internal_error") {
    return { title: "Something went wrong in the service", advice: `Try again; if it stays so, tell ${OPERATOR}.` };
  }
  return { title: problem.job ? "It failed" : "This cannot be asked", advice: null };
}

/** A problem as a box. `more` are buttons, if something can be done at once. */
export function problemBox(problem, ...more) {
  const { title, advice } = explain(problem);
  const wait = problem.retryAfter ? ` The gateway asks for ${problem.retryAfter} s.` : "";
  return el(
    "div",
    { className: "alert", role: "alert" },
    el("h3", {}, title),
    problem.message && !SAID.includes(problem.code) ? el("p", { dir: "auto" }, problem.message) : null,
    advice || wait ? el("p", {}, (advice ?? "") + wait) : null,
    problem.code !== "away" ? el("p", {}, el("code", {}, problem.code)) : null,
    more.length ? el("div", { className: "row" }, ...more) : null,
  );
}
