// SPDX-License-Identifier: Apache-2.0
// Predicted throughput against the size of the arena, with the run's own beside it.
function showWhatIf() {
  const first = report.what_if[0];
  const partly = report.what_if.filter((curve) => curve.steps_measured < curve.steps);
  byId("what-if-note").textContent = !first ? "The trace has no plan." :
    "Predicted by running the plan through the pager\u2019s own core with every step as long as it was in this run, " +
    "copies at " +
    `${report.what_if.map((curve) => `${formatRate(curve.link_gb_per_s)} (${curve.name})`).join(" and ")}, ` +
    "and a host that takes no time: it shows what paging makes of another arena, all else being equal." +
    partly.map((curve) => ` Of ${curve.name}, ${curve.steps_measured} of ${curve.steps} steps were measured; the others ` +
      "are taken to be as long as their mean.").join("");
  byId("what-if").replaceChildren(...report.what_if.map((curve) => make("figure", { style: "margin:0" })));
}

function seriesOf(curve) {
  const warm = { name: "repeated pass", pick: (point) => point.warm, dashed: curve.cold };
  return curve.cold ? [{ name: "first pass, nothing resident", pick: (point) => point.cold, dashed: false }, warm] : [warm];
}

function drawWhatIf() {
  report.what_if.forEach((curve, i) => {
    const figureNode = byId("what-if").children[i];
    const legendNode = make("div", { class: "legend", id: `what-if-legend-${i}` });
    const chart = make("div");
    const title = `${curve.name[0].toUpperCase()}${curve.name.slice(1)}, tokens/s`;
    figureNode.replaceChildren(make("h3", {}, title), chart, legendNode);
    if (curve.why_not) chart.append(make("p", { class: "note" }, `No prediction: ${curve.why_not}.`));
    else drawCurve(chart, curve, i);
  });
}

function drawCurve(holder, curve, index) {
  const series = seriesOf(curve);
  const width = Math.max(holder.clientWidth, 260);
  const rates = curve.points.flatMap((point) => series.map((s) => s.pick(point).tokens_per_s));
  const largest = Math.max(...rates, curve.measured);
  const step = niceStep(largest, 5);
  const top = Math.ceil((largest * 1.04) / step) * step;
  const frame = chartFrame(holder, width, 250, top, `Predicted tokens per second of ${curve.name} by size of the arena. ` +
    "Arrow keys read the points.");
  gridLines(frame, top, step, (value) => significantTick(value, step));
  const last = curve.points.at(-1).bytes;
  const x = (bytes) => frame.left + (bytes / last) * (width - frame.left - 14);
  drawArenaAxis(frame, last, x);
  for (const line of series) drawLine(frame, curve, line, x);
  drawMeasured(frame, curve, x);
  makeReadable(frame.svg, curve.points.length, (i) => describePoint(curve, series, curve.points[i]),
    (i) => slotOf(frame, curve.points, i, x));
  const predicted = series[0].pick(curve.points[curve.own]).tokens_per_s;
  legend(`what-if-legend-${index}`, [...series.map((s) => [s.name, "--accent", s.dashed ? "line dashed" : "line"]),
    [`this run: ${formatTokens(curve.measured)} tokens/s, predicted ${formatTokens(predicted)}`,
      "--measured", "diamond"]]);
  const slower = 1 - curve.measured / predicted;
  if (slower > 0.2) holder.parentElement.append(make("p", { class: "note" }, slowerText(slower)));
}

const slowerText = (slower) =>
  `The run was ${formatPercent(slower)} slower than predicted. What threads take to hand work over, and other programs on ` +
  "the machine, are not in the prediction; where steps are short, they count.";

const significantTick = (value, step) => value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));

function drawArenaAxis(frame, last, x) {
  const step = niceByteStep(last, 5);
  for (let bytes = 0; bytes <= last; bytes += step) {
    frame.svg.append(makeSvg("line", { x1: x(bytes), x2: x(bytes), y1: frame.bottom, y2: frame.bottom + 4, class: "axis" }),
      makeSvg("text", { x: x(bytes), y: frame.height - 6, "text-anchor": bytes === 0 ? "start" : "middle" },
        rounded(formatBytes(bytes))));
  }
}

function drawLine(frame, curve, line, x) {
  const at = (point) => [x(point.bytes), frame.y(line.pick(point).tokens_per_s)];
  frame.svg.append(makeSvg("polyline", { points: curve.points.map((point) => at(point).join(",")).join(" "), fill: "none",
    stroke: "var(--accent)", "stroke-width": 2, "stroke-linejoin": "round", "stroke-dasharray": line.dashed ? "5 4" : "none" }));
  for (const point of curve.points) {
    const [cx, cy] = at(point);
    frame.svg.append(makeSvg("circle", { cx, cy, r: line.dashed ? 2 : 3, fill: "var(--accent)" }));
  }
}

function drawMeasured(frame, curve, x) {
  const cx = x(curve.points[curve.own].bytes);
  const cy = frame.y(curve.measured);
  const style = "var(--measured)";
  frame.svg.append(
    makeSvg("line", { x1: cx, x2: cx, y1: frame.bottom, y2: cy, stroke: style, "stroke-dasharray": "2 3" }),
    makeSvg("path", { d: `M${cx} ${cy - 6}l6 6l-6 6l-6 -6z`, fill: style, stroke: "var(--card)", "stroke-width": 1.5 }));
}

// From halfway to the point before to halfway to the one after.
function slotOf(frame, points, i, x) {
  const here = x(points[i].bytes);
  const from = i === 0 ? here - 12 : (here + x(points[i - 1].bytes)) / 2;
  const to = i + 1 === points.length ? here + 12 : (here + x(points[i + 1].bytes)) / 2;
  return { x: from, width: to - from, y: 10, height: frame.bottom - 10 };
}

function describePoint(curve, series, point) {
  const weights = statistic("model.weights_bytes");
  return [`Arena of ${formatBytes(point.bytes)}, ${formatPercent(share(point.bytes, weights))} of the weights`,
    ...series.flatMap((s) => {
      const p = s.pick(point);
      return [`${s.name}: ${formatTokens(p.tokens_per_s)} tokens/s, ${formatSeconds(p.seconds)} a pass`,
        `stalled ${formatSeconds(p.stalled)}, ${formatBytes(p.copied)} copied`];
    }),
    point === curve.points[curve.own] ? `this run reached ${formatTokens(curve.measured)} tokens/s` : null];
}
