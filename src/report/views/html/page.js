// Page: the report's data put on the page. Every text goes in as a text node, none is ever read as markup.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// An element with attributes and children; a child that is no element is a text.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function button(text, click) {
  const element = make("button", { type: "button" }, text);
  element.addEventListener("click", click);
  return element;
}

// `68.1 MB`: decimal units, three digits.
function bytes(n) {
  if (n < 1000) return `${n} B`;
  let value = n / 1000, unit = 0;
  for (; value >= 999.5 && unit < 5; unit++) value /= 1000;
  return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${["kB", "MB", "GB", "TB", "PB", "EB"][unit]}`;
}

const counted = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

// Bars of the image before and after, each pair to its own scale.
function sizes() {
  const bars = make("div", { class: "bars" });
  for (const [name, before, after, figures] of data.sizes) {
    const most = Math.max(before, after, 1); // without one of them there is nothing to compare
    const pair = make("div", { class: "pair", "aria-hidden": "true" });
    for (const [kind, value] of [["before", before], ["kept", after]]) {
      if (before === null || after === null) continue;
      const bar = make("span", { class: `bar ${kind}` });
      bar.style.width = `${value / most * 100}%`;
      pair.append(bar);
    }
    bars.append(make("div", { class: "entry" }, make("span", { class: "name" }, name), pair, make("span", { class: "figures" }, figures)));
  }
  return bars;
}

// A time line: when each phase began, and how long it took.
function times() {
  const whole = Math.max(...data.phases.map(([, begun, seconds]) => begun + seconds)) || 1;
  const bars = make("div", { class: "bars times" });
  for (const [name, begun, seconds, figures] of data.phases) {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${seconds / whole * 100}%`;
    bar.style.marginLeft = `${Math.min(begun / whole * 100, 99)}%`;
    const pair = make("div", { class: "pair", "aria-hidden": "true" }, bar);
    bars.append(make("div", { class: "entry" }, make("span", { class: "name" }, name), pair, make("span", { class: "figures" }, figures)));
  }
  return bars;
}

// One column is a list. Roles are spelled out, for on a phone the rows are laid out as blocks.
function table({ head, right, rows }) {
  if (head.length === 1) return make("ul", {}, ...rows.map(([text]) => make("li", {}, text)));
  const side = (n) => right.includes(n) ? { class: "right" } : {};
  const names = head.map((name, n) => make("th", { scope: "col", role: "columnheader", ...side(n) }, name));
  const body = make("tbody", { role: "rowgroup" });
  for (const row of rows) {
    const cells = row.map((cell, n) => make("td", { role: "cell", "data-head": head[n], ...side(n) }, cell));
    body.append(make("tr", { role: "row" }, ...cells));
  }
  return make("table", { role: "table" }, make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...names)), body);
}

// A section that can be closed; what is in it is made when it is opened first.
function folded(title, open, content) {
  const details = make("details", {}, make("summary", {}, make("h2", {}, title)));
  const fill = () => {
    details.removeEventListener("toggle", fill);
    details.append(...content());
  };
  if (open) {
    fill();
    details.open = true;
  } else {
    details.addEventListener("toggle", fill);
  }
  return details;
}

function listed(one) {
  return folded(one.title, one.open, () => {
    const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": one.title }, table(one));
    return one.note ? [make("p", { class: "note" }, one.note), scroll] : [scroll];
  });
}

function sections() {
  const first = byId("first"), rest = byId("rest");
  first.append(...data.first.map(listed));
  if (data.sizes.length) {
    const note = make("p", { class: "note" }, data.floor);
    first.append(make("section", { "aria-labelledby": "size-title" }, make("h2", { id: "size-title" }, "Before and after"), sizes(), note));
  }
  first.append(make("div", { class: "beside" }, ...data.second.map(listed)));
  rest.append(...data.rest.map(listed));
  if (data.phases.length) rest.append(folded("Time", false, () => [times()]));
}

// When the rest of the script has been read, too.
document.addEventListener("DOMContentLoaded", () => {
  sections();
  if (count > 0) {
    startFiles();
    startMap();
  }
  document.documentElement.dataset.ready = "yes";
});
