// The record's numbers, and how they are written: as Python's pages and pictures write them.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);

// base64 to Float32Array: float32, or a float32 scale and float16 multiples of it.
function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  if (!data.rounded) {
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }
  const scale = view.getFloat32(0, true);
  return Float32Array.from({ length: bytes.length / 2 - 2 }, (_, i) => {
    const bits = view.getUint16(4 + 2 * i, true);
    const exponent = (bits >> 10) & 31;
    const part = bits & 1023;
    const size = exponent ? (1 + part / 1024) * 2 ** (exponent - 15) : part * 2 ** -24;
    return scale * (bits >> 15 ? -size : size);
  });
}

// As Python's format(value, f".{digits}g").
function written(value, digits = 3) {
  if (value === 0) return "0";
  const [mantissa, power] = value.toExponential(digits - 1).split("e").map(Number);
  if (power >= -4 && power < digits) return String(Number(value.toFixed(digits - 1 - power)));
  return `${mantissa}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

// Both ends of a scale, with three digits or as many more as it takes to tell them apart.
function ends(low, high) {
  let texts = [];
  for (let digits = 3; digits < 10; digits += 1) {
    texts = [written(low, digits), written(high, digits)];
    if (texts[0] !== texts[1]) break;
  }
  return texts;
}

const percent = (part) =>
  part > 0 && part < 0.001 ? "under 0.1%" : `${(100 * part).toFixed(1)}%`;

// No wider than float32's own rounding: nothing to show.
const isFlat = (low, high) => high - low <= 2 ** -20 * Math.max(Math.abs(low), Math.abs(high));

// What part of a map lies below the low end of its scale, and so has no colour.
function uncoloured(cells, low) {
  let [below, whole] = [0, 0];
  for (const cell of cells) {
    whole += Math.max(cell, 0);
    below += Math.min(Math.max(cell, 0), Math.max(low, 0));
  }
  return whole > 0 ? below / whole : 0;
}

// 0 to 1; what lies beyond is clipped, and a flat range gives zeros.
function unit(value, low, high) {
  return isFlat(low, high) ? 0 : Math.min(1, Math.max(0, (value - low) / (high - low)));
}

function least(values) {
  return values.reduce((low, value) => Math.min(low, value), Infinity);
}

function most(values) {
  return values.reduce((high, value) => Math.max(high, value), -Infinity);
}
