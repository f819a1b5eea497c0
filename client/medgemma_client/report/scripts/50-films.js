// The images, each with the map over it, the cross on its peak, and a line below.

const films = [...document.querySelectorAll("figure.film")].map((figure, index) => {
  const stack = figure.querySelector(".stack");
  const canvas = document.createElement("canvas");
  canvas.className = "map";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Relevancy map over image ${index + 1}`);
  stack.querySelector(".layer")?.remove();
  stack.querySelector(".base").after(canvas);
  const frame = document.createElement("div");
  frame.className = "cell";
  frame.hidden = true;
  stack.append(frame);
  return { index, figure, stack, canvas, frame, image: data.images[index] };
});

function peakOf(cells, [, columns]) {
  const at = cells.indexOf(most(cells));
  return [Math.floor(at / columns), at % columns];
}

// Left, top, right, bottom of a cell, in pixels of the original image.
function boxOf([row, column], [rows, columns], [left, top, right, bottom]) {
  return [
    left + ((right - left) * column) / columns,
    top + ((bottom - top) * row) / rows,
    left + ((right - left) * (column + 1)) / columns,
    top + ((bottom - top) * (row + 1)) / rows,
  ];
}

function middleOf(cell, grid, square) {
  const [left, top, right, bottom] = boxOf(cell, grid, square);
  return [(left + right) / 2, (top + bottom) / 2];
}

const isOn = ([x, y], [width, height]) => x >= 0 && x < width && y >= 0 && y < height;

function drawFilm(film, map, scale, share, palette) {
  const { image, canvas, figure } = film;
  const cells = cellsOf(map, film.index);
  const flat = isFlat(scale.low, scale.high);
  canvas.hidden = flat;
  if (!flat) paintMap(canvas, image, cells, map.grid, scale.low, scale.high, palette);
  const plain = flat ? "" : `, ${percent(uncoloured(cells, scale.low))} of that uncoloured`;
  figure.querySelector(".share").textContent = `${percent(share)} of all relevancy${plain}`;
  const told = !flat && !isFlat(least(cells), most(cells));
  const peak = peakOf(cells, map.grid);
  const place = middleOf(peak, map.grid, image.square);
  const inside = isOn(place, image.size);
  const cross = figure.querySelector(".peak");
  cross.toggleAttribute("hidden", !(told && inside));
  cross.style.left = `${(100 * place[0]) / image.size[0]}%`;
  cross.style.top = `${(100 * place[1]) / image.size[1]}%`;
  const [rows, columns] = map.grid;
  figure.querySelector(".place").textContent = told
    ? `peak in row ${peak[0] + 1}, column ${peak[1] + 1} of ${rows} × ${columns}${
        inside ? "" : ", outside of the image"}`
    : "";
}

function frameCell(film, cell, grid) {
  film.frame.hidden = cell === null;
  if (cell === null) return;
  const [width, height] = film.image.size;
  const [left, top, right, bottom] = boxOf(cell, grid, film.image.square);
  // Of a cell that the image's edge cuts, the part on the image.
  const [x, y] = [Math.max(0, left), Math.max(0, top)];
  film.frame.style.left = `${(100 * x) / width}%`;
  film.frame.style.top = `${(100 * y) / height}%`;
  film.frame.style.width = `${(100 * (Math.min(width, right) - x)) / width}%`;
  film.frame.style.height = `${(100 * (Math.min(height, bottom) - y)) / height}%`;
}
