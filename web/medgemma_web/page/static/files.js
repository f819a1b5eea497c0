// Choosing files: by the file dialogue, by dropping them anywhere on the page, or by pasting.

import { $, el, say } from "./dom.js";

const chosen = [];
let changed = () => {};
let limits = null; // of the gateway, once it has told them
const SHOWN = /^image\/(png|jpeg)$/; // what browsers draw; DICOM and TIFF they do not

const isZip = (file) => /\.zip$/i.test(file.name) || file.type === "application/zip";

/** The files as the parts of a form, in order. */
export function parts() {
  return chosen.map(({ file }) => ({ part: isZip(file) ? "study" : "images", file }));
}

/** Pictures of what was chosen, for showing it elsewhere while it is asked about. */
export function previews() {
  return chosen.map(({ file, address }) => ({ name: file.name, address }));
}

/** What is wrong with the choice, as a sentence; null where nothing is. */
export function wrong() {
  if (!chosen.length) return "Choose an image first.";
  const zips = chosen.filter(({ file }) => isZip(file)).length;
  if (zips > 1) return "One study at a time: choose one zip file.";
  if (zips && chosen.length > 1) return "A zip of a study goes alone, without other files.";
  return tooMuch();
}

/** What the gateway takes: more of it is told before it is sent. */
export function limitTo(found) {
  limits = found;
  const sentence = chosen.length ? wrong() : null;
  if (sentence) changed(sentence);
}

function tooMuch() {
  if (!limits) return null;
  const most = ({ file }) =>
    isZip(file) ? limits.max_upload_bytes : Math.min(limits.max_file_bytes, limits.max_upload_bytes);
  const large = chosen.findIndex((one) => one.file.size > most(one));
  mark(large);
  if (large >= 0) {
    const { file } = chosen[large];
    return `${file.name} has ${size(file.size)}, and this service takes files of ${size(most(chosen[large]))} at most.`;
  }
  const whole = chosen.reduce((sum, { file }) => sum + file.size, 0);
  if (whole > limits.max_upload_bytes) {
    return `The files have ${size(whole)} together, and this service takes ${size(limits.max_upload_bytes)} at most. Remove some.`;
  }
  if (chosen.length > limits.max_images) {
    return `These are ${chosen.length} images, and this service takes ${limits.max_images} at most. Remove some.`;
  }
  return null;
}

/** Show which file cannot be used, by its place; -1 or null where none is meant. */
export function mark(place) {
  for (const [at, item] of [...$("chosen").children].entries()) {
    item.classList.toggle("refused", at === place);
    item.querySelector(".fault")?.remove();
    if (at === place) item.append(el("span", { className: "fault" }, "Cannot be used"));
  }
}

export const single = () => chosen.length === 1 && !isZip(chosen[0].file);

export function startFiles(whenChanged) {
  changed = whenChanged;
  const input = $("files");
  input.addEventListener("change", () => {
    add(input.files);
    input.value = ""; // the same file can be chosen again
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return; // browsers know Space alone, and Enter would send the form
    event.preventDefault();
    input.click();
  });
  let depth = 0;
  const over = (inside) => {
    depth = Math.max(0, depth + inside);
    $("pick").classList.toggle("over", depth > 0);
  };
  const files = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => files(event) && over(1));
  document.addEventListener("dragleave", (event) => files(event) && over(-1));
  document.addEventListener("dragover", (event) => files(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault(); // or the browser would leave for the file
    over(-depth);
    if ($("ask").hidden) return;
    const items = [...event.dataTransfer.items];
    const folder = items.some((item) => item.webkitGetAsEntry?.()?.isDirectory);
    if (folder) changed("That is a folder. Make a zip file of it, and drop that.");
    else add(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (!$("ask").hidden && event.clipboardData.files.length) add(event.clipboardData.files);
  });
}

function add(files) {
  for (const file of files) {
    const address = SHOWN.test(file.type) ? URL.createObjectURL(file) : null;
    chosen.push({ file, address });
  }
  draw();
  say(`${chosen.length} ${chosen.length === 1 ? "file" : "files"} chosen`);
}

function drop(place) {
  chosen.splice(place, 1); // its address lives on: a running job may still show it
  draw();
  const left = $("chosen").querySelectorAll("button");
  (left[Math.min(place, left.length - 1)] ?? $("files")).focus();
}

function draw() {
  $("chosen").replaceChildren(
    ...chosen.map(({ file, address }, place) =>
      el(
        "li",
        {},
        thumbnail(file.name, address),
        el("span", { className: "name" }, file.name),
        el("span", { className: "size" }, size(file.size)),
        el(
          "button",
          { type: "button", className: "remove", "aria-label": `Remove ${file.name}`, title: "Remove", onclick: () => drop(place) },
          "×",
        ),
      ),
    ),
  );
  $("pick").classList.toggle("some", chosen.length > 0);
  $("pick").classList.toggle("one", single());
  $("drop-text").textContent = chosen.length ? "Add another" : "Drop an image here, or choose one";
  changed(chosen.length ? wrong() : null);
}

export function thumbnail(name, address) {
  const kind = /\.(zip|tiff?|png|jpe?g)$/i.exec(name)?.[1].toUpperCase() ?? "DICOM";
  const words = el("span", { className: "kind" }, { TIF: "TIFF", JPG: "JPEG" }[kind] ?? kind);
  if (!address) return words;
  const image = el("img", { src: address, alt: "" });
  image.onerror = () => image.replaceWith(words); // it only has the name of an image
  return image;
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
