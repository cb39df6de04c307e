/** The chart of all panels. `chosen` is called with the id of a cell that is chosen. */
class Chart {
  constructor(data, chosen) {
    this.data = data;
    this.choose = chosen;
    this.view = { scale: "near", intervals: true, matches: () => true, chosen: null };
    this.figures = new Map([...document.querySelectorAll("#panels figure")].map((f) => [f.dataset.split, f]));
  }

  show(changes = {}) {
    Object.assign(this.view, changes);
    hideTooltip();
    this.data.panels.forEach((panel) => this.drawPanel(panel));
    this.mark(this.view.chosen);
  }

  drawPanel(panel) {
    const figure = this.figures.get(panel.split);
    const plot = figure.querySelector(".plot");
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    const x = sizeAxis(panel.cells, EDGES.left + 10, width - EDGES.right - 10);
    const y = errorAxis(panel, this.data.margin, this.view.scale, height - EDGES.bottom, EDGES.top);
    const cells = panel.cells.filter(this.view.matches);
    const important = (cell) => (cell.library === "none" ? 2 : panel.frontier.includes(cell.id) ? 1 : 0);
    const marks = placed(cells, x, y, width, important);
    const drawing = svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `Size and word error rate on ${panel.split}` },
      ...drawGrid(x, y, width, height),
      ...drawBaselines(panel, this.data.margin, y, width),
      drawFrontier(panel, x, y, width),
      ...marks.map((mark) => this.drawInterval(mark, y)),
      ...marks.flatMap(drawLeader),
      ...marks.map((mark) => this.drawReachable(figure, mark))
    );
    plot.replaceChildren(drawing);
    makeRoving(drawing);
  }

  drawInterval(mark, y) {
    const hidden = this.view.intervals ? "" : " quiet";
    return svg("g", { class: `uncertainty${hidden}`, "data-of": mark.cell.id }, ...drawWhisker(mark, y));
  }

  drawReachable(figure, mark) {
    const library = this.data.libraries[mark.cell.library];
    const node = drawMark(mark, library, this.data.models.indexOf(mark.cell.model));
    const show = () => {
      showTooltip(figure, mark.cell, mark.x, mark.y);
      this.lift(figure, mark.cell.id);
    };
    const hide = () => {
      hideTooltip();
      this.lift(figure, null);
    };
    const choose = () => {
      this.choose(mark.cell.id);
      show();
    };
    node.addEventListener("pointerenter", show);
    node.addEventListener("pointerleave", hide);
    node.addEventListener("focus", show);
    node.addEventListener("blur", hide);
    node.addEventListener("click", choose);
    node.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose();
    });
    return node;
  }

  /** Bring out the interval of the cell under the pointer. */
  lift(figure, id) {
    figure.querySelectorAll(".uncertainty").forEach((node) => node.classList.toggle("near", node.dataset.of === id));
  }

  mark(id) {
    this.view.chosen = id;
    document.querySelectorAll(".mark").forEach((node) => node.setAttribute("aria-pressed", node.dataset.cell === id));
    document.querySelectorAll(".uncertainty").forEach((node) => node.classList.toggle("chosen-mark", node.dataset.of === id));
  }
}

/** One stop of the tabulator for all marks; the arrow keys go from one to the next. */
function makeRoving(drawing) {
  const marks = [...drawing.querySelectorAll(".mark")];
  marks[0]?.setAttribute("tabindex", 0);
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  drawing.addEventListener("keydown", (event) => {
    const at = marks.indexOf(document.activeElement);
    const ends = { Home: 0, End: marks.length - 1 };
    const next = marks[ends[event.key] ?? (event.key in steps ? at + steps[event.key] : NaN)];
    if (!next) return;
    event.preventDefault();
    marks[at].setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
}
