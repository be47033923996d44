"use strict";
// On every page: light or dark, the other language at the same place, keys; on the index: filters and search.
const stored = (key, value) => {
  try { return value === undefined ? localStorage.getItem(key) : localStorage.setItem(key, value); } catch { return null; }
};
const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const scheme = stored("scheme");
if (scheme) document.documentElement.style.colorScheme = scheme;

// A place is the part of the page under the top of the window and how far it has been read: at=derivation:0.42.
const parts = () => all("main section[id], .list li:not([hidden])");
function place() {
  const here = parts().filter(part => part.getBoundingClientRect().top <= 80).pop();
  if (!here || scrollY < 40) return "";
  const box = here.getBoundingClientRect();
  return `${here.id}:${((80 - box.top) / Math.max(1, box.height)).toFixed(3)}`;
}
function goTo(at) {
  const [id, share] = at.split(":"), part = document.getElementById(id);
  if (!part) return;
  const box = part.getBoundingClientRect();
  scrollTo(0, scrollY + box.top + Number(share) * box.height - 80);
}
const state = () => new URLSearchParams(location.hash.slice(1));
function remember(values) {
  history.replaceState(null, "", values.toString() ? `#${values}` : location.href.split("#")[0]);
}

function otherLanguage(event) {
  const link = $(".language"), values = state(), at = place();
  event?.preventDefault();
  values.delete("at");
  if (at) values.set("at", at);
  stored("language", link.hreflang.slice(0, 2));
  location.href = link.getAttribute("href") + (values.toString() ? `#${values}` : "");
}

function step(by) {
  const link = $(`.turn a[rel=${by > 0 ? "next" : "prev"}]`);
  if (link) { location.href = link.href; return; }
  const links = all(".list li:not([hidden]) > a");
  const next = links[Math.max(0, Math.min(links.length - 1, links.indexOf(document.activeElement) + by))];
  if (next) next.focus();
}

function press(event) {
  const field = event.target.closest("input, select, textarea, dialog");
  if (event.key === "Escape" && field?.id === "search") { field.value = ""; filter(); field.blur(); }
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  if (["ArrowLeft", "ArrowRight"].includes(event.key) && event.target.closest(".wide, .canvas, .equation, pre")) return;
  const actions = {
    j: () => step(1), ArrowRight: () => step(1), k: () => step(-1), ArrowLeft: () => step(-1), l: otherLanguage,
    "/": () => { const search = $("#search"); if (search) search.focus(); else location.href = "index.html#search=1"; },
    i: () => { location.href = "index.html"; }, "?": () => $("#help").showModal(),
  };
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
}

// The index.
let loading = null;
const texts = () => loading ??= new Promise(done => {
  const script = document.createElement("script");
  script.src = "../assets/search.js";
  script.onload = () => done(new Map(window.questions.map(q => [q.id, q])));
  document.head.append(script);
});
function snippet(text, words) {
  const low = text.toLowerCase(), at = Math.min(...words.map(word => low.indexOf(word)).filter(i => i >= 0));
  if (!Number.isFinite(at)) return null;
  const from = Math.max(0, at - 60), line = document.createElement("p"), piece = text.slice(from, at + 110);
  const found = new RegExp(`(${words.map(word => word.replace(/[^\p{L}\p{N}]/gu, "\\$&")).join("|")})`, "giu");
  line.className = "hit";
  line.append(from ? "…" : "");
  piece.split(found).forEach((part, i) => {
    if (i % 2) line.append(Object.assign(document.createElement("mark"), { textContent: part })); else line.append(part);
  });
  line.append("…");
  return line;
}
async function filter() {
  const query = $("#search").value.trim().toLowerCase(), words = query.split(/\s+/).filter(Boolean);
  const chosen = all("[data-filter]").filter(select => select.value);
  const known = words.length ? await texts() : null;
  if ($("#search").value.trim().toLowerCase() !== query) return; // more was typed while the texts were loading
  const own = document.documentElement.lang.slice(0, 2), other = own === "zh" ? "en" : "zh";
  let shown = 0;
  all(".hit").forEach(line => line.remove());
  for (const row of all(".list li")) {
    const data = known?.get(row.id), sides = data ? [...data[own], ...data[other]] : [];
    const text = data ? [data.label, ...sides].join(" ").toLowerCase() : "";
    row.hidden = !chosen.every(select => row.dataset[select.dataset.filter].split("|").includes(select.value))
      || !words.every(word => /^[ab]\d+$/.test(word) ? row.id === word : text.includes(word));
    if (row.hidden) continue;
    shown += 1;
    const line = data && !words.every(word => sides[0].toLowerCase().includes(word) || row.id === word)
      && [sides[1], sides[3], sides[2]].map(side => snippet(side, words)).find(Boolean);
    if (line) row.append(line);
  }
  all("section.list").forEach(list => { list.hidden = !$("li:not([hidden])", list); });
  $("#count").textContent = say("shown", { n: shown, total: all(".list li").length });
  $("#nothing").hidden = shown > 0;
  $("#clear").hidden = !query && !chosen.length;
  const values = new URLSearchParams(chosen.map(select => [select.dataset.filter, select.value]));
  if (query) values.set("q", query);
  remember(values);
}
async function startIndex() {
  const values = state();
  $("#search").value = values.get("q") ?? "";
  all("[data-filter]").forEach(select => { select.value = values.get(select.dataset.filter) ?? ""; });
  for (const kind of ["input", "change"]) $("#filters").addEventListener(kind, filter);
  $("#filters").addEventListener("submit", event => event.preventDefault());
  $("#clear").addEventListener("click", () => { $("#filters").reset(); filter(); $("#search").focus(); });
  if (values.get("search")) $("#search").focus();
  await filter();
}

let spoken = {};
const say = (key, values = {}) => spoken[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
document.addEventListener("DOMContentLoaded", async () => {
  spoken = JSON.parse($("#words").textContent);
  const at = state().get("at");
  $(".language").addEventListener("click", otherLanguage);
  $("#keys").addEventListener("click", () => $("#help").showModal());
  $("#theme").addEventListener("click", () => {
    const root = document.documentElement, style = root.style, now = style.colorScheme;
    const dark = now ? now === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    style.colorScheme = dark ? "light" : "dark";
    stored("scheme", style.colorScheme);
    document.dispatchEvent(new Event("scheme"));
  });
  document.addEventListener("keydown", press);
  // What scrolls sideways can be reached by the keyboard.
  const reach = () => all(".wide, .canvas, .equation, pre").forEach(box => {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0; else box.removeAttribute("tabindex");
  });
  // Mathematics in a line cannot break; what is wider than its column scrolls in a line of its own.
  for (const math of all("p > math, li > math")) {
    if (math.getBoundingClientRect().width <= math.parentNode.clientWidth) continue;
    const line = document.createElement("span");
    line.className = "equation";
    math.replaceWith(line);
    line.append(math);
  }
  addEventListener("resize", reach);
  if ($("#filters")) await startIndex();
  reach();
  if (at) {
    goTo(at);
    const values = state();
    values.delete("at");
    remember(values);
  }
});
