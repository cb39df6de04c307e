const LAYER_HEADINGS = ["layer", "kind", "requested", "effective", "bits/weight", "weight error, %", "reason"];

/** A length in per cent of the longest one. */
function bar(share) {
  return svg("svg", { class: "bar", "aria-hidden": "true" }, svg("rect", { width: `${100 * share}%`, height: "100%" }));
}

function layerRow(texts, bits, error, largest) {
  const [name, kind, requested, effective, reason] = texts.map((text) => text ?? "–");
  const got = requested !== "–" && effective === requested ? "as requested" : effective;
  const errorText = error === null ? "–" : fixed(100 * error, 2);
  return html(
    "tr",
    {},
    html("th", { scope: "row" }, name),
    ...[kind, requested, got].map((text) => html("td", {}, text)),
    html("td", { class: "number" }, fixed(bits, 2)),
    html("td", { class: "number" }, errorText, bar(largest ? (error ?? 0) / largest : 0)),
    html("td", { class: "wide" }, reason)
  );
}

/** The table of all layers of one configuration. */
function layersTable({ strings, configurations }, id) {
  const layers = configurations[id].layers;
  const largest = Math.max(...layers.map((layer) => layer[6] ?? 0));
  const rows = layers.map((layer) => {
    const texts = layer.slice(0, 5).map((place) => (place === null ? null : strings[place]));
    return layerRow(texts, layer[5], layer[6], largest);
  });
  const headings = LAYER_HEADINGS.map((text, i) => html("th", { scope: "col", class: i === 4 || i === 5 ? "number" : null }, text));
  return html("table", {}, html("thead", {}, html("tr", {}, ...headings)), html("tbody", {}, ...rows));
}
