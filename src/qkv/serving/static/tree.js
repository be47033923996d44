"use strict";
// The search: what the beam kept at each step, as a tree that grows to the right.
const WIDE = 86, HIGH = 40;

function ancestry(steps, step, place) {
  const tokens = [];
  for (let i = step; i >= 0 && place >= 0; i--) { tokens.unshift(steps[i].nodes[place].token); place = steps[i].nodes[place].parent; }
  return tokens;
}

function startSearch(search) {
  const { steps, best } = search, order = steps.map(step => [...step.nodes.keys()].sort((a, b) => step.nodes[b].logp - step.nodes[a].logp));
  const height = HIGH * Math.max(...steps.map(step => step.nodes.length)) + 24, width = WIDE * (steps.length + 1);
  const svg = draws("svg", { width, height, role: "img", "aria-label": $("#decoding-title").textContent });
  const y = (i, place) => i < 0 ? 38 : 38 + HIGH * order[i].indexOf(place), x = i => WIDE * (i + 1) + 6;
  const lines = draws("g", {}), boxes = draws("g", {});
  const box = (i, place, label, score, kind) => {
    const group = draws("g", { class: kind, transform: `translate(${i < 0 ? 6 : x(i)},${y(i, place) - 12})` });
    group.append(draws("rect", { width: i < 0 ? 52 : 66, height: 20, rx: kind.includes("ended") ? 10 : 3 }));
    group.append(draws("text", { x: i < 0 ? 26 : 33, y: 14, "text-anchor": "middle" }, [...letters(label)].slice(0, 8).join("")));
    if (score !== null) group.append(draws("text", { x: 33, y: 30, "text-anchor": "middle", class: "score" }, score.toFixed(2).replace("-", "−")));
    boxes.append(group);
  };
  box(-1, -1, say("begin"), null, "best");
  steps.forEach((step, i) => {
    const column = draws("rect", { x: x(i) - 9, y: 0, width: WIDE - 2, height, class: "column", "data-step": i + 1 });
    column.addEventListener("click", () => showStep(i + 1));
    svg.append(column, draws("text", { x: x(i) + 33, y: 13, "text-anchor": "middle", class: "score" }, i + 1));
    step.nodes.forEach((node, place) => {
      const kind = best[i] === place ? "best" : "";
      const from = [i ? x(i - 1) + 66 : 58, y(i - 1, node.parent) - 2], to = [x(i), y(i, place) - 2];
      lines.append(draws("path", { class: kind, d: `M${from} C${from[0] + 12},${from[1]} ${to[0] - 12},${to[1]} ${to}` }));
      const going = i + 1 >= steps.length || node.ended || steps[i + 1].nodes.some(next => next.parent === place);
      box(i, place, node.token, node.logp, `${kind}${node.ended ? " ended" : ""}${going ? "" : " dim"}`);
    });
  });
  svg.append(lines, boxes);
  for (const part of [lines, boxes]) part.style.pointerEvents = "none";
  $("#tree").replaceChildren(svg);
  $("#tree").tabIndex = 0;
  $("#step").max = best.length || steps.length;
  showStep(1);
}

function showStep(number) {
  const { steps, best } = seen.data.search, i = number - 1;
  seen.step = Math.min(number, Number($("#step").max));
  $("#step").value = seen.step;
  all("#tree .column").forEach(column => column.classList.toggle("now", Number(column.dataset.step) === number));
  const before = i > 0 && best.length ? ancestry(steps, i - 1, best[i - 1] ?? best[best.length - 1]) : [];
  $("#prefix").textContent = `${number} · ${say("after")} ${before.map(letters).join(" ") || say("begin")}`;
  $("#candidates").replaceChildren(...Object.entries(steps[i].candidates).map(([place, candidates]) => {
    const title = i ? ancestry(steps, i - 1, Number(place)).slice(-6).map(letters).join(" ") : say("begin");
    return bars(`${say("after")} ${title}`, candidates.map(([label, logp]) => [label, Math.exp(logp)]));
  }));
  drawParts();
}
