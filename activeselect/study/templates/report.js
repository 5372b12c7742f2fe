"use strict";
(() => {
  // --- theme: what the system says, or what the reader chose --------------------------------
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const recall = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const keep = (value) => { try { localStorage.setItem("theme", value); } catch { /* a private window */ } };
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const named = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };
  const wanted = new URLSearchParams(location.search).get("theme") || recall();
  if (wanted === "dark" || wanted === "light") root.dataset.theme = wanted;
  button.hidden = false;
  named();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    keep(root.dataset.theme);
    named();
    redraw();
  });
  system.addEventListener("change", () => { named(); redraw(); });

  // --- charts: the static figures give way once plotly is unpacked --------------------------
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const holders = Array.from(document.querySelectorAll("[data-chart]"));
  const drawn = new Set();
  const color = (text) => {
    const [, hex, opacity] = /^\$x([0-9a-f]{6})(?:@([\d.]+))?$/.exec(text);
    const value = getComputedStyle(root).getPropertyValue(`--x${hex}`).trim() || `#${hex}`;
    if (opacity === undefined) return value;
    const parts = [1, 3, 5].map((i) => parseInt(value.slice(i, i + 2), 16));
    return `rgba(${parts.join(",")},${opacity})`;
  };
  const themed = (value) => {
    if (typeof value === "string") return value.startsWith("$x") ? color(value) : value;
    if (Array.isArray(value)) return value.map(themed);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item)]));
  };
  const draw = (holder) => {
    const chart = charts[holder.dataset.chart];
    const live = holder.querySelector(".live");
    const chooser = holder.querySelector("select");
    const view = chart.views[chooser ? chooser.selectedIndex : 0];
    const layout = themed(view.layout);
    layout.hoverlabel.bgcolor = color("$xffffff");
    layout.hoverlabel.font.color = color("$x1f2328");
    holder.classList.add("ready");
    drawn.add(holder);
    return window.Plotly.react(live, themed(view.traces), layout, {
      responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false,
    });
  };
  const redraw = () => drawn.forEach(draw);
  const unpack = async () => {
    const packed = document.getElementById("library").textContent.trim();
    const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };
  const start = async () => {
    if (!("DecompressionStream" in window) || !holders.length) return;
    await unpack();
    for (const holder of holders) {
      const chooser = holder.querySelector("select");
      if (chooser) chooser.addEventListener("change", () => draw(holder));
    }
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
      }
    }, { rootMargin: "800px" });
    holders.forEach((holder) => seen.observe(holder));
  };
  start();

  // --- examples: filter and search ----------------------------------------------------------
  const form = document.getElementById("filters");
  if (form) {
    const examples = Array.from(document.querySelectorAll("details.example"));
    const count = document.getElementById("count");
    const text = examples.map((item) => item.textContent.toLowerCase());
    const band = (value) => value === "" ? "unscored" : value <= 0 ? "never" : value >= 1 ? "always" : "partly";
    const apply = () => {
      const asked = new FormData(form);
      const words = String(asked.get("search") || "").toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      examples.forEach((item, i) => {
        const fits = ["preset", "strategy", "group"].every(
          (key) => !asked.get(key) || item.dataset[key] === asked.get(key));
        const scored = !asked.get("score") || band(item.dataset.score) === asked.get("score");
        item.hidden = !(fits && scored && words.every((word) => text[i].includes(word)));
        if (!item.hidden) shown += 1;
      });
      count.textContent = `${shown} of ${examples.length} examples`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    apply();
  }

  // --- the config, to the clipboard ---------------------------------------------------------
  const copy = document.getElementById("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById("config").textContent);
      copy.textContent = "Copied";
    });
  }
})();
