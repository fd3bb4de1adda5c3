// SPDX-License-Identifier: Apache-2.0
// Copies, steps and stalls over time, and how busy link and arithmetic were.
const kBin = 3; // CSS pixels that a share is taken over

function timelineRows() {
  const rows = [{ kind: "share", label: "link busy", spans: copies, style: "--copy", height: 38 },
    { kind: "spans", label: "copies", spans: copies, style: () => "--copy", height: 18 }];
  for (let stream = 0; stream < streams; ++stream) {
    const of = (name) => (streams > 1 ? `${name} ${stream}` : name);
    rows.push({ kind: "spans", label: of("steps"), spans: steps, stream, height: 26, labels: true,
      style: (i) => kindColor(spanName(steps, i)) });
    rows.push({ kind: "spans", label: of("stalls"), spans: stalls, stream, height: 14, style: () => "--stall" });
  }
  rows.push({ kind: "share", label: "arithmetic", spans: steps, style: "--step", height: 38 });
  let y = 42;
  for (const row of rows) {
    row.y = y;
    y += row.height + 8;
  }
  byId("timeline").style.height = `${y + 2}px`;
  return rows;
}
let rows = [];

function drawShare(d, row) {
  const bins = new Float64Array(Math.ceil(d.plot / kBin));
  const bin = d.perPixel() * kBin;
  forSpans(row.spans, timeView.begin, timeView.end, (i) => {
    const from = Math.max(row.spans.begin[i], timeView.begin) - timeView.begin;
    const to = Math.min(row.spans.end[i], timeView.end) - timeView.begin;
    for (let b = Math.floor(from / bin); b < bins.length && b * bin < to; ++b) {
      bins[b] += Math.min(to, (b + 1) * bin) - Math.max(from, b * bin);
    }
  });
  d.rect(kGutter, row.y, d.plot, row.height, color("--grid"));
  const style = color(row.style);
  bins.forEach((busy, b) => {
    const height = Math.min(busy / bin / (row.spans === steps ? streams : 1), 1) * row.height;
    d.rect(kGutter + b * kBin, row.y + row.height - height, Math.min(kBin, d.plot - b * kBin), height, style);
  });
}

// What is narrower than a pixel is drawn as the share of the pixel that it fills.
function drawSpans(d, row) {
  const pixel = d.perPixel();
  const filled = new Map(); // by style: shares by pixel
  forSpans(row.spans, timeView.begin, timeView.end, (i) => {
    if (row.stream !== undefined && row.spans.s[i] !== row.stream) return;
    const style = row.style(i);
    const from = Math.max(d.x(row.spans.begin[i]), kGutter);
    const to = Math.min(d.x(row.spans.end[i]), d.width);
    if (to - from >= 1.5) {
      d.rect(from, row.y, to - from - (to - from > 4 ? 1 : 0), row.height, color(style));
      if (row.labels && to - from > 40) label(d, row, from, to, spanName(row.spans, i));
      return;
    }
    if (!filled.has(style)) filled.set(style, new Float64Array(Math.ceil(d.plot) + 1));
    const column = Math.floor(from - kGutter);
    filled.get(style)[column] += Math.max(row.spans.end[i] - row.spans.begin[i], 1) / pixel;
  });
  for (const [style, shares] of filled) {
    d.context.fillStyle = color(style);
    shares.forEach((part, column) => {
      if (part === 0) return;
      d.context.globalAlpha = Math.min(0.15 + 0.85 * part, 1);
      d.context.fillRect(kGutter + column, row.y, 1, row.height);
    });
    d.context.globalAlpha = 1;
  }
}

// The name, or else what kind of step it is, if there is room for it.
function label(d, row, from, to, name) {
  const text = [name, kindOf(name)].find((t) => d.context.measureText(t).width < to - from - 8);
  if (text) d.text(text, from + 4, row.y + row.height / 2 + 0.5, "--card");
}

function drawPhases(d) {
  for (const phase of report.phases) {
    const from = Math.max(d.x(phase.begin), kGutter);
    const to = Math.min(d.x(phase.end), d.width);
    if (to <= from) continue;
    d.rect(from, 16, Math.max(to - from, 1), 2, color("--faint"));
    const arena = formatBytes(framesAt(phase.begin) * image.page);
    const text = [`${phase.name}, arena of ${arena}`, phase.name].find((t) => d.context.measureText(t).width < to - from - 4);
    if (text) d.text(text, from + 1, 27, "--soft");
  }
}

function drawTimeline() {
  const d = new Drawing(byId("timeline"));
  d.timeAxis(0, d.height);
  drawPhases(d);
  for (const row of rows) {
    d.text(row.label, kGutter - 10, row.y + row.height / 2, "--soft", "right");
    if (row.kind === "share") drawShare(d, row);
    else drawSpans(d, row);
  }
}

function describeCopy(i) {
  const seconds = (copies.end[i] - copies.begin[i]) / 1e9;
  const count = merged(copies, i);
  const bytes = count === 1 ? pageBytes(copies.f[i], copies.n[i]) : copies.n[i] * image.page;
  const first = copies.f[i];
  return [count === 1 ? `Copy of ${plural(copies.n[i], "page")}` : `${formatCount(count)} copies, ${plural(copies.n[i], "page")}`,
    count === 1 ? `pages ${first} to ${first + copies.n[i] - 1}: ${partsText(first)}` : null,
    `${formatBytes(bytes)} in ${formatSeconds(seconds)}: ${formatRate(bytes / seconds / 1e9)}`,
    `at ${formatNanoseconds(copies.begin[i] - timeView.first)}`];
}

function partsText(page) {
  const names = partsOf(page);
  return names.slice(0, 3).join(", ") + (names.length > 3 ? ` and ${names.length - 3} more` : "");
}

function describeSpan(spans, i) {
  const count = merged(spans, i);
  const bytes = stepBytes(spanPages(spans, i));
  const name = spanName(spans, i);
  const waits = spans === stalls ? "waits for pages: " : "";
  return [waits + name + (count > 1 ? ` and ${plural(count - 1, "more step")}` : ""),
    `${formatNanoseconds(spans.end[i] - spans.begin[i])}, at ${formatNanoseconds(spans.begin[i] - timeView.first)}`,
    count === 1 && bytes > 0 ? `reads pages of ${formatBytes(bytes)}` : null];
}

function describeTimeline(time, y) {
  const row = rows.find((r) => y >= r.y - 2 && y <= r.y + r.height + 2);
  if (!row) return [];
  const reach = (timeView.end - timeView.begin) / 400;
  if (row.kind === "share") {
    const busy = timeIn(row.spans, time - reach, time + reach) / (2 * reach * (row.spans === steps ? streams : 1));
    return [`${row.label}: ${formatPercent(Math.min(busy, 1))}`,
      `in ${formatNanoseconds(2 * reach)} around ${formatNanoseconds(time - timeView.first)}`];
  }
  let nearest = -1;
  let distance = reach;
  forSpans(row.spans, time - reach, time + reach, (i) => {
    if (row.stream !== undefined && row.spans.s[i] !== row.stream) return;
    const away = Math.max(row.spans.begin[i] - time, time - row.spans.end[i], 0);
    if (away < distance) [nearest, distance] = [i, away];
  });
  if (nearest < 0) return [];
  return row.spans === copies ? describeCopy(nearest) : describeSpan(row.spans, nearest);
}

// What the visible part comes to, in words.
function showReadout() {
  const { begin, end } = timeView;
  const part = (spans, rows = 1) => formatPercent(Math.min(timeIn(spans, begin, end) / (end - begin) / rows, 1));
  let bytes = 0;
  forSpans(copies, begin, end, (i) => {
    const inside = Math.min(copies.end[i], end) - Math.max(copies.begin[i], begin);
    const all = merged(copies, i) === 1 ? pageBytes(copies.f[i], copies.n[i]) : copies.n[i] * image.page;
    bytes += copies.end[i] > copies.begin[i] ? (all * inside) / (copies.end[i] - copies.begin[i]) : all;
  });
  const bold = (text) => make("b", {}, text);
  byId("readout").replaceChildren(
    `${formatNanoseconds(begin - timeView.first)} to ${formatNanoseconds(end - timeView.first)}: link busy `,
    bold(part(copies)), ", arithmetic ", bold(part(steps, streams)), ", stalled ", bold(part(stalls, streams)),
    ", ", bold(formatBytes(bytes)), " copied, ", bold(formatRate(bytes / (end - begin))), " on average");
}
