const STEPS = { S: "substituted", D: "left out", I: "added" };

function wordsOf(text) {
  return text.split(" ").filter(Boolean);
}

/** Words of a transcript by their place in the reference: what stands at each word, and what is added before it. */
function aligned(text, alignment, length) {
  const words = wordsOf(text);
  const at = [];
  const before = Array.from({ length: length + 1 }, () => []);
  for (const step of alignment) {
    if (step === "I") before[at.length].push(words.shift());
    else at.push({ step, word: step === "D" ? null : words.shift() });
  }
  return { at, before };
}

/** A word of a transcript; errors are marked by a line and a title as well as by colour. */
function wordNode(step, word, expected) {
  if (step === "C") return html("span", {}, word);
  const title = step === "S" ? `${STEPS.S} for ${expected}` : STEPS[step];
  return html("mark", { class: step, title }, word ?? expected);
}

function slot(reference, ...nodes) {
  return html("span", { class: "slot" }, html("span", { class: "reference" }, reference), ...nodes);
}

function slots(reference, transcripts) {
  const nodes = [];
  reference.concat(null).forEach((expected, i) => {
    const added = Math.max(...transcripts.map((t) => t.before[i].length));
    for (let j = 0; j < added; j += 1) {
      nodes.push(slot("", ...transcripts.map((t) => (j < t.before[i].length ? wordNode("I", t.before[i][j]) : html("span")))));
    }
    if (expected !== null) nodes.push(slot(expected, ...transcripts.map((t) => wordNode(t.at[i].step, t.at[i].word, expected))));
  });
  return nodes;
}

function verdict(change) {
  if (change === 0) return html("strong", {}, "as many errors, other words");
  const size = Math.abs(change);
  const text = `${size} ${change > 0 ? "more" : "fewer"} ${size === 1 ? "error" : "errors"}`;
  return html("strong", { class: change > 0 ? "worse" : "better" }, text);
}

function utteranceNode(reference, baseline, [id, errors, baselineErrors, text, alignment]) {
  const expected = wordsOf(reference);
  const transcripts = [baseline, [text, alignment]].map(([words, steps]) => aligned(words, steps, expected.length));
  const spoken = `Reference: ${reference}. Full precision: ${baseline[0] || "nothing"}. This cell: ${text || "nothing"}.`;
  const who = ["reference", "full precision", "this cell"].map((name) => html("span", {}, name));
  return html(
    "article",
    { class: "utterance" },
    html("h3", {}, verdict(errors - baselineErrors), ` (${errors} instead of ${baselineErrors}) · `, html("code", {}, id)),
    html(
      "div",
      { class: "words", role: "img", "aria-label": spoken },
      html("div", { class: "who" }, ...who),
      html("div", { class: "slots" }, ...slots(expected, transcripts))
    )
  );
}

function countsNode({ better, worse, equal, changed, all }) {
  const parts = [
    `${all} utterances`,
    `${changed} with other words`,
    `${worse} with more errors`,
    `${better} with fewer`,
    `${equal} with as many`,
  ];
  return html("ul", { class: "counts" }, ...parts.map((part) => html("li", {}, part)));
}

/** Counts and the largest changes of one cell. */
function utterancesNodes({ references, baselines, cells }, id) {
  const { split, baseline, counts, shown } = cells[id];
  if (!shown.length) return [countsNode(counts), html("p", {}, "Every transcript is identical to that of full precision.")];
  const amount = shown.length < counts.changed ? `The ${shown.length} largest of ${counts.changed} changes` : "All changes";
  const legend = `${amount}. Three lines each: the reference, full precision, this cell. `;
  return [
    countsNode(counts),
    html(
      "p",
      { class: "note slot-legend" },
      legend,
      ...Object.entries(STEPS).flatMap(([step, text]) => [wordNode(step, text), " "])
    ),
    ...shown.map((change) => utteranceNode(references[split][change[0]], baselines[baseline][change[0]], change)),
  ];
}
