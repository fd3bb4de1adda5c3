// SPDX-License-Identifier: Apache-2.0
// The head of the page, the headline figures and the table of all statistics.
function statistic(field) {
  const [section, name] = field.split(".");
  return report.stats[section][name];
}

function formatField(field, value) {
  if (typeof value !== "number") return value;
  const [section, name] = field.split(".");
  if (name.endsWith("bytes") || section === "bytes") return formatBytes(value);
  if (name.endsWith("gb_per_s")) return formatRate(value);
  if (name.endsWith("_per_s")) return `${formatTokens(value)} tokens/s`;
  if (name.endsWith("_s")) return formatSeconds(value);
  if (name === "fraction") return formatPercent(value);
  return formatCount(value);
}

// A number of the statistics file, with its exact value for whoever reads the page by program.
function figure(field, text = formatField(field, statistic(field))) {
  return make("span", { "data-field": field, "data-value": String(statistic(field)) }, text);
}
function derived(name, value, text) {
  return make("span", { "data-field": `derived.${name}`, "data-value": String(value) }, text);
}

// "123.4 tokens/s": the unit smaller.
function splitUnit(node) {
  const [, value, unit] = node.textContent.match(/^(.*?)(?: ([^ ]+)|(?=%)(%))?$/) ?? [];
  if (!unit) return node;
  node.replaceChildren(value, make("span", { class: "unit" }, unit));
  return node;
}

function tile(title, big, meter, ...lines) {
  const node = make("div", { class: "tile" }, make("h3", {}, title), make("div", { class: "big" }, splitUnit(big)));
  if (meter) {
    const bar = make("i");
    bar.style.width = formatPercent(Math.min(Math.max(meter.share, 0), 1));
    node.append(make("div", { class: meter.bad ? "meter bad" : "meter" }, bar));
  }
  for (const line of lines) node.append(make("p", {}, ...line));
  return node;
}

const share = (part, whole) => (whole > 0 ? part / whole : 0);

function tiles() {
  const s = statistic;
  const accesses = s("pages.hits") + s("pages.misses");
  const time = s("time.prefill_s") + s("time.decode_s");
  const hits = share(s("pages.hits"), accesses);
  const excess = Math.max(0, share(s("bytes.h2d"), s("bytes.optimal_h2d")) - 1);
  const arena = share(s("arena.bytes"), s("model.weights_bytes"));
  const stalled = share(s("time.stall_s"), time);
  return [
    tile("Prefill", figure("rates.prefill_tokens_per_s"), null,
      [figure("time.prefill_s"), "; first step after ", figure("time.first_step_s")]),
    tile("Generation", figure("rates.decode_tokens_per_s"), null, [figure("time.decode_s")]),
    tile("Overlap in prefill", figure("bound.fraction"), { share: s("bound.fraction") },
      ["copies ", figure("bound.link_s"), ", arithmetic ", figure("bound.compute_s"), ": the longer one as a share"]),
    tile("Stalled", figure("time.stall_s"), { share: stalled, bad: true },
      [derived("stalled_share", stalled, formatPercent(stalled)), " of prefill and generation"]),
    tile("Copied", figure("bytes.h2d"), null,
      [derived("excess", excess, formatPercent(excess)), " over the optimum, ", figure("bytes.optimal_h2d")]),
    tile("Hit rate", derived("hit_rate", hits, formatPercent(hits)), { share: hits },
      [figure("pages.hits"), " hits, ", figure("pages.prefetched"), " prefetched, ", figure("pages.late"), " late"]),
    tile("Arena, of the weights", derived("arena_share", arena, formatPercent(arena)), { share: arena },
      [figure("arena.bytes"), " of ", figure("model.weights_bytes"), ", ", figure("arena.frames"), " frames"]),
    tile("Link, while busy", figure("rates.link_gb_per_s"), null, ["busy ", figure("time.link_busy_s")]),
  ];
}

function showSummary() {
  const name = statistic("model.name") || "unnamed model";
  document.title = `${name}: paging report`;
  byId("model").textContent = name;
  byId("answer").textContent = report.answer;
  byId("model-facts").textContent =
    `${statistic("model.architecture")} ${statistic("model.file_type")}, ` +
    `${formatBytes(statistic("model.weights_bytes"))} of weights in ${plural(statistic("model.tensors"), "tensor")}, ` +
    `${plural(image.pages, "page")} of ${formatBytes(image.page)}`;
  const facts = [["device", `${statistic("device.kind")}, ${statistic("device.name")}`],
    ["weights from", statistic("device.store")],
    ["memory", `peak ${formatBytes(statistic("memory.peak_bytes"))} of ${formatBytes(statistic("memory.budget_bytes"))}`]];
  for (const [what, value] of facts) byId("run-facts").append(make("dt", {}, what), make("dd", {}, value));
  byId("tiles").replaceChildren(...tiles());
  for (const [section, fields] of Object.entries(report.stats)) {
    for (const name of Object.keys(fields)) {
      const field = `${section}.${name}`;
      byId("statistics").tBodies[0].append(make("tr", {}, make("td", {}, field), make("td", {}, figure(field))));
    }
  }
}
