// The key of the API: in this tab's storage and nowhere else.

const NAME = "medgemma.key";
let key = null; // for browsers that allow no storage

export function currentKey() {
  if (key !== null) return key;
  try {
    return sessionStorage.getItem(NAME);
  } catch {
    return null;
  }
}

export function useKey(value) {
  key = value;
  try {
    if (value === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, value);
  } catch {
    // It is kept for as long as the page is.
  }
}

/** What the fragment says: #job=ID, #key=KEY. A key leaves the address bar, and its history, at once. */
export function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const given = said.get("key");
  if (given !== null) {
    said.delete("key");
    const rest = said.toString();
    history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
    if (given) useKey(given);
  }
  const job = said.get("job");
  return /^[0-9a-f]{32}$/.test(job ?? "") ? job : null;
}
