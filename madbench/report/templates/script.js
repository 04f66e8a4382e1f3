"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const say = (text) => { document.getElementById("said").textContent = text; };

  // ---- light and dark: as the system says, until told otherwise ----
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => {
    const other = isDark() ? "Light" : "Dark";
    theme.querySelector(".theme-name").textContent = other;
    theme.setAttribute("aria-label", `${other} colours`);
  };
  const remember = (value) => { try { localStorage.setItem("madbench-theme", value); } catch { /* a page without storage */ } };
  try {
    const kept = localStorage.getItem("madbench-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* likewise */ }
  theme.hidden = false;
  name();
  system.addEventListener("change", name);
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    name();
  });

  // ---- tables that sort: a button in each header; what has no key stays last ----
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en") : x - y;
  };
  const sort = (table, header, index) => {
    const state = header.getAttribute("aria-sort");
    const first = "falling" in header.dataset ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const direction = state === first ? second : first;
    const body = table.tBodies[0];
    const key = (row) => row.cells[index].dataset.key;
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return direction === "ascending" ? compare(x, y) : compare(y, x);
    });
    body.append(...rows);
    all("th", table.tHead).forEach((other) => other.setAttribute("aria-sort", other === header ? direction : "none"));
    say(`Sorted by ${header.textContent}, ${direction}.`);
  };
  all("table[data-sortable]").forEach((table) => {
    all("th", table.tHead).forEach((header, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      header.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(table, header, index));
    });
  });

  // ---- sliders: each chooses the generation that its section shows ----
  const show = (section, t) => {
    all("[data-frames]", section).forEach((box) => {
      const frames = all("[data-t]", box);
      frames.forEach((frame) => frame.toggleAttribute("hidden", frame.dataset.t !== t));
      const absent = box.querySelector(".absent");
      if (absent) absent.hidden = frames.some((frame) => frame.dataset.t === t);
    });
    all("[data-plot]", section).forEach((plot) => {
      const row = all("tbody tr", plot).find((each) => each.cells[0].textContent === t);
      const cursor = plot.querySelector(".cursor");
      cursor.removeAttribute("hidden");
      cursor.setAttribute("transform", `translate(${row.dataset.x} 0)`);
      const readout = plot.querySelector(".readout");
      readout.hidden = false;
      all(".value", readout).forEach((value, i) => { value.textContent = row.cells[i + 1].textContent; });
    });
  };
  all(".slider").forEach((slider) => {
    const section = slider.closest("section");
    const input = slider.querySelector("input");
    const output = slider.querySelector("output");
    const generations = slider.dataset.generations.split(" ");
    const last = generations[generations.length - 1];
    const update = () => {
      const t = generations[Number(input.value)];
      output.textContent = `${t} of ${last}`;
      input.setAttribute("aria-valuetext", `generation ${t} of ${last}`);
      show(section, t);
    };
    input.addEventListener("input", update);
    slider.hidden = generations.length < 2;
    update();
    // the pointer over a chart reads it too
    all("[data-plot]", section).forEach((plot) => {
      const svg = plot.querySelector("svg");
      const xs = all("tbody tr", plot).map((row) => Number(row.dataset.x));
      svg.addEventListener("pointermove", (event) => {
        const box = svg.getBoundingClientRect();
        const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
        const nearest = xs.reduce((best, each, i) => (Math.abs(each - x) < Math.abs(xs[best] - x) ? i : best), 0);
        if (Number(input.value) !== nearest) { input.value = nearest; update(); }
      });
    });
  });

  // ---- commands that can be copied, where the browser allows it ----
  if (navigator.clipboard) all(".command").forEach((box) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    box.append(button);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(box.querySelector("code").textContent);
        button.textContent = "Copied";
        say("Copied.");
      } catch { button.textContent = "Not allowed"; }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  });
})();
