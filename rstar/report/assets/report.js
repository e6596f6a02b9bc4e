// The report's own behaviour: the theme, charts when they come into view, the lineage, the filters, and the trees.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = (id) => JSON.parse(byId(id).textContent);

  // Colours are CSS variables, so that a change of the theme draws nothing again.
  const theme = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const showTheme = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
    theme.setAttribute("aria-pressed", String(isDark()));
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  const text = { labelColor: "var(--muted)", titleColor: "var(--muted)", labelFont: "inherit", titleFont: "inherit" };
  const config = {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { ...text, titleFontWeight: 500, gridColor: "var(--border)", domainColor: "var(--border)", tickColor: "var(--border)" },
    axisX: { grid: false },
    legend: { ...text, titleFontWeight: 500, orient: "bottom", symbolType: "circle", symbolOpacity: 1, layout: { bottom: { anchor: "start", direction: "vertical" } } },
    rule: { color: "var(--muted)" },
  };
  // `ast`: expressions are interpreted, because the page's policy forbids eval.
  const options = { ast: true, renderer: "svg", actions: false, config, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  const specs = data("chart-specs");
  const draw = (element) => {
    const done = vegaEmbed(element, specs[element.dataset.chart], options);
    done.catch((error) => { element.textContent = `This chart cannot be drawn: ${error.message}`; });
    done.finally(() => { element.dataset.drawn = "yes"; });
  };
  const charts = [...document.querySelectorAll("[data-chart]")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "400px" });
  charts.forEach((element) => watcher.observe(element));

  const stages = [...document.querySelectorAll(".stage")];
  const choose = (id) => {
    const chosen = byId(id);
    const madeFrom = new Set(chosen.dataset.madeFrom.split(" "));
    chosen.closest("table").classList.add("chosen");
    for (const stage of stages) {
      stage.setAttribute("aria-pressed", String(stage === chosen));
      stage.classList.toggle("made", madeFrom.has(stage.id));
      byId(`details-${stage.id}`).hidden = stage !== chosen;
    }
  };
  stages.forEach((stage) => stage.addEventListener("click", () => choose(stage.id)));
  for (const link of document.querySelectorAll("[data-stage]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      choose(link.dataset.stage);
      byId(link.dataset.stage).focus();
    });
  }
  const lastPolicy = stages.filter((stage) => stage.textContent.startsWith("policy")).at(-1);
  if (lastPolicy) choose(lastPolicy.id);

  const filters = byId("filters");
  if (filters) {
    const samples = [...document.querySelectorAll(".sample")];
    const apply = () => {
      const wanted = [...new FormData(filters)].filter(([, value]) => value);
      for (const sample of samples) sample.hidden = wanted.some(([name, value]) => sample.dataset[name] !== value);
      byId("sample-count").textContent = `${samples.filter((sample) => !sample.hidden).length} of ${samples.length}`;
    };
    filters.addEventListener("input", apply);
    apply();
  }

  const trees = data("tree-data");
  const viewer = trees.length ? window.rstarTrees.mount(byId("tree-viewer"), { trees }) : null;
  for (const button of document.querySelectorAll("[data-tree]")) {
    button.addEventListener("click", () => {
      viewer.open(button.dataset.tree);
      byId("trees").scrollIntoView();
    });
  }
})();
