// SPDX-License-Identifier: Apache-2.0
// The part of the run that timeline and residency map show, and how it is moved.
const kGutter = 96; // CSS pixels left of the drawing, for labels

const timeView = {
  begin: 0, end: 1, first: 0, last: 1, listeners: [],

  set(begin, end) {
    const whole = this.last - this.first;
    const length = Math.min(Math.max(end - begin, Math.min(whole, 200)), whole);
    this.begin = Math.min(Math.max(begin, this.first), this.last - length);
    this.end = this.begin + length;
    this.changed();
  },
  zoom(factor, at = (this.begin + this.end) / 2) {
    this.set(at - (at - this.begin) * factor, at + (this.end - at) * factor);
  },
  move(share) {
    const by = (this.end - this.begin) * share;
    this.set(this.begin + by, this.end + by);
  },
  all() { this.set(this.first, this.last); },
  changed() { for (const listener of this.listeners) listener(); },
};

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A canvas of the size that it has on the page, in its pixels.
class Drawing {
  constructor(canvas) {
    this.canvas = canvas;
    const scale = Math.max(window.devicePixelRatio || 1, document.documentElement.dataset.print ? 2 : 1);
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    canvas.width = Math.round(this.width * scale);
    canvas.height = Math.round(this.height * scale);
    this.scale = scale;
    this.context = canvas.getContext("2d");
    this.context.scale(scale, scale);
    this.context.font = "11.5px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
    this.context.textBaseline = "middle";
    this.plot = this.width - kGutter;
  }
  x(time) { return kGutter + ((time - timeView.begin) / (timeView.end - timeView.begin)) * this.plot; }
  perPixel() { return (timeView.end - timeView.begin) / this.plot; }
  text(text, x, y, style, align = "left") {
    this.context.fillStyle = color(style);
    this.context.textAlign = align;
    this.context.fillText(text, x, y);
  }
  rect(x, y, w, h, style) {
    this.context.fillStyle = style;
    this.context.fillRect(x, y, w, h);
  }
  // Times along the top, with lines down to `bottom`.
  timeAxis(top, bottom) {
    const span = timeView.end - timeView.begin;
    const step = niceStep(span, Math.max(2, this.plot / 130));
    const origin = timeView.first;
    for (let t = Math.ceil((timeView.begin - origin) / step) * step; t <= timeView.end - origin; t += step) {
      const x = Math.round(this.x(t + origin)) + 0.5;
      this.rect(x - 0.5, top + 14, 1, bottom - top - 14, color("--grid"));
      const label = rounded(formatNanoseconds(t));
      if (x + 60 < this.width) this.text(label, x + 4, top + 7, "--faint");
    }
  }
}

const timeAt = (canvas, clientX) => {
  const box = canvas.getBoundingClientRect();
  const share = (clientX - box.left - kGutter) / (box.width - kGutter);
  return timeView.begin + share * (timeView.end - timeView.begin);
};

function makeMovable(canvas) {
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) timeView.move(event.deltaX / canvas.clientWidth);
    else timeView.zoom(1.0015 ** event.deltaY, timeAt(canvas, event.clientX));
  }, { passive: false });
  let grabbed = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    grabbed = event.clientX;
    canvas.setPointerCapture(event.pointerId);
    canvas.classList.add("dragging");
  });
  canvas.addEventListener("pointermove", (event) => {
    if (grabbed === null) return;
    timeView.move((grabbed - event.clientX) / (canvas.clientWidth - kGutter));
    grabbed = event.clientX;
  });
  const release = () => { grabbed = null; canvas.classList.remove("dragging"); };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("dblclick", () => timeView.all());
  const keys = {
    ArrowLeft: () => timeView.move(-0.15), ArrowRight: () => timeView.move(0.15),
    "+": () => timeView.zoom(1 / 1.5), "=": () => timeView.zoom(1 / 1.5), "-": () => timeView.zoom(1.5),
    0: () => timeView.all(), Home: () => timeView.all(),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
}

// The box beside the pointer. Lines are text, the first of them a heading.
function showTip(lines, x, y) {
  const tip = byId("tip");
  tip.replaceChildren(...lines.filter((line) => line).map((line, i) => make(i === 0 ? "b" : "span", {}, line)));
  tip.hidden = lines.length === 0;
  if (tip.hidden) return;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${x + 14 + width > innerWidth ? Math.max(4, x - width - 14) : x + 14}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - height - 4))}px`;
}
const hideTip = () => { byId("tip").hidden = true; };

// A line through both drawings at the pointer's time.
function showGuide(x) {
  const guide = byId("guide");
  const top = byId("timeline").offsetTop + 14;
  const bottom = byId("residency").offsetTop + byId("residency").offsetHeight;
  guide.hidden = false;
  guide.style.left = `${x - guide.parentElement.getBoundingClientRect().left}px`;
  guide.style.top = `${top}px`;
  guide.style.height = `${bottom - top}px`;
}
const hideGuide = () => { byId("guide").hidden = true; };

// `describe` gives the lines for a time and a height in the canvas, or none.
function makeHoverable(canvas, describe) {
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const inside = event.clientX - box.left >= kGutter;
    const lines = inside ? describe(timeAt(canvas, event.clientX), event.clientY - box.top) : [];
    showTip(lines, event.clientX, event.clientY);
    if (inside) showGuide(event.clientX);
    else hideGuide();
  });
  canvas.addEventListener("pointerleave", () => {
    hideTip();
    hideGuide();
  });
}

function legend(id, entries) {
  byId(id).replaceChildren(...entries.map(([text, style, shape = ""]) => {
    const mark = make("i", { class: shape });
    mark.style.background = `var(${style})`;
    mark.style.borderColor = `var(${style})`;
    return make("span", {}, mark, text);
  }));
}
