const data = JSON.parse(byId("data").textContent);
const table = byId("results");
const cells = new Map(data.chart.panels.flatMap((panel) => panel.cells.map((cell) => [cell.id, cell])));
const chart = new Chart(data.chart, choose);

/** Show one cell in every section. */
function choose(id) {
  chart.mark(id);
  markRow(table, id);
  showChosen(cells.get(id));
  if (cells.has(id)) showIn("layers", cells.get(id).configuration);
  showIn("utterances", id);
}

const SHOW = {
  layers: (id) => byId("layers-table").replaceChildren(layersTable(data.layers, id)),
  utterances: (id) => byId("utterances-list").replaceChildren(...utterancesNodes(data.utterances, id)),
};

/** Set a section's select box to `id`, if it offers that, and show it. */
function showIn(section, id) {
  const select = byId(`${section}-of`);
  if (!select || ![...select.options].some((option) => option.value === id)) return;
  select.value = id;
  SHOW[section](id);
}

function showChosen(cell) {
  const line = byId("chosen");
  if (!line || !cell) return;
  const links = [["table", "row"], ["layers", "layers"], ["utterances", "transcripts"]];
  line.hidden = false;
  line.replaceChildren(
    html("strong", {}, cell.label),
    ` on ${cell.split}: see its `,
    ...links.flatMap(([id, text], i) => [i ? ", " : "", html("a", { href: `#${id}` }, text)])
  );
}

function setUpChart() {
  const form = byId("filters");
  drawLegend(form, data.chart.libraries);
  setUpFilters(form, (matches) => {
    byId("shown").textContent = filterRows(table, matches);
    chart.show({ matches, across: byId("across")?.value ?? "size", scale: byId("scale").value, intervals: byId("intervals").checked });
  });
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === width) return;
    width = contentRect.width;
    chart.show();
  }).observe(byId("panels"));
}

function setUpSection(section) {
  const select = byId(`${section}-of`);
  if (!select) return;
  select.addEventListener("change", () => SHOW[section](select.value));
  SHOW[section](select.value);
}

/** Open all that is folded up while the page is printed. */
function setUpPrinting() {
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((details) => (details.open = true));
  });
  window.addEventListener("afterprint", () => folded.forEach((details) => (details.open = false)));
}

function setUp() {
  document.documentElement.classList.add("scripted");
  document.querySelectorAll(".controls[hidden]").forEach((controls) => (controls.hidden = false));
  makeSortable(table);
  makeChoosable(table, choose);
  Object.keys(SHOW).forEach(setUpSection);
  if (data.chart.panels.length) setUpChart();
  setUpPrinting();
  const all = [...cells.values()];
  const first = all.find((cell) => cell.scheme !== "none") ?? all[0];
  if (first) choose(first.id);
}

setUp();
