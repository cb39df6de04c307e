/** The filters of a board: levels that are ticked, and a largest size. */
function setUpBoard() {
  const [table, form, largest] = [byId("results"), byId("filters"), byId("largest")];
  makeSortable(table);
  form.hidden = false;
  setUpFilters(form, (matches) => {
    const limit = Number(largest.value) || Infinity;
    byId("shown").textContent = filterRows(table, (levels) => matches(levels) && Number(levels.size) <= limit);
  });
  form.dispatchEvent(new Event("change"));
}

setUpBoard();
