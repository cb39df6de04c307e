/** Corners of a regular figure around 0, 0, the first one at `turn` parts of a circle. */
function corners(count, radius, turn, inner = null) {
  const points = Array.from({ length: inner === null ? count : count * 2 }, (_, i) => {
    const angle = 2 * Math.PI * (turn + i / (inner === null ? count : count * 2));
    const reach = inner !== null && i % 2 ? inner : radius;
    return `${(reach * Math.cos(angle)).toFixed(2)},${(reach * Math.sin(angle)).toFixed(2)}`;
  });
  return `M${points.join("L")}Z`;
}

function plus(radius) {
  const thin = radius * 0.38;
  const [a, b] = [radius, thin];
  return `M${-b},${-a}H${b}V${-b}H${a}V${b}H${b}V${a}H${-b}V${b}H${-a}V${-b}H${-b}Z`;
}

const SHAPES = {
  circle: (r) => `M${-r},0A${r},${r} 0 1 0 ${r},0A${r},${r} 0 1 0 ${-r},0Z`,
  square: (r) => corners(4, r * 1.22, 1 / 8),
  diamond: (r) => corners(4, r * 1.3, 0),
  triangle: (r) => corners(3, r * 1.35, -1 / 4),
  wedge: (r) => corners(3, r * 1.35, 1 / 4),
  star: (r) => corners(5, r * 1.55, -1 / 4, r * 0.65),
  plus: (r) => plus(r * 1.2),
  pentagon: (r) => corners(5, r * 1.2, -1 / 4),
  hexagon: (r) => corners(6, r * 1.2, 0),
  bar: (r) => `M${-r * 1.2},${-r * 0.6}H${r * 1.2}V${r * 0.6}H${-r * 1.2}Z`,
  cross: (r) => corners(4, r * 1.4, 1 / 8, r * 0.45),
};

function shape(library, radius) {
  return svg("path", { class: "shape", d: SHAPES[library.shape](radius) });
}

/** The mark of a library for a legend. */
function symbol(library) {
  return svg("svg", { viewBox: "-7 -7 14 14", class: `colour-${library.colour}`, "aria-hidden": "true" }, shape(library, 5));
}
