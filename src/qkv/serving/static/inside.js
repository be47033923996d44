"use strict";
// Attention at each site, by layer and head, and predictions without a part. tree.js draws the search.
const seen = { data: null, query: null, site: 0, layer: 0, head: "mean", step: 1 };
const make = (tag, values = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), values);
  node.append(...children);
  return node;
};
const draws = (tag, values, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const key in values) node.setAttribute(key, values[key]);
  if (text !== undefined) node.textContent = text;
  return node;
};
const letters = token => token.trim() === "" ? "␣" : token;
const heat = share => `rgb(${getComputedStyle(document.documentElement).colorScheme.includes("dark") && dark() ? "130 190 250" : "20 70 130"} / ${share.toFixed(3)})`;
const dark = () => {
  const chosen = document.documentElement.style.colorScheme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const pressed = (button, on) => { button.setAttribute("aria-pressed", on); return button; };

function weight(site, layer, head, t, s) {
  const { heads, rows, columns } = site, size = rows.length * columns.length;
  const at = h => site.bytes[(layer * heads + h) * size + t * columns.length + s] / 255;
  if (head !== "mean") return at(Number(head));
  let sum = 0;
  for (let h = 0; h < heads; h++) sum += at(h);
  return sum / heads;
}

function drawMap(site) {
  const cell = site.rows.length > 30 ? 15 : 24, wide = labels => 12 + 7.4 * Math.max(...labels.map(l => [...letters(l)].length));
  const left = wide(site.rows), top = wide(site.columns) + 6;
  const width = left + cell * site.columns.length + 6, height = top + cell * site.rows.length + 6;
  const svg = draws("svg", { width, height, role: "img", "aria-label": say(`site_${site.where}`) });
  site.columns.forEach((label, s) => {
    const x = left + cell * s + cell / 2 + 4;
    svg.append(draws("text", { x, y: top - 5, transform: `rotate(-90 ${x} ${top - 5})` }, letters(label)));
  });
  site.rows.forEach((label, t) => {
    svg.append(draws("text", { x: left - 6, y: top + cell * t + cell / 2 + 4, "text-anchor": "end" }, letters(label)));
    site.columns.forEach((key, s) => {
      const w = weight(site, seen.layer, seen.head, t, s);
      const rect = draws("rect", { x: left + cell * s, y: top + cell * t, width: cell - 1, height: cell - 1, fill: heat(0.04 + 0.96 * w) });
      const text = say("looks_at", { q: letters(label), k: letters(key), w: (100 * w).toFixed(0) });
      rect.append(draws("title", {}, text));
      rect.addEventListener("pointerenter", () => { $("#pointed").textContent = text; });
      svg.append(rect);
    });
  });
  $("#map").replaceChildren(svg);
}

function drawAll(site) {
  const grid = $("#all");
  grid.style.gridTemplateColumns = `repeat(${site.heads + 1}, auto)`;
  grid.replaceChildren(make("span"), ...[...Array(site.heads).keys()].map(h => make("span", { textContent: `${say("head")} ${h}` })));
  for (let layer = 0; layer < site.layers; layer++) {
    grid.append(make("span", { textContent: `${say("layer")} ${layer}` }));
    for (let head = 0; head < site.heads; head++) {
      const canvas = make("canvas", { width: site.columns.length, height: site.rows.length }), brush = canvas.getContext("2d");
      site.rows.forEach((_, t) => site.columns.forEach((_, s) => {
        brush.fillStyle = heat(0.04 + 0.96 * weight(site, layer, head, t, s));
        brush.fillRect(s, t, 1, 1);
      }));
      const button = pressed(make("button", { type: "button" }, canvas), layer === seen.layer && String(head) === String(seen.head));
      button.setAttribute("aria-label", `${say("layer")} ${layer}, ${say("head")} ${head}`);
      button.addEventListener("click", () => { seen.layer = layer; seen.head = head; drawAttention(); });
      grid.append(button);
    }
  }
}

function drawAttention() {
  const sites = seen.data.sites, site = sites[seen.site];
  seen.layer = Math.min(seen.layer, site.layers - 1);
  const options = (select, values, chosen) => select.replaceChildren(...values.map(v => new Option(v === "mean" ? say("mean") : v, v, false, String(v) === String(chosen))));
  $("#sites").replaceChildren(...sites.map((s, i) => {
    const button = pressed(make("button", { type: "button", textContent: say(`site_${s.where}`) }), i === seen.site);
    button.addEventListener("click", () => { seen.site = i; drawAttention(); });
    return button;
  }));
  options($("#layer"), [...Array(site.layers).keys()], seen.layer);
  options($("#head"), ["mean", ...Array(site.heads).keys()], seen.head);
  $("#pointed").textContent = say("point");
  drawMap(site);
  drawAll(site);
}

// Bars of (label, share, second share): one bar each, or two for "intact" and "without".
function bars(title, rows) {
  const table = make("table", { className: "bars" }, make("caption", { textContent: title })), body = make("tbody");
  for (const [label, ...shares] of rows) {
    const track = make("td", { className: "track" }, ...shares.map(share => { const bar = make("i"); bar.style.width = `${100 * share}%`; return bar; }));
    body.append(make("tr", {}, make("th", { scope: "row", textContent: letters(label) }), track,
      ...shares.map(share => make("td", { textContent: `${(100 * share).toFixed(1)} %` }))));
  }
  table.append(body);
  return table;
}

async function drawParts() {
  const box = $("#parts"), asked = seen.query + seen.step;
  const reply = await fetch(`../api/inside/without?${seen.query}&step=${seen.step - 1}`), data = await reply.json();
  if (asked !== seen.query + seen.step) return;
  if (!reply.ok) { box.textContent = data.message; return; }
  const most = Math.max(0.05, ...data.parts.map(part => part.kl)), body = make("tbody"), rows = new Map();
  const name = part => `${say(`site_${part.site}`)} ${say("layer")} ${part.layer}${part.head === null ? "" : `, ${say("head")} ${part.head}`}`;
  for (const part of data.parts) {
    const key = `${part.site} ${part.layer}`;
    if (!rows.has(key)) rows.set(key, make("tr", {}, make("th", { scope: "row", textContent: `${say(`site_${part.site}`)} ${part.layer}` })));
    const button = pressed(make("button", { type: "button", textContent: part.kl.toFixed(2) }), false);
    button.style.background = heat((dark() ? 0.35 : 0.6) * part.kl / most);
    button.setAttribute("aria-label", `${say("removed", { part: name(part) })}: ${part.kl.toFixed(2)} nat`);
    button.addEventListener("click", () => {
      all("button", box).forEach(other => pressed(other, other === button));
      $("#change").replaceChildren(bars(`${say("intact")} / ${say("removed", { part: name(part) })}`, part.rows));
    });
    const cell = make("td", {}, button);
    if (part.head === null) rows.get(key).dataset.whole = "1";
    rows.get(key).append(cell);
  }
  const heads = Math.max(...data.parts.map(part => part.head ?? 0)) + 1;
  for (const row of rows.values()) if (!row.dataset.whole) row.firstChild.after(make("td"));
  const titles = ["", say("whole_layer"), ...[...Array(heads).keys()].map(h => `${say("head")} ${h}`)];
  body.append(...rows.values());
  box.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...titles.map((t, i) => make(i ? "th" : "td", { textContent: t })))), body));
  $("#change").textContent = say("choose_part");
}

async function look(event) {
  event?.preventDefault();
  const form = $("#look"), said = $("#said");
  seen.query = new URLSearchParams(new FormData(form)).toString();
  said.classList.remove("error");
  said.textContent = "…";
  try {
    const reply = await fetch(`../api/inside/look?${seen.query}`), data = await reply.json();
    said.textContent = reply.ok ? "" : data.message ?? say("unreachable");
    said.classList.toggle("error", !reply.ok);
    $("#seen").hidden = !reply.ok;
    if (!reply.ok) return;
    for (const site of data.sites) site.bytes = Uint8Array.from(atob(site.weights), c => c.charCodeAt(0));
    Object.assign(seen, { data, site: Math.max(0, data.sites.findIndex(s => s.where === "cross")), layer: data.sites[0].layers - 1, head: "mean" });
    const best = data.hypotheses[0];
    $("#answer").replaceChildren(data.text, ...(best ? [make("small", { textContent: ` ${say("writes")} ` }), best.text] : []));
    drawAttention();
    $("#search-part").hidden = $("#without-part").hidden = !data.search;
    if (data.search) startSearch(data.search);
  } catch (error) { said.textContent = say("unreachable"); said.classList.add("error"); console.warn(error); }
}

document.addEventListener("DOMContentLoaded", () => {
  const form = $("#look");
  if (!form) return;
  form.addEventListener("submit", look);
  form.elements.run.addEventListener("change", event => { form.elements.text.value = event.target.selectedOptions[0].dataset.example; });
  $("#layer").addEventListener("change", event => { seen.layer = Number(event.target.value); drawAttention(); });
  $("#head").addEventListener("change", event => { seen.head = event.target.value; drawAttention(); });
  $("#step").addEventListener("input", event => showStep(Number(event.target.value)));
  for (const source of [document, matchMedia("(prefers-color-scheme: dark)")])
    source.addEventListener(source === document ? "scheme" : "change", () => { if (seen.data) { drawAttention(); drawParts(); } });
  if (form.elements.text.value) look();
});
