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
