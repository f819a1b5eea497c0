// The form: what is asked goes out, and a job comes back.

import * as api from "./api.js";
import { $, el } from "./dom.js";
import { limitTo, mark, parts, previews, single, startFiles, wrong } from "./files.js";
import { problemBox } from "./words.js";

let touched = false; // whether somebody chose for or against "every word"

/** `asked(question, previews, send)` is told of each question; `send` does the asking. */
export function startAsk(asked) {
  startFiles((sentence) => {
    complain(sentence);
    if (!touched) $("every").checked = parts().length === 0 || single();
  });
  $("every").addEventListener("change", () => {
    touched = true;
  });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask-form").requestSubmit();
  });
  $("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const sentence = wrong();
    complain(sentence);
    if (sentence) {
      $("files").focus();
      return;
    }
    const question = read();
    const files = parts();
    const once = api.newName();
    asked(question.prompt, previews(), (options) => api.submit(question, files, once, options));
  });
}

function read() {
  const question = { prompt: $("prompt").value.trim() };
  const keyword = $("keyword").value.trim();
  if (keyword) question.keyword = keyword;
  if ($("every").checked) {
    question.every_token = true;
    // What the report shows first is then the whole answer, and not its first word.
    if (!keyword) question.characters = [0, null];
  }
  if (!$("models").hidden) question.model = $("model").value;
  return question;
}

function complain(sentence) {
  const box = sentence && el("div", { className: "alert", role: "alert" }, el("p", {}, sentence));
  $("ask-problem").replaceChildren(...(box ? [box] : []));
}

/** Back in the form with what the gateway would not take. */
export function refused(problem) {
  $("ask-problem").replaceChildren(problemBox(problem));
  mark(problem.image);
  $("ask-button").focus();
}

/** Which models there are. None at all is worth a word before a question is written. */
export async function showModels(signal) {
  const { models: found, limits } = await api.models(signal);
  $("models").hidden = found.length < 2;
  $("model").replaceChildren(...found.map((name) => el("option", { value: name }, name)));
  limitTo(limits);
  if (!found.length) refused(new api.Problem(503, { code: "model_not_served" }));
}
