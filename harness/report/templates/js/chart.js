/** The chart of all panels. `chosen` is called with the id of a cell that is chosen. */
class Chart {
  constructor(data, chosen) {
    this.data = data;
    this.choose = chosen;
    this.view = { across: "size", scale: "near", intervals: true, matches: () => true, chosen: null };
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
    delete figure.dataset.pointed;
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    const across = { name: this.view.across, ...this.data.axes[this.view.across] };
    const drawn = panel.cells.filter((cell) => cell[across.name] !== null);
    const published = across.name === "size" ? panel.published : [];
    const x = priceAxis([...drawn, ...published], across, EDGES.left + 10, width - EDGES.right - 10);
    const y = errorAxis(panel, this.data.margin, this.view.scale, height - EDGES.bottom, EDGES.top);
    const near = published.filter(({ wer }) => wer <= y.high);
    const cells = drawn.filter(this.view.matches);
    const frontier = panel.frontiers[across.name];
    const important = (cell) => (cell.library === "none" ? 2 : frontier.includes(cell.id) ? 1 : 0);
    const marks = placed(cells, across, x, y, width, important);
    const drawing = svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${panel.rate} and ${across.quantity} on ${panel.split}` },
      ...drawGrid(across, panel.rate, x, y, width, height),
      ...drawBaselines(panel, this.data.margin, y, width),
      drawFrontier(panel, frontier, across, x, y, width),
      ...marks.map((mark) => this.drawInterval(mark, y)),
      ...drawPublished(near, x, y),
      ...marks.flatMap(drawLeader),
      ...marks.map((mark) => this.drawFocusable(figure, mark))
    );
    plot.replaceChildren(drawing);
    this.makePointable(figure, drawing, marks);
    makeRoving(drawing);
  }

  drawInterval(mark, y) {
    const hidden = this.view.intervals ? "" : " quiet";
    return svg("g", { class: `uncertainty${hidden}`, "data-of": mark.cell.id }, ...drawWhisker(mark, y));
  }

  drawFocusable(figure, mark) {
    const library = this.data.libraries[mark.cell.library];
    const node = drawMark(mark, library, this.data.models.indexOf(mark.cell.model));
    node.addEventListener("focus", () => this.point(figure, mark));
    node.addEventListener("blur", () => this.point(figure, null));
    node.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.point(figure, null);
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.choose(mark.cell.id);
      this.point(figure, mark);
    });
    return node;
  }

  /** A pointer or finger anywhere in the panel means the nearest mark. */
  makePointable(figure, drawing, marks) {
    const meant = (event) => {
      const box = drawing.getBoundingClientRect();
      return nearestMark(marks, event.clientX - box.left, event.clientY - box.top);
    };
    drawing.addEventListener("pointermove", (event) => this.point(figure, meant(event)));
    drawing.addEventListener("pointerleave", () => this.point(figure, null));
    drawing.addEventListener("click", (event) => {
      const mark = meant(event);
      if (!mark) return;
      this.choose(mark.cell.id);
      drawing.querySelector(`[data-cell="${mark.cell.id}"]`).focus({ preventScroll: true });
      this.point(figure, mark);
    });
  }

  /** Show the details of a mark and bring out its interval; of none, where it is null. */
  point(figure, mark) {
    const id = mark?.cell.id ?? "";
    if ((figure.dataset.pointed ?? "") === id) return;
    figure.dataset.pointed = id;
    if (mark) showTooltip(figure, mark.cell, mark.x, mark.y);
    else hideTooltip();
    figure.querySelectorAll(".uncertainty").forEach((node) => node.classList.toggle("near", node.dataset.of === id));
    figure.querySelectorAll(".mark").forEach((node) => node.classList.toggle("pointed", node.dataset.cell === id));
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
