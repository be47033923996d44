"use strict";
// On the page of a question: figures drawn live, and experiments run again.
async function draw(root) {
  for (const figure of all(".drawing", root)) {
    const canvas = $(".canvas", figure), spec = JSON.parse($(".spec", figure).textContent), still = canvas.innerHTML;
    if (typeof spec.width === "number" && spec.mark) { spec.width = "container"; spec.autosize = { type: "fit-x", contains: "padding" }; }
    try {
      await vegaEmbed(canvas, spec, { mode: "vega-lite", renderer: "svg", actions: false, config: {} });
      const label = canvas.getAttribute("aria-label");
      for (const node of all("[role], [aria-label], [aria-roledescription]", canvas))
        for (const name of ["role", "aria-label", "aria-roledescription"]) node.removeAttribute(name);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", label);
      canvas.removeAttribute("aria-roledescription");
    } catch (error) { canvas.innerHTML = still; console.warn(error); }
  }
}

function prepare(box) {
  const form = $("form", box), said = $(".said", box), bar = $("progress", box), cancel = $(".cancel", box);
  const buttons = all("[type=submit], [type=reset]", form);
  let stream = null, running = null;
  const tell = (text, wrong = false) => { said.textContent = text; said.classList.toggle("error", wrong); };
  const busy = on => {
    $(".progress", box).hidden = cancel.hidden = !on;
    buttons.forEach(button => { button.disabled = on; });
    if (!on) { stream?.close(); stream = running = null; }
  };
  const refuse = (message, field) => {
    tell(message, true);
    const input = field && form.elements.namedItem(field === "seed" ? "@seed" : field);
    if (input) { input.setAttribute("aria-invalid", "true"); input.focus(); }
  };
  const listen = id => {
    running = id;
    stream = new EventSource(`../api/runs/${id}/events?language=${document.documentElement.lang.slice(0, 2)}`);
    const on = (name, act) => stream.addEventListener(name, event => act(JSON.parse(event.data)));
    on("queued", data => tell(say("queued", { n: data.ahead })));
    on("started", () => { bar.removeAttribute("value"); tell(say("starting")); });
    on("progress", data => {
      bar.value = data.share;
      tell(`${say("running")} · ${data.text} · ${data.seconds.toFixed(0)} s`);
    });
    on("done", data => {
      busy(false);
      tell(say("finished"));
      $(".result", box).innerHTML = data.html;
      draw($(".result", box));
    });
    on("failed", data => { busy(false); tell(data.message, true); });
    on("cancelled", () => { busy(false); tell(say("cancelled")); });
    stream.onerror = () => { if (stream?.readyState === EventSource.CLOSED) { busy(false); tell(say("unreachable"), true); } };
  };
  form.addEventListener("submit", async event => {
    event.preventDefault();
    all("[aria-invalid]", form).forEach(input => input.removeAttribute("aria-invalid"));
    const params = {};
    for (const input of form.elements)
      if (input.name && input.name !== "@seed") params[input.name] = input.type === "checkbox" ? input.checked : input.value;
    const body = { experiment: box.dataset.experiment, seed: form.elements.namedItem("@seed").value, params, language: document.documentElement.lang.slice(0, 2) };
    $(".result", box).replaceChildren();
    busy(true);
    try {
      const reply = await fetch("../api/runs", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const data = await reply.json();
      if (reply.ok) listen(data.id); else { busy(false); refuse(data.message, data.field); }
    } catch { busy(false); tell(say("unreachable"), true); }
  });
  cancel.addEventListener("click", () => running && fetch(`../api/runs/${running}`, { method: "DELETE" }));
}

document.addEventListener("DOMContentLoaded", () => {
  all(".again[data-experiment]").forEach(prepare);
  if (typeof vegaEmbed === "function") draw(document); else addEventListener("load", () => draw(document));
});
