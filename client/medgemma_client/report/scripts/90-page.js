// The page as a whole: what is chosen, and what follows from it.

const page = {
  targets: [],
  shown: null,
  map: null,
  scale: null,
  palette: data.palettes[0],
  fine: false,
  all: false,
  sliced: document.querySelector(".films.sliced") !== null,
  noun: document.querySelector(".films").dataset.noun,

  choose(indices) {
    page.targets = indices;
    page.shown = view(indices);
    if (page.sliced) { drawStrip(); mark(); }
    showChosen(indices);
    drawShares(page.shown);
    drawTokens(page.shown);
    drawBoxes(page.shown);
    page.draw();
  },

  draw() {
    page.map = layer(page.shown, page.fine);
    page.scale = page.all ? wholeRange(page.fine) : page.map;
    drawLegend(page.map, page.scale, page.palette);
    page.drawFilms();
    page.drawZones();
    read();
  },

  drawFilms() {
    for (const film of films) {
      const classes = film.figure.classList;
      if (page.sliced && !classes.contains("current") && !classes.contains("matters")) continue;
      drawFilm(film, page.map, page.scale, page.shown.images[film.index], page.palette);
    }
  },

  drawZones() {
    for (const table of document.querySelectorAll(".zones")) {
      drawZoneTable(table, page.shown, page.sliced ? slices.at : Number(table.dataset.image));
    }
  },
};

function setUpTools() {
  find("tools").hidden = false;
  const opacity = find("opacity");
  const fade = () => {
    document.documentElement.style.setProperty("--opacity", opacity.value / 100);
    find("opacity-value").textContent = `${opacity.value}%`;
  };
  opacity.addEventListener("input", fade);
  fade();
  const on = (name, act) => {
    for (const input of document.getElementsByName(name)) {
      input.addEventListener("change", () => { act(input.value); page.draw(); });
    }
  };
  on("palette", (name) => { page.palette = data.palettes.find((one) => one.name === name); });
  on("grid", (name) => { page.fine = name === "fine"; });
  on("scale", (name) => { page.all = name === "all"; });
  find("boxes")?.addEventListener("change", (event) => {
    document.querySelector("svg.boxes").toggleAttribute("hidden", !event.target.checked);
  });
  const bar = document.createElement("canvas");
  bar.setAttribute("role", "img");
  find("legend").querySelector(".bar").replaceChildren(bar);
}

document.documentElement.classList.add("live");
setUpTools();
setUpWords();
// What the page shows without this script, or the whole word that it is the first token of.
const first = words.find((one) => one.targets.includes(0))?.targets ?? [0];
if (page.sliced) {
  setUpSlices();
  page.shown = view(first);
  page.map = page.scale = layer(page.shown, false);
  showSlice(peakSlice());
}
page.choose(first);
