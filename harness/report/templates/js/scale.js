/** Round values from low to high, about as many as asked for. */
function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

/** Round values from low to high at ratios that look even on a logarithmic axis. */
function logarithmicTicks(low, high) {
  const decades = Array.from({ length: 12 }, (_, i) => 10 ** (i - 4));
  const sets = [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 5], [1]].map((leads) =>
    decades.flatMap((decade) => leads.map((lead) => lead * decade)).filter((v) => v >= low && v <= high)
  );
  return sets.find((ticks) => ticks.length <= 8) ?? sets[2];
}

/** An axis from low to high over the pixels from start to end. */
function axis(low, high, start, end, logarithmic) {
  const along = logarithmic ? Math.log : (value) => value;
  const share = (value) => (along(value) - along(low)) / (along(high) - along(low));
  const few = Math.max(3, Math.round(Math.abs(end - start) / 70));
  return {
    low,
    high,
    place: (value) => start + (end - start) * share(Math.min(high, Math.max(low, value))),
    ticks: logarithmic && high / low > 2 ? logarithmicTicks(low, high) : linearTicks(low, high, few),
  };
}

function tickText(value) {
  return String(Number(value.toPrecision(6)));
}

/** The axis of sizes or speeds: logarithmic where they differ much. */
function priceAxis(cells, across, start, end) {
  const values = cells.map((cell) => cell[across.name]);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const logarithmic = least > 0 && most / least > 2.5;
  const room = (most - least || most || 1) * 0.06;
  return logarithmic
    ? axis(least / 1.08, most * 1.08, start, end, true)
    : axis(Math.max(0, least - room), most + room, start, end, false);
}

const ZOOM = { near: 2.5, close: 1.25 };

/** The axis of word error rates: around the baselines, or over everything. */
function errorAxis(panel, margin, scale, start, end) {
  const bases = panel.baselines.map((baseline) => baseline.wer);
  const all = panel.cells.map((cell) => cell.wer);
  const base = Math.max(...(bases.length ? bases : [Math.min(...all)]));
  const limit = base > 0 ? (ZOOM[scale] ?? Infinity) * base : Infinity;
  const inside = all.filter((wer) => wer <= limit);
  const whole = scale in ZOOM ? [] : panel.cells.flatMap((cell) => [cell.low ?? cell.wer, cell.high ?? cell.wer]);
  const values = [...(inside.length ? inside : all), ...bases, ...bases.map((wer) => wer * (1 + margin)), ...whole];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  if (scale === "log") {
    const smallest = Math.min(...values.filter((value) => value > 0), 100);
    return axis(smallest / 1.1, Math.max(most, smallest * 2) * 1.1, start, end, true);
  }
  const room = (most - least || most || 1) * 0.06;
  return axis(Math.max(0, least - room), most + room, start, end, false);
}
