/* Draws the charts from the numbers in the page, each when it comes into view. */
(() => {
  "use strict";
  const ALL = JSON.parse(document.getElementById("chart-data").textContent);
  // Okabe and Ito's colours, told apart by the colour-blind; yellow last, as it is faint on white.
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "", "#B8A800"];
  const POINTS = ["circle", "rect", "triangle", "rectRot", "star", "cross", "crossRot", "rectRounded"];
  const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]]; // told apart once the colours repeat
  const BAR_PX = 9, GROUP_PX = 22, LINE_PX = 26;
  const drawn = [];

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function colourOf(series) {
    if (series.colour < 0) return css("--quiet");
    const own = COLOURS[series.colour % COLOURS.length];
    return own === "" ? css("--text") : own;
  }

  const round = (series) => Math.floor(Math.max(series.colour, 0) / COLOURS.length);

  /* Bars of the second round of colours are hollow. */
  function style(series, chart) {
    const colour = colourOf(series);
    const hollow = chart.kind === "bar" && round(series) % 2 === 1;
    return {
      borderColor: colour,
      backgroundColor: hollow ? "transparent" : colour,
      borderWidth: chart.kind === "bar" ? (hollow ? 2 : 0) : 2,
      borderDash: series.dashed ? [4, 4] : DASHES[round(series) % DASHES.length],
      pointStyle: POINTS[Math.max(series.colour, 0) % POINTS.length],
    };
  }

  function dataset(series, chart, panel) {
    const points = series.x ? series.y.map((y, i) => ({ x: series.x[i], y })) : series.y;
    const long = series.y.length > 20;
    return {
      label: series.name,
      data: points,
      pointRadius: chart.kind === "scatter" ? 6 : long ? 0 : 4,
      pointHoverRadius: 7,
      pointHitRadius: 8,
      spanGaps: true,
      hidden: !isOn(panel, series),
      ...style(series, chart),
    };
  }

  const isOn = (panel, series) => panel.on.has(series.name);

  function axis(title, more) {
    return {
      title: { display: Boolean(title), text: title, color: css("--text") },
      ticks: { color: css("--quiet") },
      grid: { color: css("--grid") },
      ...more,
    };
  }

  function scales(chart, panel) {
    const labels = panel.labels.length > 0;
    const place = axis(labels ? "" : chart.x, { type: labels ? "category" : "linear", stacked: chart.stacked });
    if (labels) place.ticks = { ...place.ticks, autoSkip: false };
    const value = axis(chart.y, { beginAtZero: chart.kind === "bar", stacked: chart.stacked });
    return chart.horizontal ? { y: place, x: value } : { x: place, y: value };
  }

  function options(chart, panel) {
    const many = chart.kind === "line" && !panel.labels.length;
    return {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      indexAxis: chart.horizontal ? "y" : "x",
      interaction: { mode: chart.kind === "bar" && !chart.stacked ? "point" : many ? "nearest" : "point", intersect: false },
      scales: scales(chart, panel),
      plugins: { legend: { display: false }, tooltip: { boxPadding: 4 } },
    };
  }

  /* A chart with more bars than fit becomes wider or taller, and scrolls. */
  function fit(box, chart, panel) {
    const bars = panel.labels.length * (chart.stacked ? 1 : Math.max(1, panel.on.size));
    const frame = box.querySelector(".canvas > div");
    if (chart.horizontal) frame.style.height = `${Math.max(160, panel.labels.length * LINE_PX + 70)}px`;
    else if (chart.kind === "bar") frame.style.minWidth = `${bars * BAR_PX + panel.labels.length * GROUP_PX}px`;
    box.classList.toggle("wide", chart.kind === "bar" && !chart.horizontal && bars > 45);
  }

  function draw(entry) {
    const { box, chart, panel } = entry;
    if (entry.plot) entry.plot.destroy();
    fit(box, chart, panel);
    const type = chart.kind;
    const datasets = panel.series.map((series) => dataset(series, chart, panel));
    const canvas = box.querySelector("canvas");
    entry.plot = new Chart(canvas, { type, data: { labels: panel.labels, datasets }, options: options(chart, panel) });
  }

  function checkbox(entry, series) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    const key = document.createElement("span");
    input.type = "checkbox";
    input.checked = isOn(entry.panel, series);
    input.addEventListener("change", () => {
      entry.panel.on[input.checked ? "add" : "delete"](series.name);
      draw(entry);
    });
    key.className = round(series) % 2 || series.dashed ? "key dashed" : "key";
    key.style.borderColor = colourOf(series);
    label.append(input, key, series.name);
    return label;
  }

  function everything(entry) {
    const button = document.createElement("button");
    const full = entry.panel.series.length === entry.panel.on.size;
    button.type = "button";
    button.textContent = full ? "none" : "all";
    button.addEventListener("click", () => {
      entry.panel.on = new Set(full ? [] : entry.panel.series.map((series) => series.name));
      show(entry);
      entry.box.querySelector(".series button").focus();
    });
    return button;
  }

  function show(entry) {
    const several = entry.panel.series.length > 1; // one needs no choice
    const boxes = several ? entry.panel.series.map((series) => checkbox(entry, series)) : [];
    if (boxes.length > 2) boxes.push(everything(entry));
    entry.box.querySelector(".series").replaceChildren(...boxes);
    draw(entry);
  }

  function start(box) {
    const chart = ALL[box.id];
    for (const panel of chart.panels) {
      const all = chart.stacked || chart.kind === "scatter";
      const first = all ? panel.series : panel.series.filter((s, i) => i < chart.shown || s.colour < 0);
      panel.on = new Set(first.map((series) => series.name));
    }
    const entry = { box, chart, panel: chart.panels[0] };
    drawn.push(entry);
    const select = box.querySelector("select");
    if (select) {
      select.addEventListener("change", () => {
        entry.panel = chart.panels[Number(select.value)];
        show(entry);
      });
    }
    show(entry);
  }

  const waiting = new Set(document.querySelectorAll("figure.chart"));
  function begin(box) {
    if (waiting.delete(box)) start(box);
  }
  const watcher = new IntersectionObserver(
    (seen) => seen.filter((entry) => entry.isIntersecting).forEach((entry) => begin(entry.target)),
    { rootMargin: "600px" },
  );
  for (const box of waiting) {
    box.querySelector(".tools").hidden = false;
    box.querySelector(".canvas").hidden = false;
    watcher.observe(box);
  }
  document.addEventListener("themechange", () => drawn.forEach(show));
  window.addEventListener("beforeprint", () => [...waiting].forEach(begin));
})();
