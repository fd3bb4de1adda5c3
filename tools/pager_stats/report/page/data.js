// SPDX-License-Identifier: Apache-2.0
// What pager_stats computed. Times are in nanoseconds since the trace began.
const report = JSON.parse(byId("report-data").textContent);

// Columns: begins are differences, durations as they are.
function decodeSpans(columns) {
  const count = columns.b.length;
  const begin = new Float64Array(count);
  const end = new Float64Array(count);
  let at = 0;
  for (let i = 0; i < count; ++i) {
    at += columns.b[i];
    begin[i] = at;
    end[i] = at + columns.d[i];
  }
  return { ...columns, begin, end, count };
}

const copies = decodeSpans(report.copies);
const steps = decodeSpans(report.steps);
const stalls = decodeSpans(report.stalls);
const stays = decodeSpans(report.stays);
const image = report.image;
const streams = 1 + Math.max(0, ...new Set(report.steps.s), ...new Set(report.stalls.s));

const spanName = (spans, i) =>
  report.names[spans.p[i] < 0 ? spans.i[i] : report.plans[spans.p[i]].names[spans.i[i]]];
// [first, count, first, count, ...]
const spanPages = (spans, i) => (spans.p[i] < 0 ? [] : report.plans[spans.p[i]].pages[spans.i[i]]);
const merged = (spans, i) => (spans.c ? spans.c[i] : 1);

// What a step is, whichever layer it belongs to: "attention_input", "ffn_down, ubatch".
const kindOf = (name) => name.replace(/^.*?\d+ /, "").replace(/, ubatch \d+$/, "").replace(/ ?\d+$/, "");
const kinds = [...new Set(report.names.map(kindOf))];
const kindColor = (name) => `--kind${Math.min(kinds.indexOf(kindOf(name)), 5)}`;

function pageBytes(first, count) {
  return Math.min((first + count) * image.page, image.bytes) - first * image.page;
}
function stepBytes(pages) {
  let bytes = 0;
  for (let k = 0; k < pages.length; k += 2) bytes += pageBytes(pages[k], pages[k + 1]);
  return bytes;
}

// The parts that a page has bytes of.
function partsOf(page) {
  const begin = page * image.page;
  const end = begin + pageBytes(page, 1);
  return report.parts.filter(([, offset, size]) => offset < end && offset + size > begin).map(([name]) => name);
}

// The first index whose value is greater; values do not fall.
function upperBound(values, value) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

const framesAt = (time) => report.frames.findLast(([at]) => at <= time)?.[1] ?? 0;

// Longest duration, for looking back from a time to what may still be under way.
for (const spans of [copies, steps, stalls, stays]) {
  spans.longest = spans.d.reduce((longest, d) => Math.max(longest, d), 0);
}

// Calls with every span that overlaps [from, to], in order.
function forSpans(spans, from, to, visit) {
  for (let i = upperBound(spans.begin, from - spans.longest - 1); i < spans.count; ++i) {
    if (spans.begin[i] > to) break;
    if (spans.end[i] >= from) visit(i);
  }
}

function timeIn(spans, from, to) {
  let sum = 0;
  forSpans(spans, from, to, (i) => { sum += Math.min(spans.end[i], to) - Math.max(spans.begin[i], from); });
  return sum;
}
