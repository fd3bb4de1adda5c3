// SPDX-License-Identifier: Apache-2.0
// Pages over time. A row of pixels may stand for several pages and a page for several rows: each pixel gets the share
// of its pages and its time that was resident.
const kTop = 18;

class Map2d {
  constructor(width, height, scaleY) {
    this.width = width;
    this.height = height;
    this.scaleY = scaleY; // rows per page
    this.cells = new Float32Array(width * height);
  }
  // Columns [x0, x1) and pages [first, first + count), fractions counted as such.
  add(x0, x1, first, count) {
    const left = Math.max(x0, 0);
    const right = Math.min(x1, this.width);
    const top = first * this.scaleY;
    const bottom = (first + count) * this.scaleY;
    for (let y = Math.floor(top); y < Math.min(bottom, this.height); ++y) {
      const rows = Math.min(bottom, y + 1) - Math.max(top, y);
      for (let x = Math.floor(left); x < right; ++x) {
        this.cells[y * this.width + x] += rows * (Math.min(right, x + 1) - Math.max(left, x));
      }
    }
  }
}

const rgb = (text) => {
  const hex = text.replace("#", "");
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
};

// Layers of color over a background, each as opaque as its cells say.
function paint(d, background, layers) {
  const [{ map }] = layers;
  const pixels = d.context.createImageData(map.width, map.height);
  const base = rgb(background);
  for (let cell = 0; cell < map.cells.length; ++cell) {
    let [r, g, b] = base;
    for (const layer of layers) {
      const a = Math.min(layer.map.cells[cell] * layer.gain, 1);
      if (a === 0) continue;
      r += (layer.rgb[0] - r) * a;
      g += (layer.rgb[1] - g) * a;
      b += (layer.rgb[2] - b) * a;
    }
    const at = cell * 4;
    pixels.data[at] = r;
    pixels.data[at + 1] = g;
    pixels.data[at + 2] = b;
    pixels.data[at + 3] = 255;
  }
  d.context.putImageData(pixels, Math.round(kGutter * d.scale), Math.round(kTop * d.scale));
}

function drawResidency() {
  const d = new Drawing(byId("residency"));
  const width = Math.floor(d.plot * d.scale);
  const height = Math.floor((d.height - kTop) * d.scale);
  const column = (time) => ((time - timeView.begin) / (timeView.end - timeView.begin)) * width;
  const map = () => new Map2d(width, height, height / image.pages);
  const [resident, reading, arriving] = [map(), map(), map()];
  const { begin, end } = timeView;
  forSpans(stays, begin, end, (i) => resident.add(column(stays.begin[i]), column(stays.end[i]), stays.f[i], stays.n[i]));
  // What is shorter than a pixel would not be seen.
  const least = (from, to) => Math.max(to, from + 0.6);
  forSpans(steps, begin, end, (i) => {
    const pages = spanPages(steps, i);
    const from = column(steps.begin[i]);
    const to = least(from, column(steps.end[i]));
    for (let k = 0; k < pages.length; k += 2) reading.add(from, to, pages[k], pages[k + 1]);
  });
  forSpans(copies, begin, end, (i) => {
    if (merged(copies, i) > 1) return;
    const from = column(copies.begin[i]);
    arriving.add(from, least(from, column(copies.end[i])), copies.f[i], copies.n[i]);
  });
  d.timeAxis(0, d.height);
  paint(d, color("--grid"), [{ map: resident, rgb: rgb(color("--resident")), gain: 1 },
    { map: reading, rgb: rgb(color("--reading")), gain: 1 },
    { map: arriving, rgb: rgb(color("--copy")), gain: 1 }]);
  drawGroups(d);
}

function drawGroups(d) {
  const perByte = (d.height - kTop) / image.bytes;
  let free = kTop - 12;
  for (const [name, size, offset, extent] of report.groups) {
    if (size === 0 || extent === 0) continue;
    const y = kTop + (offset + extent / 2) * perByte;
    if (y < free + 7 || y > d.height - 5) continue;
    const text = name.length > 14 ? `${name.slice(0, 13)}\u2026` : name;
    d.text(text, kGutter - 10, y, "--soft", "right");
    free = y + 7;
  }
}

function stayAt(page, time) {
  let found = -1;
  forSpans(stays, time, time, (i) => {
    if (stays.f[i] <= page && page < stays.f[i] + stays.n[i]) found = i;
  });
  return found;
}

function describeResidency(time, y) {
  const page = Math.floor(((y - kTop) / (byId("residency").clientHeight - kTop)) * image.pages);
  if (page < 0 || page >= image.pages) return [];
  const stay = stayAt(page, time);
  const since = timeView.first;
  let reader = null;
  forSpans(steps, time, time, (i) => {
    const pages = spanPages(steps, i);
    for (let k = 0; k < pages.length; k += 2) {
      if (pages[k] <= page && page < pages[k] + pages[k + 1]) reader = spanName(steps, i);
    }
  });
  return [`page ${formatCount(page)}: ${partsText(page) || "no tensor"}`,
    stay < 0 ? "not resident" : `resident from ${formatNanoseconds(stays.begin[stay] - since)} to ` +
      `${formatNanoseconds(stays.end[stay] - since)}`,
    reader ? `read by ${reader}` : null, `at ${formatNanoseconds(time - since)}`];
}
