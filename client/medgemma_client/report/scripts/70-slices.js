// The slices of a volume, or images too many to stand side by side, one at a time: a slider, the
// wheel, Page Up and Down, and a strip of bars that shows how much of all relevancy each one has.

const slices = { at: 0, slider: find("slice"), strip: find("strip"), turned: 0 };
const NOTCH = 50; // pixels that a wheel turns for one slice

function showSlice(index) {
  slices.at = Math.min(films.length - 1, Math.max(0, index));
  films.forEach((film) => film.figure.classList.toggle("current", film.index === slices.at));
  slices.slider.value = slices.at + 1;
  const share = percent(page.shown.images[slices.at]);
  find("slice-value").textContent = `${slices.at + 1} of ${films.length}`;
  slices.slider.setAttribute("aria-valuetext", `${slices.at + 1} of ${films.length}, ${share} of all relevancy`);
  [...slices.strip.children].forEach((bar, k) => bar.classList.toggle("current", k === slices.at));
  page.drawFilms();
  page.drawZones();
}

// To another slice with the cursor where it is.
function turn(by) {
  const { film, pixel } = cursor;
  showSlice(slices.at + by);
  if (film) point(films[slices.at], pixel);
}

function drawStrip() {
  const highest = most(page.shown.images) || 1;
  [...slices.strip.children].forEach((bar, k) => {
    bar.style.setProperty("--share", page.shown.images[k] / highest);
  });
}

// The slice whose map has the largest value.
function peakSlice() {
  const { maps } = page.shown;
  return Math.floor(maps.indexOf(most(maps)) / (data.coarse[0] * data.coarse[1]));
}

// The slices that paper shows: those with the largest shares.
function mark() {
  const shares = page.shown.images;
  const order = shares.map((_, k) => k).sort((a, b) => shares[b] - shares[a] || a - b);
  const best = new Set(order.slice(0, 6));
  films.forEach((film) => film.figure.classList.toggle("matters", best.has(film.index)));
}

function setUpSlices() {
  find("slices").hidden = false;
  slices.slider.addEventListener("input", () => turn(Number(slices.slider.value) - 1 - slices.at));
  find("to-peak").addEventListener("click", () => turn(peakSlice() - slices.at));
  slices.strip.addEventListener("pointerdown", (event) => {
    const box = slices.strip.getBoundingClientRect();
    const to = Math.floor(((event.clientX - box.left) / box.width) * films.length);
    turn(to - slices.at);
  });
  for (const film of films) {
    film.stack.addEventListener("wheel", (event) => {
      slices.turned += event.deltaY;
      const by = Math.trunc(slices.turned / NOTCH);
      const to = slices.at + Math.sign(by);
      if (event.ctrlKey || to < 0 || to >= films.length) { slices.turned = 0; return; }
      event.preventDefault();
      if (by) { slices.turned = 0; turn(Math.sign(by)); }
    }, { passive: false });
    film.stack.addEventListener("keydown", (event) => {
      const by = { PageUp: -1, PageDown: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      turn(by);
      films[slices.at].stack.focus();
    });
  }
}
