// Shares, zones, tokens, boxes and the legend, as the chosen target has them.

function drawShares(shown) {
  [...find("shares").children].forEach((part, k) => { part.style.flexGrow = shown.shares[k]; });
  document.querySelectorAll(".key .part").forEach((text, k) => {
    text.textContent = `${(100 * shown.shares[k]).toFixed(1)}%`;
  });
  find("own").textContent = written(shown.own);
  find("areas").hidden = !shown.areas;
  find("areas").querySelector("p").textContent = shown.areas ?? "";
}

function drawZoneTable(table, shown, image) {
  const names = data.images[image].zones;
  const zones = shown.zones[image] ?? Array(7).fill(0);
  table.hidden = names === null;
  if (names === null) return;
  table.querySelectorAll("thead th").forEach((name, k) => { name.textContent = names[0][k]; });
  table.querySelectorAll("tbody th").forEach((name, k) => { name.textContent = names[1][k]; });
  table.querySelectorAll(".zone").forEach((zone, k) => {
    zone.style.setProperty("--u", zones[k].toFixed(3));
    zone.firstChild.textContent = `${Math.round(100 * zones[k])}%`;
  });
  table.querySelector("tfoot").hidden = zones[6] < 0.005;
  table.querySelector(".outside").textContent = `${Math.round(100 * zones[6])}%`;
  const number = table.querySelector("caption .number");
  if (number) number.textContent = image + 1;
}

const tokens = [...document.querySelectorAll("#tokens .token")];

// On the scale of the ordinary ones: not control tokens, nor what the target gained from itself.
function drawTokens(shown) {
  if (!tokens.length) return;
  const own = new Set(shown.positions.map((position) => position - 1));
  const targets = new Set(shown.positions);
  const onScale = data.tokens.map(([position, special], k) =>
    k < shown.scores.length && !special && !own.has(position));
  const scores = [...shown.scores].filter((_, k) => onScale[k]);
  const [low, high] = scores.length ? [least(scores), most(scores)] : [0, 0];
  tokens.forEach((token, k) => {
    const seen = k < shown.scores.length;
    token.classList.toggle("later", !seen);
    token.classList.toggle("target", targets.has(data.tokens[k][0]));
    if (onScale[k]) token.style.setProperty("--u", unit(shown.scores[k], low, high).toFixed(3));
    else token.style.removeProperty("--u");
    if (!seen) token.removeAttribute("title");
    else token.title = `relevancy ${written(shown.scores[k])}${onScale[k] ? "" : ", on no scale"}`;
  });
  const flat = isFlat(low, high);
  find("token-legend").hidden = flat;
  find("token-flat").hidden = !flat;
  const texts = ends(low, high);
  find("token-legend").querySelectorAll(".ends span").forEach((end, k) => {
    end.textContent = texts[k];
  });
}

// The part of a map in a box; cells that the box cuts count with the part of them in it.
function partIn(cells, [rows, columns], [y0, x0, y1, x1]) {
  const overlap = (k, n, from, to) =>
    Math.max(0, Math.min(k + 1, (to * n) / 1000) - Math.max(k, (from * n) / 1000));
  let [inside, whole] = [0, 0];
  cells.forEach((cell, k) => {
    const value = Math.max(0, cell);
    whole += value;
    inside += value * overlap(Math.floor(k / columns), rows, y0, y1)
      * overlap(k % columns, columns, x0, x1);
  });
  return whole ? Math.min(1, inside / whole) : null;
}

function drawBoxes(shown) {
  const cells = shown.maps.subarray(0, data.coarse[0] * data.coarse[1]);
  document.querySelectorAll("#box-list .share").forEach((share, k) => {
    const part = partIn(cells, data.coarse, data.boxes[k]);
    share.textContent = part === null ? "none" : percent(part);
  });
}

function drawLegend(map, scale, palette) {
  const flat = isFlat(scale.low, scale.high);
  find("legend").hidden = flat;
  find("span").hidden = flat;
  find("span").querySelector(".own").hidden = page.all;
  find("span").querySelector(".all").hidden = !page.all;
  find("flat").hidden = !flat;
  const [low, high] = ends(scale.low, scale.high);
  find("flat-value").textContent = low;
  const below = least(map.maps) < Math.fround(scale.low);
  const above = most(map.maps) > Math.fround(scale.high);
  find("low").textContent = `${below ? "≤ " : ""}${low}`;
  find("high").textContent = `${above ? "≥ " : ""}${high}`;
  const bar = find("legend").querySelector("canvas");
  paintScale(bar, palette);
  bar.setAttribute("aria-label", `Colour scale from ${low} to ${high}`);
}
