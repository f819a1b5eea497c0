// The words of the answer, and what else was explained, as buttons. They stay spans in a paragraph,
// so that they break over lines and keep their place in text that runs from right to left.

const words = [...document.querySelectorAll(".word")].map((element) => ({
  element,
  targets: element.dataset.targets.split(" ").map(Number),
}));

function asButton(element, act) {
  element.setAttribute("role", "button");
  element.addEventListener("click", act);
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act();
  });
}

// Arrow keys go from one to the next as the text runs, and choose it; Tab enters at the chosen one.
function rove(elements, act) {
  elements.forEach((element, at) => {
    element.addEventListener("keydown", (event) => {
      const back = getComputedStyle(element.parentElement).direction === "rtl" ? 1 : -1;
      const to = {
        ArrowLeft: at + back, ArrowRight: at - back, ArrowUp: at - 1, ArrowDown: at + 1,
        Home: 0, End: elements.length - 1,
      }[event.key];
      if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const next = elements[Math.min(elements.length - 1, Math.max(0, to))];
      next.focus();
      act(next);
    });
  });
}

function press(elements, isChosen) {
  const chosen = elements.map(isChosen);
  elements.forEach((element, k) => {
    element.classList.toggle("chosen", chosen[k]);
    element.setAttribute("aria-pressed", String(chosen[k]));
    element.tabIndex = chosen[k] || (k === 0 && !chosen.includes(true)) ? 0 : -1;
  });
}

const same = (one, other) => one.join() === other.join();

// Of a word of several tokens: the whole, and each token on its own.
function showPieces(word, indices) {
  const row = find("pieces");
  row.hidden = !word || word.targets.length < 2;
  if (row.hidden) return;
  const kept = row.dataset.of === word.targets.join();
  if (!kept) {
    row.dataset.of = word.targets.join();
    row.replaceChildren(document.createElement("span"));
    row.firstChild.textContent = "Token by token";
    [word.targets, ...word.targets.map((one) => [one])].forEach((targets, k) => {
      const piece = document.createElement("span");
      piece.className = "word";
      piece.dataset.targets = targets.join(" ");
      piece.append(document.createElement("bdi"));
      piece.firstChild.textContent = k ? data.targets[targets[0]].label : "whole word";
      asButton(piece, () => page.choose(targets));
      row.append(" ", piece);
    });
    const pieces = [...row.querySelectorAll(".word")];
    rove(pieces, (piece) => page.choose(piece.dataset.targets.split(" ").map(Number)));
  }
  press([...row.querySelectorAll(".word")], (piece) => piece.dataset.targets === indices.join(" "));
}

function showChosen(indices) {
  if (data.targets.length < 2) return;
  const word = words.find((one) => same(one.targets, indices)) ??
    words.find((one) => one.targets.includes(indices[0]));
  press(words.map((one) => one.element), (element) => element === word?.element);
  showPieces(word, indices);
  const whole = indices.length > 1;
  find("title").firstChild.textContent = whole
    ? `“${word.element.textContent}”` : data.targets[indices[0]].label;
  find("mean").textContent = whole ? `mean of its ${indices.length} tokens` : "";
}

function setUpWords() {
  if (data.targets.length < 2) return;
  const elements = words.map((one) => one.element);
  const choose = (element) => page.choose(words.find((one) => one.element === element).targets);
  elements.forEach((element) => asButton(element, () => choose(element)));
  rove(elements, choose);
  find("hint").hidden = false;
}
