// Files: the list of what stays and goes, searched, and of which only the rows in sight are elements.
const files = data.files;
const count = files.names.length;
const DIRECTORY = 1, GROUP = 8;
const again = new Set(files.again);
const targets = new Map(files.targets);
const more = new Map(files.more);
const groups = new Map(files.groups);
const directories = [""];
for (let n = 1; n < files.dir_names.length; n++) {
  directories.push(`${directories[files.dir_parents[n]]}/${files.strings[files.dir_names[n]]}`);
}

const stays = (n) => n < files.kept;
const nameOf = (n) => groups.has(n) ? `(${counted(groups.get(n), "file", "files")})` : files.strings[files.names[n]];
const above = (n) => `${directories[files.dirs[n]]}/`;
const pathOf = (n) => above(n) + nameOf(n);
const packageOf = (n) => files.packages[n] < 0 ? "" : files.strings[files.packages[n]];
// A directory weighs nothing, nor does a further name of an inode.
const weightOf = (n) => files.kinds[n] === DIRECTORY || again.has(n) ? 0 : files.sizes[n];

const MOST_PIXELS = 4e6; // some browsers refuse much taller elements
const narrow = matchMedia("(max-width: 44rem)");
const found = { query: "", hits: new Uint8Array(count).fill(1), order: [], chosen: -1 };
let small = null; // paths in small letters, for searching

function hits(query) {
  const of = new Uint8Array(count);
  if (!query) return of.fill(1);
  small ??= Array.from({ length: count }, (_, n) => pathOf(n).toLowerCase());
  const strings = new Set(files.packages);
  const packages = new Set([...strings].filter((n) => n >= 0 && files.strings[n].toLowerCase().includes(query)));
  const reasons = files.reasons.map((text) => text.toLowerCase().includes(query));
  const whys = files.why_lists.map((list) => list.some((reason) => reasons[reason]));
  for (let n = 0; n < count; n++) {
    of[n] = small[n].includes(query) || packages.has(files.packages[n]) || (stays(n) && whys[files.whys[n]]) ? 1 : 0;
  }
  return of;
}

function search() {
  found.query = byId("query").value.trim().toLowerCase();
  found.hits = hits(found.query);
  const state = byId("state").value;
  found.order = [];
  for (let n = 0; n < count; n++) {
    if (found.hits[n] && (state === "all" || (state === "kept") === stays(n))) found.order.push(n);
  }
  sort(byId("order").value);
  const matching = found.query ? ` of ${counted(count, "path matches", "paths match")}` : "";
  byId("found").textContent = found.query || state !== "all"
    ? `${found.order.length.toLocaleString("en")}${matching || ` of ${counted(count, "path", "paths")}`}`
    : counted(count, "path", "paths");
  byId("rows").scrollTop = 0;
  rows();
  markMap();
}

function sort(by) {
  const path = (a, b) => files.dirs[a] === files.dirs[b] && stays(a) === stays(b) ? a - b : pathOf(a) < pathOf(b) ? -1 : 1;
  if (by === "bytes") found.order.sort((a, b) => weightOf(b) - weightOf(a) || a - b);
  else if (by === "path") found.order.sort(path);
  else {
    // Those that no package owns come last.
    const owner = (n) => packageOf(n) || "\uffff";
    found.order.sort((a, b) => files.packages[a] === files.packages[b] ? a - b : owner(a) < owner(b) ? -1 : 1);
  }
}

const rowHeight = () => parseFloat(getComputedStyle(document.documentElement).fontSize) * (narrow.matches ? 3.5 : 2);

// How far the list is scrolled, in rows, and its height; a very long one is scrolled faster than its rows move.
function scrolled() {
  const list = byId("rows"), high = rowHeight();
  const whole = found.order.length * high;
  const tall = Math.min(whole, MOST_PIXELS);
  const room = Math.max(tall - list.clientHeight, 1);
  const first = list.scrollTop / room * Math.max(whole - list.clientHeight, 0) / high;
  return { first, tall, high, whole, shown: list.clientHeight / high };
}

// A text with what was searched for marked.
function marked(text) {
  const at = found.query ? text.toLowerCase().indexOf(found.query) : -1;
  if (at < 0) return [text];
  const end = at + found.query.length;
  return [text.slice(0, at), make("mark", {}, text.slice(at, end)), text.slice(end)];
}

function rows() {
  const list = byId("rows"), space = byId("rows-space");
  const { first, tall, high, shown } = scrolled();
  space.style.height = `${tall}px`;
  const from = Math.max(Math.floor(first) - 4, 0), to = Math.min(Math.ceil(first + shown) + 4, found.order.length);
  const made = [];
  for (let at = from; at < to; at++) {
    const n = found.order[at];
    const path = make("span", { class: "path", role: "gridcell", title: pathOf(n) },
      make("span", { class: "dir" }, ...marked(above(n))), make("span", { class: "base" }, ...marked(nameOf(n))));
    const row = make("div", { class: `row ${stays(n) ? "stays" : "goes"}`, role: "row", id: `row-${n}`, "aria-rowindex": at + 1, "aria-selected": n === found.chosen }, path,
      make("span", { role: "gridcell" }, ...marked(packageOf(n))),
      make("span", { role: "gridcell", class: "size" }, files.kinds[n] === DIRECTORY ? "–" : bytes(files.sizes[n])),
      make("span", { role: "gridcell", class: "state" }, stays(n) ? "stays" : "goes"));
    row.style.top = `${(at - first) * high + list.scrollTop}px`;
    row.addEventListener("click", () => choose(n));
    made.push(row);
  }
  space.replaceChildren(...made);
  list.setAttribute("aria-rowcount", found.order.length);
  const sight = found.chosen >= 0 && byId(`row-${found.chosen}`);
  if (sight) list.setAttribute("aria-activedescendant", sight.id);
  else list.removeAttribute("aria-activedescendant");
}

// Brings a place of the list into sight.
function scrollTo(at) {
  const list = byId("rows"), { first, shown, high, whole, tall } = scrolled();
  let wanted = first;
  if (at < first) wanted = at;
  else if (at + 1 > first + shown) wanted = at + 1 - shown;
  const room = Math.max(whole - list.clientHeight, 1);
  list.scrollTop = wanted * high / room * Math.max(tall - list.clientHeight, 0);
}

function choose(n) {
  found.chosen = n;
  // What a search hides is shown by ending it.
  if (!found.order.includes(n)) {
    byId("query").value = "";
    byId("state").value = "all";
    search();
  }
  scrollTo(found.order.indexOf(n));
  rows();
  why(n);
}

// The shortest way from a reason back to one that rests on no other path, as `slim why` tells it.
function back(from, reason) {
  const seen = new Set([from]), queue = [[reason, []]];
  for (let at = 0; at < queue.length; at++) {
    const [here, way] = queue[at];
    const next = files.rests[here];
    if (next === -1) return way;
    if (next === -2 || seen.has(next)) continue;
    seen.add(next);
    for (const other of files.why_lists[files.whys[next]]) queue.push([other, [...way, [other, next]]]);
  }
  return [];
}

const KINDS = ["file", "directory", "symlink", "named pipe", "socket", "character device", "block device", "something", "directory"];

function why(n) {
  const kind = KINDS[files.kinds[n]];
  const mode = files.kinds[n] === GROUP ? "" : `, ${files.modes[n].toString(8).padStart(4, "0")}`;
  const about = [make("h3", { class: "path" }, pathOf(n)), make("p", { class: "note" },
    `${kind}${mode}${files.kinds[n] === DIRECTORY ? "" : `, ${bytes(files.sizes[n])}`}${packageOf(n) && `, of package ${packageOf(n)}`}`)];
  if (targets.has(n)) about.push(make("p", { class: "path" }, `-> ${targets.get(n)}`));
  if (again.has(n)) about.push(make("p", {}, "Another name of a file that is counted already."));
  if (stays(n)) about.push(...reasons(n));
  else if (groups.has(n)) about.push(make("p", {}, "They go: nothing that was kept asked for them. The list of single paths was not beside the report."));
  else about.push(make("p", {}, "Goes: never touched, and nothing that stays asks for it."));
  byId("why").replaceChildren(...about);
  byId("why").scrollTop = 0;
}

function reasons(n) {
  const list = make("ul");
  for (const reason of files.why_lists[files.whys[n]]) {
    const item = make("li", {}, files.reasons[reason]);
    const steps = back(n, reason);
    if (steps.length) {
      const chain = make("ul");
      for (const [step, path] of steps) {
        chain.append(make("li", {}, button(pathOf(path), () => choose(path)), ` ${files.reasons[step]}`));
      }
      item.append(chain);
    }
    list.append(item);
  }
  const rest = more.has(n) ? [make("p", { class: "note" }, `and ${counted(more.get(n), "more reason", "more reasons")} of these kinds`)] : [];
  return [make("p", {}, "Stays:"), list, ...rest];
}

function startFiles() {
  byId("files").hidden = false;
  let waiting = 0;
  byId("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 120);
  });
  byId("query").form.addEventListener("submit", (event) => event.preventDefault());
  byId("state").addEventListener("change", search);
  byId("order").addEventListener("change", search);
  const list = byId("rows");
  list.addEventListener("scroll", () => requestAnimationFrame(rows));
  narrow.addEventListener("change", rows);
  new ResizeObserver(() => requestAnimationFrame(rows)).observe(list);
  list.addEventListener("keydown", (event) => {
    const page = Math.max(Math.floor(scrolled().shown) - 1, 1), end = found.order.length - 1;
    const at = found.order.indexOf(found.chosen);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: end }[event.key];
    if (to === undefined || end < 0) return;
    event.preventDefault();
    choose(found.order[Math.min(Math.max(to, 0), end)]);
  });
}
