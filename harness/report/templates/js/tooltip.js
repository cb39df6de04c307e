const GAP = 14;

/** Show the details of a cell whose mark is at x, y of its panel. */
function showTooltip(figure, cell, x, y) {
  hideTooltip();
  const entries = cell.details.flatMap(([name, text]) => [html("dt", {}, name), html("dd", {}, text)]);
  const tip = html("div", { class: "tooltip", role: "tooltip" }, html("strong", {}, cell.label), html("dl", {}, ...entries));
  figure.append(tip);
  const [left, top] = tooltipPlace(figure.clientWidth, tip.offsetWidth, tip.offsetHeight, x, y);
  tip.style.left = `${left}px`;
  tip.style.top = `${figure.querySelector(".plot").offsetTop + top}px`;
}

/** In the upper right corner, where cells are rare; beside a mark that lies there; on a phone, below the mark. */
function tooltipPlace(room, width, height, x, y) {
  if (room < width * 1.6) return [Math.max(0, Math.min(room - width, x - width / 2)), y + GAP];
  const corner = room - width;
  return x > corner - GAP && y < height + GAP ? [Math.max(0, x - GAP - width), 0] : [corner, 0];
}

function hideTooltip() {
  document.querySelectorAll(".tooltip").forEach((tip) => tip.remove());
}
