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
  });
  system.addEventListener("change", named);

  // --- charts: the static ones give way once the library is unpacked -------------------------
  const holders = Array.from(document.querySelectorAll("[data-chart]"));
  const unpacked = async (id) => {
    const packed = document.getElementById(id).textContent.trim();
    const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const draw = async (holder, spec) => {
    holder.classList.add("ready"); // before drawing: a hidden element has no width
    await window.vegaEmbed(holder.querySelector(".live"), spec, {
      actions: false, renderer: "svg", ast: true, bind: holder.querySelector(".choices"),
    });
  };
  const start = async () => {
    if (!("DecompressionStream" in window) || !holders.length) return;
    const script = document.createElement("script");
    script.textContent = await unpacked("library");
    document.head.append(script);
    const specs = JSON.parse(await unpacked("charts"));
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        draw(entry.target, specs[entry.target.dataset.chart]);
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
        const fits = ["dataset", "strategy", "group"].every(
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
