const EDGES = { left: 46, right: 14, top: 40, bottom: 46 };
const RADIUS = 5.5;
const VALUE_WIDTH = 40;

/** Cells with the place of their marks: x and y, moved aside where marks would hide each other. */
function placed(cells, x, y, width, important) {
  const marks = [];
  for (const cell of [...cells].sort((a, b) => important(b) - important(a) || a.size - b.size)) {
    const beyond = cell.wer > y.high;
    const mark = { cell, beyond, trueX: x.place(cell.size), y: beyond ? EDGES.top - 12 : y.place(cell.wer) };
    mark.x = freePlace(mark, marks, width);
    marks.push(mark);
  }
  return marks.sort((a, b) => a.x - b.x || a.y - b.y);
}

/** The x nearest to the true one at which the mark hides no other. */
function freePlace(mark, others, width) {
  const wide = mark.beyond ? VALUE_WIDTH : 2.5 * RADIUS;
  const hides = (x) => others.some((o) => Math.hypot((x - o.x) / wide, (mark.y - o.y) / (2.5 * RADIUS)) < 1);
  for (let step = 0; step < width; step += 1) {
    const free = [mark.trueX + step, mark.trueX - step].find(
      (x) => x >= EDGES.left + RADIUS && x <= width - EDGES.right - RADIUS && !hides(x)
    );
    if (free !== undefined) return free;
  }
  return mark.trueX;
}

function drawGrid(x, y, width, height) {
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
    svg("text", { x: right, y: height - 8, "text-anchor": "end" }, "size, MB"),
    svg("text", { x: 0, y: 12 }, "WER, %"),
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

/** The stepped line through what cannot be had smaller without more errors. */
function drawFrontier(panel, x, y, width) {
  const best = panel.frontier.map((id) => panel.cells.find((cell) => cell.id === id));
  const steps = best.map((cell, i) => `${i ? "H" : "M"}${x.place(cell.size)}${i ? "V" : `,${EDGES.top}V`}${y.place(cell.wer)}`);
  return svg("path", { class: "frontier", d: `${steps.join("")}H${width - EDGES.right}` });
}

/** The interval of a cell; without a cap where it goes on beyond the axis. */
function drawWhisker({ cell, x, beyond }, y) {
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
function drawMark({ cell, x, y, beyond }, library, modelIndex) {
  const described = [cell.label, ...cell.details.map(([name, text]) => `${name}: ${text}`)].join("; ");
  const classes = `mark colour-${library.colour}${modelIndex % 2 ? " open" : ""}`;
  const value = beyond ? [svg("text", { class: "value", y: -13, "text-anchor": "middle" }, `↑ ${fixed(cell.wer, 1)}`)] : [];
  const attributes = { class: classes, transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`, role: "button" };
  return svg(
    "g",
    { ...attributes, tabindex: -1, "aria-label": described, "aria-pressed": "false", "data-cell": cell.id },
    svg("circle", { class: "halo", r: 10 }),
    shape(library, RADIUS),
    ...value
  );
}
