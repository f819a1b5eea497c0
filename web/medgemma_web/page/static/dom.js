// Small ways to reach and to make elements. Text is only ever set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Say something to those who hear the page; the same words twice are said twice. */
export function say(text) {
  const live = $("live");
  live.textContent = live.textContent === text ? `${text}\u00a0` : text;
}

/** Show one part of the page, and let the keyboard and the reader begin there. */
export function show(id) {
  for (const part of document.querySelectorAll("main > section")) part.hidden = part.id !== id;
  window.scrollTo(0, 0);
}

export function focusTitle(id) {
  $(id).querySelector("h2").focus({ preventScroll: true });
}

export function sleep(milliseconds, signal) {
  return new Promise((done, fail) => {
    const stop = () => {
      clearTimeout(timer);
      fail(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      done();
    }, milliseconds);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
}
