// What is shown: one target as the record has it, or the mean of those that make up a word.

const decoded = new Map();

function target(index) {
  if (!decoded.has(index)) {
    const raw = data.targets[index];
    decoded.set(index, {
      ...raw,
      maps: unpack(raw.maps),
      fine: raw.fine && { ...raw.fine, maps: unpack(raw.fine.maps) },
      scores: unpack(raw.scores),
    });
  }
  return decoded.get(index);
}

function mean(arrays) {
  const shortest = Math.min(...arrays.map((array) => array.length));
  return Float32Array.from({ length: shortest }, (_, k) =>
    arrays.reduce((sum, array) => sum + array[k], 0) / arrays.length);
}

const meanOf = (numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;

function together(found) {
  const maps = mean(found.map((one) => one.maps));
  const fine = found.every((one) => one.fine) && mean(found.map((one) => one.fine.maps));
  return {
    maps,
    low: least(maps),
    high: most(maps),
    fine: fine ? { maps: fine, low: least(fine), high: most(fine) } : null,
    scores: mean(found.map((one) => one.scores)),
    positions: found.flatMap((one) => one.positions),
    shares: [0, 1, 2, 3].map((k) => meanOf(found.map((one) => one.shares[k]))),
    own: meanOf(found.map((one) => one.own)),
    images: data.images.map((_, k) => meanOf(found.map((one) => one.images[k]))),
    zones: null,
    areas: null,
  };
}

// A share of each zone, weighed by what each target has on that image.
function zonesTogether(found, image) {
  const here = found.filter((one) => one.zones[image] && one.images[image] > 0);
  const whole = here.reduce((sum, one) => sum + one.images[image], 0);
  if (!whole) return null;
  return here[0].zones[image].map((_, k) =>
    here.reduce((sum, one) => sum + one.zones[image][k] * one.images[image], 0) / whole);
}

function view(indices) {
  const found = indices.map(target);
  if (found.length === 1) return found[0];
  const shown = together(found);
  shown.zones = data.images.map((_, k) => zonesTogether(found, k));
  return shown;
}

// The maps that are shown, coarse or fine, with their grid and their ends.
function layer(shown, fine) {
  if (fine && shown.fine) return { ...shown.fine, grid: data.fine };
  return { maps: shown.maps, low: shown.low, high: shown.high, grid: data.coarse };
}

function cellsOf(map, image) {
  const size = map.grid[0] * map.grid[1];
  return map.maps.subarray(image * size, (image + 1) * size);
}

// The ends of one scale for all targets.
function wholeRange(fine) {
  const all = data.targets.map((one) => (fine && one.fine ? one.fine : one));
  return { low: least(all.map((one) => one.low)), high: most(all.map((one) => one.high)) };
}
