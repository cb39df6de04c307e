const GAP = 14;

/** Show the details of a cell beside its mark at x, y of its panel. */
function showTooltip(figure, cell, x, y) {
  hideTooltip();
  const entries = cell.details.flatMap(([name, text]) => [html("dt", {}, name), html("dd", {}, text)]);
  const tip = html("div", { class: "tooltip", role: "tooltip" }, html("strong", {}, cell.label), html("dl", {}, ...entries));
  figure.append(tip);
  const top = figure.querySelector(".plot").offsetTop;
  const beside = figure.clientWidth >= tip.offsetWidth * 1.6;
  const right = x + GAP + tip.offsetWidth <= figure.clientWidth;
  const left = beside ? (right ? x + GAP : x - GAP - tip.offsetWidth) : x - tip.offsetWidth / 2;
  tip.style.left = `${Math.max(0, Math.min(figure.clientWidth - tip.offsetWidth, left))}px`;
  tip.style.top = `${beside ? Math.max(0, top + y - tip.offsetHeight / 2) : top + y + GAP}px`;
}

function hideTooltip() {
  document.querySelectorAll(".tooltip").forEach((tip) => tip.remove());
}
