// Relevancy of every pixel, exactly as medgemma_tasks.geometry.spread has it, which says why: a
// monotone cubic between the centres of cells, and at the pixel that holds a centre its own value.

// One axis: n cells from low to high, sampled at the centres of pixels 0 to count - 1.
function axis(n, count, low, high) {
  const cell = (high - low) / n;
  const centres = Array.from({ length: n }, (_, k) =>
    Math.min(count, Math.max(-1, Math.floor(low + (k + 0.5) * cell))),
  );
  if (cell >= 1) return { n, low, cell, holder: centres, from: null, count };
  // Several centres in one pixel: their maximum stands for them, in cells of one pixel.
  const first = centres[0];
  const gathered = centres[n - 1] - first + 1;
  const holder = Array.from({ length: gathered }, (_, k) => first + k);
  return { n: gathered, low: first, cell: 1, holder, from: centres.map((at) => at - first), count };
}

function gather(line, along) {
  if (!along.from) return line;
  const out = new Float64Array(along.n).fill(-Infinity);
  along.from.forEach((to, k) => { out[to] = Math.max(out[to], line[k]); });
  return out;
}

// Slope at each node, per cell: harmonic mean of both sides, 0 at turns and at both ends.
function slopes(line) {
  const out = new Float64Array(line.length);
  for (let k = 1; k < line.length - 1; k += 1) {
    const before = line[k] - line[k - 1];
    const after = line[k + 1] - line[k];
    if (before * after > 0) out[k] = 2 * (before / (before + after)) * after;
  }
  return out;
}

// Where each pixel lies between two nodes, and how much each of them counts there.
function weights(along) {
  const rim = 0.5 / along.cell;
  const last = along.n - 1;
  return Array.from({ length: along.count }, (_, pixel) => {
    const place = (pixel + 0.5 - along.low) / along.cell - 0.5;
    const before = Math.floor(place);
    const inside = (place - before - rim) / Math.max(1 - 2 * rim, 1e-9);
    const t = Math.min(1, Math.max(0, inside));
    const [t2, t3] = [t * t, t * t * t];
    return {
      i: Math.min(last, Math.max(0, before)),
      j: Math.min(last, Math.max(0, before + 1)),
      w: [2 * t3 - 3 * t2 + 1, t3 - 2 * t2 + t, 3 * t2 - 2 * t3, t3 - t2],
    };
  });
}

function stretch(line, along, weighted, out, start, step) {
  const values = gather(line, along);
  const tilt = slopes(values);
  weighted.forEach(({ i, j, w }, pixel) => {
    out[start + step * pixel] =
      w[0] * values[i] + w[1] * tilt[i] + w[2] * values[j] + w[3] * tilt[j];
  });
  along.holder.forEach((pixel, k) => {
    if (pixel >= 0 && pixel < along.count) out[start + step * pixel] = values[k];
  });
}

// cells: rows x columns; square: where they lie, in pixels of the picture of width x height.
function spread(cells, [rows, columns], [width, height], [left, top, right, bottom]) {
  const across = axis(columns, width, left, right);
  const down = axis(rows, height, top, bottom);
  const [sideways, downwards] = [weights(across), weights(down)];
  const wide = new Float64Array(rows * width);
  for (let row = 0; row < rows; row += 1) {
    const line = cells.subarray(row * columns, (row + 1) * columns);
    stretch(line, across, sideways, wide, row * width, 1);
  }
  const out = new Float64Array(width * height);
  const line = new Float64Array(rows);
  for (let x = 0; x < width; x += 1) {
    for (let row = 0; row < rows; row += 1) line[row] = wide[row * width + x];
    stretch(line, down, downwards, out, x, width);
  }
  const [low, high] = [least(cells), most(cells)];
  return Float32Array.from(out, (value) => Math.min(high, Math.max(low, value)));
}
