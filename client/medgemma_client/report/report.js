"use strict";
(() => {
  const slider = document.getElementById("opacity");
  if (!slider) return;
  const value = document.getElementById("opacity-value");
  const apply = () => {
    document.documentElement.style.setProperty("--opacity", slider.value / 100);
    value.textContent = slider.value + " %";
  };
  slider.addEventListener("input", apply);
  document.getElementById("controls").hidden = false;
  apply();
})();
(() => {
  // In a frame of another page: tell it how tall this one is.
  if (window.parent === window) return;
  const root = document.documentElement;
  const tell = () => window.parent.postMessage({ reportHeight: root.offsetHeight }, "*");
  new ResizeObserver(tell).observe(root);
})();
