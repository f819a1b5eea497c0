// The jobs that this browser asked about: ids and times, and nothing that was asked.

const NAME = "medgemma.jobs";
const MOST = 12;

export function remembered() {
  try {
    const found = JSON.parse(localStorage.getItem(NAME) ?? "[]");
    return found.filter(({ id, at }) => /^[0-9a-f]{32}$/.test(id) && Number.isFinite(at));
  } catch {
    return [];
  }
}

function keep(jobs) {
  try {
    if (jobs.length) localStorage.setItem(NAME, JSON.stringify(jobs.slice(0, MOST)));
    else localStorage.removeItem(NAME);
  } catch {
    // A browser that allows no storage remembers none.
  }
}

export function remember(id) {
  const others = remembered().filter((job) => job.id !== id);
  keep([{ id, at: Date.now() }, ...others]);
}

/** A job that was opened by its address is remembered as well, in its place if it was. */
export function rememberIfNew(id) {
  if (!remembered().some((job) => job.id === id)) remember(id);
}

export const forget = (id) => keep(remembered().filter((job) => job.id !== id));
export const forgetAll = () => keep([]);
