const FIRST = { ascending: 1, descending: -1 };

function orderOf(row, column) {
  const entry = row.cells[column];
  return column === 0 ? entry.querySelector(".name").textContent : entry.dataset.order;
}

/** Numbers by value, the rest by text; what is missing comes last in both directions. */
function compare(one, other, direction) {
  if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
  const gap = Number(one) - Number(other);
  return direction * (Number.isNaN(gap) ? one.localeCompare(other) : gap);
}

function sortBy(table, heading) {
  const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", direction);
  const column = heading.cellIndex;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(orderOf(a, column), orderOf(b, column), FIRST[direction]));
  table.tBodies[0].append(...rows);
}

function makeSortable(table) {
  table.querySelectorAll("thead th").forEach((heading) => {
    const button = html("button", { type: "button" }, ...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, heading));
    heading.append(button);
  });
}

/** The names of finished rows choose their cell. */
function makeChoosable(table, choose) {
  for (const row of table.tBodies[0].rows) {
    if (row.querySelector(".status")) continue;
    const name = row.querySelector(".name");
    const button = html("button", { type: "button" }, ...name.childNodes);
    button.addEventListener("click", () => choose(row.dataset.cell));
    name.append(button);
  }
}

/** Hide the rows that do not match; says how many are left. */
function filterRows(table, matches) {
  const rows = [...table.tBodies[0].rows];
  rows.forEach((row) => (row.hidden = !matches(row.dataset)));
  return `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
}

function markRow(table, id) {
  for (const row of table.tBodies[0].rows) row.toggleAttribute("aria-selected", row.dataset.cell === id);
  table.querySelectorAll("[aria-selected]").forEach((row) => row.setAttribute("aria-selected", "true"));
}
