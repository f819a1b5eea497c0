// Maps and scales in colours, as medgemma_tasks.pictures has them; opacity is the page's own.

for (const palette of data.palettes) {
  palette.table = Uint8Array.from(atob(palette.colours), (sign) => sign.charCodeAt(0));
}

// How much of the colour shows at 0 to 1. Where there is no colour, low relevancy is what is covered.
function coverage(u, palette) {
  const rising = u * (2 - u);
  return palette.falling ? 1 - rising : rising;
}

function paint(canvas, width, height, values, low, high, palette) {
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d");
  const picture = pen.createImageData(width, height);
  const pixels = picture.data;
  for (let k = 0; k < values.length; k += 1) {
    const u = Math.fround(unit(values[k], low, high));
    const entry = 3 * Math.round(u * 255);
    pixels[4 * k] = palette.table[entry];
    pixels[4 * k + 1] = palette.table[entry + 1];
    pixels[4 * k + 2] = palette.table[entry + 2];
    pixels[4 * k + 3] = Math.round(255 * coverage(u, palette));
  }
  pen.putImageData(picture, 0, 0);
}

// A map over an image: cells of grid (rows, columns).
function paintMap(canvas, image, cells, grid, low, high, palette) {
  const [width, height] = image.drawn;
  const scale = [width / image.size[0], height / image.size[1]];
  const square = image.square.map((edge, k) => edge * scale[k % 2]);
  paint(canvas, width, height, spread(cells, grid, image.drawn, square), low, high, palette);
}

function paintScale(canvas, palette) {
  const ramp = Float32Array.from({ length: 256 }, (_, k) => k / 255);
  paint(canvas, 256, 1, ramp, 0, 1, palette);
}
