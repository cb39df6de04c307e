/** The levels that are ticked, by the name of their filter. */
function tickedLevels(form) {
  const fieldsets = [...form.querySelectorAll("[data-filter]")];
  return new Map(
    fieldsets.map((set) => [set.dataset.filter, new Set([...set.querySelectorAll("input:checked")].map((i) => i.value))])
  );
}

/** Whether something with these levels passes all filters. */
function passes(ticked, levels) {
  return [...ticked].every(([name, values]) => values.has(levels[name]));
}

function drawLegend(form, libraries) {
  form.querySelectorAll('[data-filter="library"] .chip').forEach((chip) => {
    chip.querySelector(".symbol").append(symbol(libraries[chip.querySelector("input").value]));
  });
}

/** Call `apply` with the test that cells must pass, now and whenever a filter changes. */
function setUpFilters(form, apply) {
  const update = () => {
    const ticked = tickedLevels(form);
    apply((levels) => passes(ticked, levels));
  };
  form.addEventListener("change", update);
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("submit", (event) => event.preventDefault());
}
