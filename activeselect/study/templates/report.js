"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const examples = Array.from(document.querySelectorAll("details.example"));
  const count = document.getElementById("count");
  const text = examples.map((item) => item.textContent.toLowerCase());
  const apply = () => {
    const wanted = new FormData(form);
    const words = String(wanted.get("search") || "").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    examples.forEach((item, i) => {
      const fits = ["preset", "strategy", "group"].every(
        (key) => !wanted.get(key) || item.dataset[key] === wanted.get(key));
      item.hidden = !(fits && words.every((word) => text[i].includes(word)));
      if (!item.hidden) shown += 1;
    });
    count.textContent = `${shown} of ${examples.length} examples`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
})();
