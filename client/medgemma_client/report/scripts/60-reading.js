// What lies under the pointer, or under the cursor that the arrow keys move from cell to cell.

const cursor = { film: null, pixel: null };
let saying = 0;

// The cell that holds the centre of a pixel; on a border the one on its right or below.
function cellAt([x, y], [rows, columns], [left, top, right, bottom]) {
  return [
    Math.min(rows - 1, Math.floor(((y + 0.5 - top) * rows) / (bottom - top))),
    Math.min(columns - 1, Math.floor(((x + 0.5 - left) * columns) / (right - left))),
  ];
}

// A value's part of all that is positive on its map: negative values count as none.
function partOf(value, cells) {
  const whole = cells.reduce((sum, one) => sum + Math.max(0, one), 0);
  return whole ? Math.max(0, value) / whole : 0;
}

function read() {
  const { film, pixel } = cursor;
  films.forEach((one) => { if (one !== film) frameCell(one, null); });
  find("reading-hint").hidden = film !== null;
  find("reading").querySelector("dl").hidden = film === null;
  if (film === null) return "";
  const { map } = page;
  const cell = cellAt(pixel, map.grid, film.image.square);
  const cells = cellsOf(map, film.index);
  const value = cells[cell[0] * map.grid[1] + cell[1]];
  frameCell(film, cell, map.grid);
  const texts = {
    pixel: `${films.length > 1 ? `${page.noun} ${film.index + 1}, ` : ""}x ${pixel[0]}, y ${pixel[1]}`,
    cell: `row ${cell[0] + 1}, column ${cell[1] + 1} of ${map.grid[0]} × ${map.grid[1]}`,
    value: written(value),
    share: percent(partOf(value, cells)),
  };
  for (const [name, text] of Object.entries(texts)) find(`read-${name}`).textContent = text;
  return `Row ${cell[0] + 1}, column ${cell[1] + 1}: relevancy ${texts.value}, ${texts.share} of this map`;
}

function point(film, pixel) {
  cursor.film = film;
  cursor.pixel = pixel;
  return read();
}

// Only what the keys did is said aloud, and only where they rest.
function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => { find("spoken").textContent = text; }, 250);
}

function pixelUnder(event, film) {
  const box = film.stack.getBoundingClientRect();
  const [width, height] = film.image.size;
  const x = Math.floor(((event.clientX - box.left) / box.width) * width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * height);
  return [Math.min(width - 1, Math.max(0, x)), Math.min(height - 1, Math.max(0, y))];
}

// The pixel in the middle of a cell, kept on the image.
function pixelOf(cell, film) {
  return middleOf(cell, page.map.grid, film.image.square).map((place, k) =>
    Math.min(film.image.size[k] - 1, Math.max(0, Math.floor(place))));
}

function home(film) {
  const { map } = page;
  return pixelOf(peakOf(cellsOf(map, film.index), map.grid), film);
}

const STEPS = {
  ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
};

function step(film, [down, right]) {
  if (cursor.film !== film) return home(film);
  const { grid } = page.map;
  const [row, column] = cellAt(cursor.pixel, grid, film.image.square);
  const next = [row + down, column + right];
  const [left, top, far, bottom] = boxOf(next, grid, film.image.square);
  const [width, height] = film.image.size;
  const seen = far > 0 && bottom > 0 && left < width && top < height;
  return seen ? pixelOf(next, film) : cursor.pixel;
}

for (const film of films) {
  const { stack } = film;
  stack.tabIndex = 0;
  stack.setAttribute("role", "application");
  stack.setAttribute("aria-roledescription", "map");
  stack.setAttribute(
    "aria-label",
    `Image ${film.index + 1} and its map. Arrow keys read cell by cell, Home goes to the peak, Escape ends.`,
  );
  stack.addEventListener("pointermove", (event) => point(film, pixelUnder(event, film)));
  stack.addEventListener("pointerdown", (event) => point(film, pixelUnder(event, film)));
  stack.addEventListener("pointerleave", (event) => {
    // A finger that is lifted leaves too; what it touched stays readable.
    if (event.pointerType === "mouse") point(null, null);
  });
  stack.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") point(null, null);
    else if (event.key === "Home") say(point(film, home(film)));
    else if (event.key in STEPS) say(point(film, step(film, STEPS[event.key])));
    else return;
    event.preventDefault();
  });
}
find("reading").hidden = false;
