const EDGES = { left: 46, right: 14, top: 40, bottom: 46 };
const RADIUS = 5.5;
const VALUE_WIDTH = 40;
const CROWDED = 0.04;
const REACH = 22;

/** Cells with the place of their marks: x and y, moved aside where marks would hide each other. */
function placed(cells, across, x, y, width, important) {
  const marks = [];
  for (const cell of [...cells].sort((a, b) => important(b) - important(a) || a[across.name] - b[across.name])) {
    const beyond = cell.wer > y.high;
    const mark = { cell, beyond, trueX: x.place(cell[across.name]), y: beyond ? EDGES.top - 12 : y.place(cell.wer) };
    mark.x = freePlace(mark, marks, width);
    marks.push(mark);
  }
  return marks.sort((a, b) => a.x - b.x || a.y - b.y);
}

/** The x nearest to the true one at which the mark hides no other; where marks crowd, they may touch. */
function freePlace(mark, others, width) {
  const [wide, farthest] = mark.beyond ? [VALUE_WIDTH, width] : [0, CROWDED * width];
  for (const room of [2.5 * RADIUS, 1.7 * RADIUS]) {
    const x = nearestFree(mark, others, width, Math.max(room, wide), room, farthest);
    if (x !== undefined) return x;
  }
  mark.crowded = true;
  return nearestFree(mark, others, width, 1.2 * RADIUS, 1.2 * RADIUS, width) ?? mark.trueX;
}

function nearestFree(mark, others, width, wide, high, farthest) {
  const hides = (x) => others.some((o) => Math.hypot((x - o.x) / wide, (mark.y - o.y) / high) < 1);
  const inside = (x) => x >= EDGES.left + RADIUS && x <= width - EDGES.right - RADIUS;
  const shifts = Array.from({ length: Math.ceil(farthest) }, (_, i) => i);
  const places = shifts.flatMap((shift) => [mark.trueX + shift, mark.trueX - shift]);
  return places.find((x) => inside(x) && !hides(x));
}

/** The mark nearest to a point of the panel, if it is within reach of a finger. */
function nearestMark(marks, x, y) {
  const far = (mark) => Math.hypot(mark.x - x, mark.y - y);
  const nearest = marks.reduce((best, mark) => (best && far(best) <= far(mark) ? best : mark), null);
  return nearest && far(nearest) <= REACH ? nearest : null;
}

function drawGrid(across, rate, x, y, width, height) {
  const [left, right, bottom] = [EDGES.left, width - EDGES.right, height - EDGES.bottom];
  return [
    ...y.ticks.flatMap((value) => [
      svg("line", { class: "grid", x1: left, x2: right, y1: y.place(value), y2: y.place(value) }),
      svg("text", { x: left - 8, y: y.place(value) + 4, "text-anchor": "end" }, tickText(value)),
    ]),
    ...x.ticks.flatMap((value) => [
      svg("line", { class: "frame", x1: x.place(value), x2: x.place(value), y1: bottom, y2: bottom + 5 }),
      svg("text", { x: x.place(value), y: bottom + 19, "text-anchor": "middle" }, tickText(value)),
    ]),
    svg("line", { class: "frame", x1: left, x2: right, y1: bottom, y2: bottom }),
    svg("text", { x: right, y: height - 8, "text-anchor": "end" }, across.label),
    svg("text", { x: 0, y: 12 }, `${rate}, %`),
  ];
}

function drawBaselines(panel, margin, y, width) {
  const [left, right] = [EDGES.left, width - EDGES.right];
  return panel.baselines.flatMap(({ wer }) => {
    const [top, bottom] = [y.place(wer * (1 + margin)), y.place(wer)];
    return [
      svg("rect", { class: "band", x: left, width: right - left, y: top, height: bottom - top }),
      svg("line", { class: "baseline", x1: left, x2: right, y1: bottom, y2: bottom }),
    ];
  });
}

/** The Pareto frontier as a stepped line, from its best end in what is paid to the edge where more is paid. */
function drawFrontier(panel, frontier, across, x, y, width) {
  const best = frontier.map((id) => panel.cells.find((cell) => cell.id === id));
  const place = (cell) => x.place(cell[across.name]);
  const steps = best.map((cell, i) => `${i ? "H" : "M"}${place(cell)}${i ? "V" : `,${EDGES.top}V`}${y.place(cell.wer)}`);
  const end = across.larger_is_better ? EDGES.left : width - EDGES.right;
  return svg("path", { class: "frontier", d: steps.length ? `${steps.join("")}H${end}` : "" });
}

/** Models that others measured: crosses that say what they are when pointed at. */
function drawPublished(published, x, y) {
  return published.map(({ label, size, wer }) => {
    const [cx, cy, r] = [x.place(size), y.place(wer), 4];
    const text = `published: ${label}, ${tickText(size)} MB, ${fixed(wer, 2)} %`;
    const strokes = `M${cx - r},${cy - r}L${cx + r},${cy + r}M${cx - r},${cy + r}L${cx + r},${cy - r}`;
    return svg("g", { class: "published", role: "img", "aria-label": text }, svg("title", {}, text), svg("path", { d: strokes }));
  });
}

/** The interval of a cell; without a cap where it goes on beyond the axis. */
function drawWhisker({ cell, trueX: x, beyond }, y) {
  if (cell.low === null || beyond) return [];
  const [top, bottom] = [y.place(cell.high), y.place(cell.low)];
  const cap = (height) => svg("line", { class: "whisker", x1: x - 3, x2: x + 3, y1: height, y2: height });
  return [
    svg("line", { class: "whisker", x1: x, x2: x, y1: top, y2: bottom }),
    ...(cell.high <= y.high ? [cap(top)] : []),
    ...(cell.low >= y.low ? [cap(bottom)] : []),
  ];
}

function drawLeader({ x, trueX, y }) {
  if (Math.abs(x - trueX) < 1) return [];
  return [svg("line", { class: "leader", x1: x, x2: trueX, y1: y, y2: y }), svg("circle", { class: "origin", cx: trueX, cy: y, r: 1.6 })];
}

/** A mark that can be pointed at, focused and chosen. */
function drawMark({ cell, x, y, beyond, crowded }, library, modelIndex) {
  const described = [cell.label, ...cell.details.map(([name, text]) => `${name}: ${text}`)].join("; ");
  const classes = `mark colour-${library.colour}${modelIndex % 2 ? " open" : ""}`;
  const text = crowded ? "↑" : `↑ ${fixed(cell.wer, 1)}`;
  const value = beyond ? [svg("text", { class: "value", y: -13, "text-anchor": "middle" }, text)] : [];
  const attributes = { class: classes, transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`, role: "button" };
  return svg(
    "g",
    { ...attributes, tabindex: -1, "aria-label": described, "aria-pressed": "false", "data-cell": cell.id },
    svg("circle", { class: "halo", r: 10 }),
    shape(library, RADIUS),
    ...value
  );
}
