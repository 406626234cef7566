#pragma once

namespace weir {

/// The style of a report's page.
inline constexpr const char* kReportStyle = R"css(
:root { color-scheme: light dark; --ink: #1f2933; --soft: #66727f; --grid: #e4e7eb; --page: #fff;
  --first: #1d5fbf; --second: #c2570c; --third: #0f7b55; --bad: #c81e3a; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe5ec; --soft: #94a1af; --grid: #333c46;
  --page: #14191f; --first: #6ea8fe; --second: #f59e5b; --third: #4cc38a; --bad: #ff6b81; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--page);
  margin: 1.5rem auto; max-width: 1500px; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1rem; margin: 0 0 .3rem; }
p { margin: .2rem 0 1rem; color: var(--soft); }
small { color: var(--soft); font-weight: normal; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; margin-bottom: 1.2rem; }
table { border-collapse: collapse; font-size: .88rem; }
th { text-align: left; font-weight: normal; color: var(--soft); padding: .08rem 1rem .08rem 0;
  vertical-align: top; white-space: nowrap; }
td { padding: .08rem 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
  max-width: 25rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 34rem), 1fr));
  gap: 1.2rem 2rem; }
figure { margin: 0; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 .5rem; align-items: baseline; }
.legend { margin-left: auto; font-size: .82rem; }
.key { padding-left: .9rem; }
.key::before { content: ""; display: inline-block; width: .9rem; height: .2rem; margin-right: .3rem;
  vertical-align: middle; background: currentColor; }
.key.dots::before { width: .5rem; height: .5rem; border-radius: 50%; }
.key.first { color: var(--first); } .key.second { color: var(--second); }
.key.third, .key.dots { color: var(--third); } .key.faint { color: var(--soft); }
svg { display: block; width: 100%; height: auto; overflow: visible; touch-action: pan-y; }
svg text { font-size: 12px; fill: var(--soft); }
text.end, text.unit-right { text-anchor: end; } text.middle { text-anchor: middle; }
line.grid { stroke: var(--grid); } line.axis, line.tick { stroke: var(--soft); }
path { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
path.first { stroke: var(--first); } path.second { stroke: var(--second); }
path.third { stroke: var(--third); }
path.faint { stroke: var(--soft); stroke-width: 1; opacity: .45; }
circle.dots { fill: var(--third); }
line.skip { stroke: var(--bad); stroke-width: 2.5; }
line.resume { stroke: var(--soft); stroke-dasharray: 4 4; }
line.cursor { stroke: var(--ink); opacity: .5; }
#tip { position: fixed; pointer-events: none; background: var(--page); color: var(--ink);
  border: 1px solid var(--soft); border-radius: 4px; padding: .25rem .5rem; font-size: .82rem;
  white-space: pre; font-variant-numeric: tabular-nums; }
)css";

/// The page's script: it draws a line through all charts at the step under the pointer, and shows
/// the values there.
inline constexpr const char* kReportScript = R"js(
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");
const frame = data.frame;
const [first, last] = data.steps;
const place = step => frame.left + (step - first) / (last - first) * (frame.right - frame.left);

const charts = [...document.querySelectorAll("figure.chart svg")].map((svg, index) => {
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("y1", frame.top);
  cursor.setAttribute("y2", frame.bottom);
  cursor.style.display = "none";
  svg.append(cursor);
  return {...data.charts[index], svg, cursor};
});

// The index of the step nearest to the wanted one, in an ascending list.
function nearest(steps, wanted) {
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] > wanted) high = middle; else low = middle;
  }
  return wanted - steps[low] > steps[high] - wanted ? high : low;
}

function show(chart, event) {
  const box = chart.svg.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width * frame.width;
  const share = Math.min(1, Math.max(0, (x - frame.left) / (frame.right - frame.left)));
  const wanted = first + share * (last - first);
  const leading = chart.series[0].steps;
  const step = leading[nearest(leading, wanted)];
  const lines = ["step " + step];
  for (const series of chart.series) {
    const at = nearest(series.steps, step);
    if (Math.abs(series.steps[at] - step) > (last - first) / 50) continue;
    const other = series.steps[at] === step ? "" : " (step " + series.steps[at] + ")";
    const value = Number(series.values[at].toPrecision(5));
    lines.push(series.name + "  " + value + " " + chart.unit + other);
  }
  for (const mark of data.marks) {
    if (Math.abs(place(mark.step) - x) <= 4) lines.push(mark.words);
  }
  tip.textContent = lines.join("\n");
  tip.hidden = false;
  const right = event.clientX + 16 + tip.offsetWidth > window.innerWidth;
  tip.style.left = (right ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16) + "px";
  tip.style.top = Math.max(4, event.clientY - tip.offsetHeight - 8) + "px";
  for (const each of charts) {
    each.cursor.setAttribute("x1", place(step));
    each.cursor.setAttribute("x2", place(step));
    each.cursor.style.display = "";
  }
}

function hide() {
  tip.hidden = true;
  for (const each of charts) each.cursor.style.display = "none";
}

for (const chart of charts) {
  chart.svg.addEventListener("pointermove", event => show(chart, event));
  chart.svg.addEventListener("pointerleave", hide);
}
)js";

}  // namespace weir
