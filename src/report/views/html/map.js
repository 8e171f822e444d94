// Map: a treemap of bytes by directory or by package, in which one can go down and come back.
const LEVELS = 5, LEAST_AREA = 160; // of a cell, in pixels
const map = { at: null, roots: {}, by: "directory" };

// A place in the map: what is below it, in total and directly.
function place(name, path, parent) {
  const made = { name, path, parent, children: [], entries: [], kept: 0, gone: 0, hits: 0 };
  parent?.children.push(made);
  return made;
}

function directoryPlaces() {
  const places = [place("/", "/", null)];
  for (let n = 1; n < directories.length; n++) {
    places.push(place(files.strings[files.dir_names[n]], directories[n], places[files.dir_parents[n]]));
  }
  return [places, (n) => places[files.dirs[n]]];
}

function packagePlaces() {
  const places = [place("all packages", "all packages", null)], of = new Map();
  for (const owner of new Set(files.packages)) {
    const name = owner < 0 ? "of no package" : files.strings[owner];
    of.set(owner, place(name, name, places[0]));
    places.push(of.get(owner));
  }
  return [places, (n) => of.get(files.packages[n])];
}

// The places of one arrangement with their sums; parents stand before their children.
function arrange(by) {
  const [places, placeOf] = by === "directory" ? directoryPlaces() : packagePlaces();
  for (let n = 0; n < count; n++) {
    const weight = weightOf(n);
    if (weight === 0) continue;
    const here = placeOf(n);
    here.entries.push(n);
    here[stays(n) ? "kept" : "gone"] += weight;
  }
  for (let n = places.length - 1; n > 0; n--) {
    places[n].parent.kept += places[n].kept;
    places[n].parent.gone += places[n].gone;
  }
  return { places, root: places[0] };
}

function rooted() {
  map.roots[map.by] ??= arrange(map.by);
  return map.roots[map.by];
}

const heavier = (a, b) => b.kept + b.gone - a.kept - a.gone;

// What is directly in a place, heaviest first; a file is a place without anything in it.
function parts(here) {
  const leaves = here.entries.map((n) => ({
    name: nameOf(n), path: pathOf(n), file: n, hits: found.hits[n],
    kept: stays(n) ? weightOf(n) : 0, gone: stays(n) ? 0 : weightOf(n),
  }));
  return [...here.children, ...leaves].filter((part) => part.kept + part.gone > 0).sort(heavier);
}

// Squarified treemap (Bruls, Huizing, van Wijk): rows of parts that are as square as they can be.
function layout(all, { x, y, w, h }) {
  const whole = all.reduce((sum, part) => sum + part.kept + part.gone, 0);
  const areas = all.map((part) => (part.kept + part.gone) / whole * w * h);
  const boxes = [];
  for (let from = 0; from < areas.length && w > 0 && h > 0;) {
    const side = Math.min(w, h);
    let sum = 0, worst = Infinity, to = from;
    for (; to < areas.length; to++) {
      const next = sum + areas[to];
      const ratio = Math.max(side * side * areas[from] / (next * next), next * next / (side * side * areas[to]));
      if (ratio > worst) break;
      [sum, worst] = [next, ratio];
    }
    const thick = sum / side;
    let along = 0;
    for (; from < to; from++) {
      const long = areas[from] / thick;
      boxes.push(w >= h ? { x, y: y + along, w: thick, h: long } : { x: x + along, y, w: long, h: thick });
      along += long;
    }
    if (w >= h) [x, w] = [x + thick, w - thick];
    else [y, h] = [y + thick, h - thick];
  }
  return boxes;
}

function said(part) {
  const both = [part.kept && `${bytes(part.kept)} stay`, part.gone && `${bytes(part.gone)} go`].filter(Boolean).join(", ");
  return `${part.path}: ${both}`;
}

function cell(part, box, isFrame) {
  const share = part.kept / (part.kept + part.gone);
  const kind = isFrame ? "frame" : share === 1 ? "kept" : share === 0 ? "gone" : "some";
  const made = make("button", { type: "button", class: `cell ${kind}${part.hits ? " hit" : ""}`, tabindex: "-1", title: said(part), "aria-label": said(part) });
  for (const [name, value] of [["left", box.x], ["top", box.y], ["width", box.w], ["height", box.h]]) made.style[name] = `${value}px`;
  made.style.setProperty("--share", `${share * 100}%`);
  if (box.w > 36 && box.h > 16) {
    const label = make("span", {}, part.name);
    if (!isFrame && box.h > 36) label.append(make("small", {}, bytes(part.kept + part.gone)));
    made.append(label);
  }
  made.addEventListener("click", () => enter(part));
  return made;
}

function draw(here, box, level, cells) {
  const all = parts(here);
  const whole = all.reduce((sum, part) => sum + part.kept + part.gone, 0);
  const big = all.filter((part) => (part.kept + part.gone) / whole * box.w * box.h >= LEAST_AREA);
  const rest = all.slice(big.length);
  if (rest.length) {
    const sum = (of) => rest.reduce((total, part) => total + of(part), 0);
    const name = counted(rest.length, "smaller one", "smaller ones");
    big.push({ name, path: `${here.path}: ${name}`, kept: sum((p) => p.kept), gone: sum((p) => p.gone), hits: sum((p) => p.hits), rest: here });
  }
  big.sort(heavier);
  layout(big, box).forEach((inner, n) => {
    if (inner.w < 2 || inner.h < 2) return;
    const part = big[n];
    const isFrame = Boolean(part.children) && level < LEVELS && inner.w > 90 && inner.h > 70;
    cells.push(cell(part, inner, isFrame));
    if (isFrame) draw(part, { x: inner.x + 3, y: inner.y + 20, w: inner.w - 6, h: inner.h - 23 }, level + 1, cells);
  });
}

function drawMap() {
  const field = byId("map-cells");
  const had = field.contains(document.activeElement);
  const cells = [];
  draw(map.at, { x: 0, y: 0, w: field.clientWidth, h: field.clientHeight }, 1, cells);
  field.replaceChildren(...cells);
  field.classList.toggle("searching", found.query !== "");
  if (cells.length) cells[0].tabIndex = 0;
  if (had) cells[0]?.focus();
  const way = [];
  for (let here = map.at; here; here = here.parent) way.unshift(here);
  byId("map-path").replaceChildren(...way.map((here) => {
    const step = button(here.name, () => enter(here));
    if (here === map.at) step.setAttribute("aria-current", "location");
    return make("li", {}, step);
  }));
  byId("map-back").disabled = !map.at.parent;
}

// Goes to a place; a file is shown in the list.
function enter(part) {
  if (part.file !== undefined) {
    choose(part.file);
    byId("rows").focus();
    return;
  }
  // What is too small to be drawn is in the list.
  if (part.rest) {
    byId("query").value = map.by === "directory" || part.rest.parent ? part.rest.path : "";
    search();
    byId("query").focus();
    return;
  }
  map.at = part;
  drawMap();
  byId("map-said").textContent = said(part);
}

function leave() {
  if (map.at.parent) enter(map.at.parent);
}

// How much of what is searched for lies in each place.
function markMap() {
  if (!map.at) return;
  for (const { places } of Object.values(map.roots)) {
    for (const here of places) here.hits = here.entries.reduce((sum, n) => sum + (found.query ? found.hits[n] : 0), 0);
    for (let n = places.length - 1; n > 0; n--) places[n].parent.hits += places[n].hits;
  }
  drawMap();
}

function move(event) {
  const cells = [...byId("map-cells").children];
  const at = cells.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: cells.length - 1 }[event.key];
  if (event.key === "Backspace" || event.key === "Escape") leave();
  else if (to === undefined || !cells[to]) return;
  else {
    cells.forEach((other, n) => { other.tabIndex = n === to ? 0 : -1; });
    cells[to].focus();
  }
  event.preventDefault();
}

function startMap() {
  byId("map").hidden = false;
  const start = () => {
    map.at = rooted().root;
    markMap();
  };
  for (const choice of document.getElementsByName("by")) {
    choice.addEventListener("change", () => {
      map.by = choice.value;
      start();
    });
  }
  byId("map-back").addEventListener("click", leave);
  byId("map-cells").addEventListener("keydown", move);
  start();
  let width = byId("map-cells").clientWidth;
  new ResizeObserver(() => {
    if (byId("map-cells").clientWidth === width) return;
    width = byId("map-cells").clientWidth;
    drawMap();
  }).observe(byId("map-cells"));
  search();
}
