// SPDX-License-Identifier: Apache-2.0
// Bytes copied, by layer as bars and by tensor as a table.
const laterName = report.plans.length === 2 ? "generation" : "later plans";
const firstName = report.plans.length <= 2 ? "prefill" : "first plan";
const hasLater = report.plans.length > 1;

const groups = report.groups.map(([name, size, , , first, later]) => ({ name, size, first, later, copied: first + later }));
const parts = report.parts.map(([name, , size, group, first, later]) =>
  ({ name, size, group: groups[group].name, first, later, copied: first + later }));

// The chart's surroundings: axes with labels in bytes, and a place for the bars.
function chartFrame(holder, width, height, top, label) {
  const left = 70;
  const bottom = height - 24;
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: 0, "aria-label": label });
  holder.replaceChildren(svg);
  return { svg, left, bottom, width, height, y: (value) => bottom - (value / top) * (bottom - 10) };
}

function gridLines(frame, top, step, format) {
  for (let value = 0; value <= top * 1.0001; value += step) {
    const y = Math.round(frame.y(value)) + 0.5;
    frame.svg.append(
      makeSvg("line", { x1: frame.left, x2: frame.width, y1: y, y2: y, class: value === 0 ? "axis" : "grid" }),
      makeSvg("text", { x: frame.left - 8, y: y + 4, "text-anchor": "end" }, format(value)));
  }
}

function drawLayers() {
  const holder = byId("layers");
  const width = Math.max(holder.clientWidth, 300);
  const largest = Math.max(...groups.map((group) => Math.max(group.copied, group.size)), 1);
  const step = niceByteStep(largest, 5);
  const top = Math.ceil(largest / step) * step;
  const frame = chartFrame(holder, width, 220, top,
    `Bytes copied by layer; the most, ${formatBytes(largest)}. Arrow keys read the bars.`);
  gridLines(frame, top, step, (bytes) => rounded(formatBytes(bytes)));
  const slot = (width - frame.left) / groups.length;
  groups.forEach((group, i) => drawBar(frame, group, frame.left + slot * i, slot));
  drawNames(frame, slot);
  makeReadable(frame.svg, groups.length, (i) => describeGroup(groups[i]),
    (i) => ({ x: frame.left + slot * i, y: 10, width: slot, height: frame.bottom - 10 }));
}

// Numbers at even distances, and what else there is room for, the most traffic first.
function drawNames(frame, slot) {
  const names = groups.map((group) => group.name.replace(/^blk\./, ""));
  const half = (i) => names[i].length * 3.4 + 4;
  const isNumber = (i) => /^\d+$/.test(names[i]);
  const all = names.map((_, i) => i);
  const numbers = all.filter(isNumber);
  const every = Math.ceil((2 * Math.max(0, ...numbers.map(half))) / slot);
  const others = all.filter((i) => !isNumber(i)).sort((a, b) => groups[b].copied - groups[a].copied);
  const placed = [];
  for (const i of [...numbers.filter((_, k) => k % every === 0), ...others]) {
    const x = frame.left + slot * (i + 0.5);
    if (placed.some(([from, to]) => x - half(i) < to && x + half(i) > from) || x + half(i) > frame.width + 12) continue;
    placed.push([x - half(i), x + half(i)]);
    frame.svg.append(makeSvg("text", { x, y: frame.height - 8, "text-anchor": "middle" }, names[i]));
  }
}

function drawBar(frame, group, x, slot) {
  const gap = Math.min(slot * 0.2, 6);
  const bar = (from, to, style) => makeSvg("rect", { x: x + gap / 2, width: Math.max(slot - gap, 0.5), y: frame.y(to),
    height: Math.max(frame.y(from) - frame.y(to), 0), fill: `var(${style})` });
  const y = frame.y(group.size);
  frame.svg.append(bar(0, group.first, "--copy"), bar(group.first, group.copied, "--copy-soft"),
    makeSvg("line", { x1: x + gap / 2, x2: x + slot - gap / 2, y1: y, y2: y, stroke: "var(--ink)", "stroke-width": 1.5 }));
}

const timesCopied = (row) => (row.size > 0 ? row.copied / row.size : 0);

function describeGroup(group) {
  const times = timesCopied(group).toFixed(2);
  return [group.name, `${formatBytes(group.copied)} copied, ${times} times its ${formatBytes(group.size)}`,
    hasLater ? `${firstName} ${formatBytes(group.first)}, ${laterName} ${formatBytes(group.later)}` : null];
}

// A chart of `count` places, of which pointer or arrow keys choose one: it is marked and described.
function makeReadable(svg, count, describe, area) {
  const mark = makeSvg("rect", { class: "hover", rx: 2, visibility: "hidden" });
  svg.append(mark);
  let chosen = -1;
  const choose = (i, x, y) => {
    chosen = i;
    fill(mark, { ...area(i), visibility: "visible" }, []);
    showTip(describe(i), x, y);
  };
  const leave = () => { mark.setAttribute("visibility", "hidden"); hideTip(); };
  svg.addEventListener("pointermove", (event) => {
    const x = ((event.clientX - svg.getBoundingClientRect().left) / svg.clientWidth) * svg.viewBox.baseVal.width;
    const over = Array.from({ length: count }, (_, i) => area(i)).findIndex((a) => a.x <= x && x < a.x + a.width);
    if (over < 0) leave();
    else choose(over, event.clientX, event.clientY);
  });
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = Math.min(Math.max(chosen + by, 0), count - 1);
    const box = svg.getBoundingClientRect();
    choose(next, box.left + ((area(next).x + area(next).width / 2) / svg.viewBox.baseVal.width) * box.width, box.top + 20);
    svg.setAttribute("aria-label", describe(next).filter((line) => line).join("; "));
  });
}

const tensorColumns = [
  { title: "tensor", of: (row) => row.name, text: (row) => row.name },
  { title: "layer", of: (row) => row.group, text: (row) => row.group },
  { title: "size", of: (row) => row.size, text: (row) => formatBytes(row.size) },
  { title: firstName, of: (row) => row.first, text: (row) => formatBytes(row.first) },
  { title: laterName, of: (row) => row.later, text: (row) => formatBytes(row.later), later: true },
  { title: "copied", of: (row) => row.copied, text: (row) => formatBytes(row.copied), bar: true },
  { title: "times", of: timesCopied, text: (row) => timesCopied(row).toFixed(2) },
].filter((column) => hasLater || !column.later);

const tensorOrder = { column: tensorColumns.find((column) => column.bar), descending: true };
const collator = new Intl.Collator("en", { numeric: true });

function showTensors() {
  const { column, descending } = tensorOrder;
  const wanted = byId("filter").value.toLowerCase();
  const shown = parts.filter((row) => row.name.toLowerCase().includes(wanted));
  const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);
  shown.sort((a, b) => compare(column.of(a), column.of(b)) * (descending ? -1 : 1));
  const most = Math.max(...parts.map((row) => row.copied), 1);
  byId("tensors").tBodies[0].replaceChildren(...shown.map((row) => make("tr", {}, ...tensorColumns.map((c) => {
    const cell = make("td", {}, c.text(row));
    if (!c.bar) return cell;
    const filled = make("i");
    filled.style.width = formatPercent(row.copied / most);
    cell.append(make("span", { class: "share" }, filled));
    return cell;
  }))));
  const sum = shown.reduce((bytes, row) => bytes + row.copied, 0);
  byId("tensors-note").textContent = `${plural(shown.length, "tensor")}, ${formatBytes(sum)} copied`;
  byId("tensors-note").dataset.value = String(sum);
}

function showTensorTable() {
  const heads = tensorColumns.map((column) => {
    const button = make("button", { type: "button" }, column.title);
    const head = make("th", { scope: "col" }, button);
    button.addEventListener("click", () => {
      const again = tensorOrder.column === column;
      tensorOrder.descending = again ? !tensorOrder.descending : typeof column.of(parts[0]) !== "string";
      tensorOrder.column = column;
      markOrder();
      showTensors();
    });
    return head;
  });
  const markOrder = () => heads.forEach((head, i) => {
    const order = tensorOrder.descending ? "descending" : "ascending";
    head.setAttribute("aria-sort", tensorColumns[i] === tensorOrder.column ? order : "none");
  });
  byId("tensors").tHead.replaceChildren(make("tr", {}, ...heads));
  markOrder();
  byId("filter").addEventListener("input", showTensors);
  showTensors();
  legend("layers-legend", [[firstName, "--copy"], ...(hasLater ? [[laterName, "--copy-soft"]] : []),
    ["size of the layer", "--ink", "line"]]);
}
