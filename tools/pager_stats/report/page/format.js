// SPDX-License-Identifier: Apache-2.0
// Numbers as pager_stats prints them: sizes in binary units, rates in powers of ten.
function formatBytes(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && unit + 1 < units.length; ++unit) value /= 1024;
  return `${value.toFixed(unit === 0 ? 0 : 2)} ${units[unit]}`;
}

function formatSeconds(seconds) {
  if (seconds === 0) return "0 s";
  if (seconds >= 1) return `${seconds.toFixed(3)} s`;
  if (seconds >= 1e-3) return `${significant(seconds * 1e3)} ms`;
  if (seconds >= 1e-6) return `${significant(seconds * 1e6)} \u00b5s`;
  return `${Math.round(seconds * 1e9)} ns`;
}

// The same for the ends of axes, where numbers are round: without the zeros.
const rounded = (text) => text.replace(/\.0+(?=\D|$)|(\.\d*?[1-9])0+(?=\D|$)/, "$1");

const formatNanoseconds = (ns) => formatSeconds(ns / 1e9);

// Four digits, or as many as a whole number has.
function significant(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const digits = Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 6));
}

const formatCount = (value) => Math.round(value).toLocaleString("en-US").replaceAll(",", "\u202f");
const formatPercent = (share) => `${(100 * share).toFixed(1)}%`;
const formatTokens = (rate) => (rate >= 100 ? rate.toFixed(1) : significant(rate));
const formatRate = (gbPerS) => `${gbPerS.toFixed(2)} GB/s`;
const plural = (count, what) => `${formatCount(count)} ${what}${count === 1 ? "" : "s"}`;

// Elements are made of text and elements only: names come from files and are never markup.
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Steps of 1, 2 or 5 times a power of ten (or of two, for bytes) that divide a range.
function niceStep(range, count) {
  const raw = range / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10);
}
const niceByteStep = (range, count) => 2 ** Math.ceil(Math.log2(Math.max(range / count, 1)));

const byId = (id) => document.getElementById(id);
