"use strict";
// Plots, the filter of the predictions, and the graph. Without this script all text of the page is still there.

const plots = JSON.parse(document.getElementById("plots").textContent);

const shared = {
  margin: { l: 54, r: 12, t: 12, b: 46 }, paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff",
  font: { size: 12, color: "#1b1b1b", family: "system-ui, Liberation Sans, Arial, sans-serif" },
  hovermode: "closest", showlegend: false, bargap: 0,
};
const axis = { zeroline: false, linecolor: "#1b1b1b", gridcolor: "#e4e4e4", ticks: "outside", automargin: true };

function draw(element) {
  const { data, layout } = plots[element.id];
  // a finger that scrolls the page must not zoom the plot
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  Plotly.newPlot(element, data, {
    ...shared, ...layout, dragmode, xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  }, { responsive: true, displaylogo: false, displayModeBar: false, doubleClick: "reset" });
}

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }
}, { rootMargin: "800px" });
for (const element of document.querySelectorAll(".plot")) near.observe(element);

// ---------------------------------------------------------------- the first figure

const said = document.getElementById("overview-says");
for (const row of document.querySelectorAll("#overview [tabindex]")) {
  for (const how of ["mouseenter", "focus", "click"]) {
    row.addEventListener(how, () => { said.textContent = row.getAttribute("aria-label"); });
  }
}
if (said) said.hidden = false;

// ---------------------------------------------------------------- predictions

const form = document.getElementById("filter");
const rows = [...document.querySelectorAll("#predictions .row")].map((li) => ({ li, words: li.textContent.toLowerCase() }));
const folds = [...document.querySelectorAll("#predictions .fold")].map((fold) => ({ fold, open: fold.open }));
const fields = ["run", "kind", "verdict", "claim"];

function filter() {
  const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { li, words: said } of rows) {
    const fits = fields.every((f) => !form.elements[f].value || form.elements[f].value === li.dataset[f])
      && words.every((w) => said.includes(w));
    li.hidden = !fits;
    shown += fits;
  }
  const chosen = words.length || fields.some((f) => form.elements[f].value);
  for (const { fold, open } of folds) {
    fold.hidden = !fold.querySelector(".row:not([hidden])");
    fold.open = chosen ? !fold.hidden : open;
  }
  document.getElementById("count").textContent = `${shown} of ${rows.length} predictions`;
}

form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
for (const link of document.querySelectorAll("a.filter")) {
  link.addEventListener("click", () => {
    form.reset();
    for (const f of fields) form.elements[f].value = link.dataset[f] ?? "";
    filter();
  });
}
filter(); // a browser may keep what was chosen before a reload

// ---------------------------------------------------------------- what is folded

function open() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) {
    if (at instanceof HTMLDetailsElement) at.open = true;
  }
  const fold = target.closest("details");
  (fold ?? target).scrollIntoView();
  fold?.querySelector("summary").focus({ preventScroll: true });
}
addEventListener("hashchange", open);
open();
// the same link once more changes no hash
for (const link of document.querySelectorAll('a[href^="#"]')) {
  link.addEventListener("click", () => { if (link.getAttribute("href") === location.hash) open(); });
}

for (const all of document.querySelectorAll(".unfold")) {
  all.addEventListener("click", () => {
    const folds = [...all.closest("section").querySelectorAll("details.claim, details.fold")];
    const folded = folds.some((fold) => !fold.open);
    for (const fold of folds) fold.open = folded;
  });
}

for (const node of document.querySelectorAll("#graph a")) {
  const mark = (on) => {
    for (const edge of document.querySelectorAll("#graph .edge")) {
      const ends = edge.dataset.ends.split(" ");
      if (!ends.includes(node.id.slice("node-".length))) continue;
      edge.classList.toggle("near", on);
      for (const end of ends) document.getElementById(`node-${end}`).classList.toggle("near", on);
    }
  };
  for (const [event, on] of [["mouseenter", true], ["focus", true], ["mouseleave", false], ["blur", false]]) {
    node.addEventListener(event, () => mark(on));
  }
}

// ---------------------------------------------------------------- methods: the table of one set of experts at a time

const experts = document.querySelector("#experts select");
if (experts) {
  const choose = () => {
    for (const table of document.querySelectorAll(".ways")) table.hidden = table.id !== experts.value;
  };
  const size = (option) => document.getElementById(option.value).querySelectorAll("tbody tr").length;
  experts.value = [...experts.options].reduce((a, b) => (size(b) > size(a) ? b : a)).value;
  experts.addEventListener("change", choose);
  choose();
}

// ---------------------------------------------------------------- tables whose heads sort

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, i) => Number(row.cells[i].dataset.value ?? NaN);
  heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
    const falling = head.getAttribute("aria-sort") !== "descending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const order = (a, b) => (value(b, i) - value(a, i) || 0) || b.cells[i].textContent.localeCompare(a.cells[i].textContent);
    body.append(...[...body.rows].sort((a, b) => (falling ? order(a, b) : -order(a, b))));
  }));
}
