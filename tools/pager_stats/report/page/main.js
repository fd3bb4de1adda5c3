// SPDX-License-Identifier: Apache-2.0
function showTimeButtons() {
  const add = (text, what, action) => {
    const button = make("button", { type: "button", "aria-label": what }, text);
    button.addEventListener("click", action);
    byId("time-buttons").append(button);
  };
  add("everything", "Show everything", () => timeView.all());
  for (const phase of report.phases) {
    const margin = (phase.end - phase.begin) * 0.01;
    add(phase.name, `Show ${phase.name}`, () => timeView.set(phase.begin - margin, phase.end + margin));
  }
  add("+", "Zoom in", () => timeView.zoom(1 / 1.8));
  add("\u2212", "Zoom out", () => timeView.zoom(1.8));
}

function prepareTime() {
  const begins = [copies, steps, stalls].filter((spans) => spans.count > 0).map((spans) => spans.begin[0]);
  timeView.first = Math.min(...begins, report.end);
  timeView.last = Math.max(report.end, timeView.first + 1);
  rows = timelineRows();
  byId("timeline").setAttribute("aria-label", "Timeline of copies, steps and stalls.");
  byId("residency").setAttribute("aria-label", `Which of ${plural(image.pages, "page")} were resident when.`);
  for (const id of ["timeline", "residency"]) makeMovable(byId(id));
  makeHoverable(byId("timeline"), describeTimeline);
  makeHoverable(byId("residency"), describeResidency);
  const shown = kinds.filter((kind) => kind !== "").slice(0, 6);
  legend("timeline-legend", [["copies", "--copy"], ["stalls", "--stall"],
    ...shown.map((kind, i) => [i === 5 && kinds.length > 6 ? "other steps" : kind, `--kind${i}`])]);
  legend("residency-legend", [["resident", "--resident"], ["being read", "--reading"], ["being copied", "--copy"]]);
  const { shortest } = report.stays;
  byId("left-out").textContent =
    shortest > 0 ? `The map leaves out what stayed for less than ${formatNanoseconds(shortest)}.` : "";
}

let planned = false;
function drawTimes() {
  planned = false;
  drawTimeline();
  drawResidency();
  showReadout();
}
function drawTimesSoon() {
  if (!planned) requestAnimationFrame(drawTimes);
  planned = true;
}
function drawAll() {
  drawTimes();
  drawLayers();
  drawWhatIf();
}

// Paper is white, whatever the screen is.
function printing(now) {
  if (now) document.documentElement.dataset.print = "1";
  else delete document.documentElement.dataset.print;
  byId("all").open = now;
  drawAll();
}

showSummary();
showTimeButtons();
prepareTime();
showTensorTable();
showWhatIf();
timeView.listeners.push(drawTimesSoon);
timeView.begin = timeView.first;
timeView.end = timeView.last;
drawAll();

let width = innerWidth;
window.addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  drawAll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
window.addEventListener("beforeprint", () => printing(true));
window.addEventListener("afterprint", () => printing(false));
document.documentElement.dataset.errors ??= "0";
document.documentElement.dataset.ready = "1";
