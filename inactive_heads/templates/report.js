"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const heads = data.heads;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => innerWidth < 640;
  const byId = (id) => document.getElementById(id);
  // Plotly reads tags and entities in every label.
  const escape = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const number = (value) => (value === null ? "not known" : String(Number(value.toPrecision(4))));
  let printing = false;

  const look = () => {
    const night = dark.matches && !printing;
    return night
      ? { ink: "#e6e8eb", grid: "#333b44", paper: "#14171b" }
      : { ink: "#1b1f24", grid: "#e3e7eb", paper: "#ffffff" };
  };
  const config = () => ({
    responsive: true, displaylogo: false,
    displayModeBar: narrow() ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  });
  const axis = (more) => {
    const { ink, grid } = look();
    return { gridcolor: grid, zerolinecolor: grid, linecolor: ink, automargin: true, color: ink, ...more };
  };
  const layout = (more) => {
    const { ink, paper } = look();
    return {
      paper_bgcolor: paper, plot_bgcolor: paper,
      font: { color: ink, size: 13, family: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif" },
      margin: { l: 55, r: 15, t: 15, b: 50 },
      // A finger that scrolls the page must not zoom the chart.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      hoverlabel: { bgcolor: paper, bordercolor: ink, font: { color: ink, size: 13 } },
      ...more,
    };
  };

  const selected = () => heads.scores[Number(byId("score").value)];
  const share = () => Number(byId("share").value);

  const grid = (flat) => heads.layers.map((_, i) => flat.slice(i * heads.heads, (i + 1) * heads.heads));
  const headNames = heads ? Array.from({ length: heads.heads }, (_, i) => String(i)) : [];

  const quantile = (sorted, q) => sorted[Math.round(q * (sorted.length - 1))];

  function drawHeatmap() {
    const score = selected(), counts = score.counts[share()];
    const below = score.side === "below";
    const known = score.mean.filter((v) => v !== null).sort((a, b) => a - b);
    const rank = new Map();
    (below ? known : [...known].reverse()).forEach((v, i) => { if (!rank.has(v)) rank.set(v, i + 1); });
    const percent = heads.percents[share()];
    const text = score.mean.map((value, i) => {
      const name = `L${heads.layers[Math.floor(i / heads.heads)]}H${i % heads.heads}`;
      const place = value === null ? "" : `<br>rank ${rank.get(value)} of ${known.length}`;
      return `<b>${name}</b><br>${escape(score.name)}: ${number(value)}${place}` +
        `<br>inactive on ${counts[i]} of ${heads.samples} inputs at ${percent}%`;
    });
    const marked = counts.map((n, i) => (2 * n > heads.samples ? i : -1)).filter((i) => i >= 0);
    const { ink } = look();
    Plotly.react(byId("heatmap"), [
      {
        type: "heatmap", z: grid(score.mean), x: headNames, y: heads.layers, text: grid(text),
        zmin: quantile(known, 0.01), zmax: quantile(known, 0.99),
        colorscale: "Cividis", reversescale: !below, xgap: 1, ygap: 1,
        hovertemplate: "%{text}<extra></extra>",
        colorbar: {
          thickness: narrow() ? 10 : 16, outlinewidth: 0, tickfont: { color: ink },
          title: { text: narrow() ? "" : escape(score.name), side: "right", font: { color: ink } },
        },
      },
      {
        type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false,
        x: marked.map((i) => headNames[i % heads.heads]),
        y: marked.map((i) => heads.layers[Math.floor(i / heads.heads)]),
        marker: { color: "#fff", size: narrow() ? 5 : 7, line: { color: "#000", width: 1 } },
      },
    ], layout({
      height: Math.min(1000, Math.max(320, 90 + 18 * heads.layers.length)),
      // Categories, not numbers: a hybrid's layers have gaps, and a gap is not a wider row.
      xaxis: axis({ title: { text: "head" }, type: "category", tickangle: 0, showgrid: false, range: [-0.5, heads.heads - 0.5], categoryorder: "array", categoryarray: headNames }),
      yaxis: axis({ title: { text: "layer" }, type: "category", showgrid: false, range: [heads.layers.length - 0.5, -0.5], categoryorder: "array", categoryarray: heads.layers }),
    }), config());
    const cut = score.cuts[share()];
    const rule = cut === null ? "" : `, inactive ${score.side} ${number(cut)}`;
    document.querySelectorAll(".shown").forEach((node) => { node.textContent = `${score.name} at ${percent}%${rule}`; });
    document.querySelector(".about").textContent = score.about;
  }

  function drawDistribution() {
    const score = selected(), bars = score.bars, cut = score.cuts[share()];
    const chart = byId("distribution");
    if (!bars) { Plotly.purge(chart); return; }
    const width = (bars.high - bars.low) / bars.n.length;
    const { ink } = look();
    const shapes = [];
    if (cut !== null) {
      const from = score.side === "below" ? bars.low : Math.max(bars.low, cut);
      const to = score.side === "below" ? Math.min(bars.high, cut) : bars.high;
      if (to > from) shapes.push({ type: "rect", yref: "paper", x0: from, x1: to, y0: 0, y1: 1, fillcolor: "#808080", opacity: 0.25, line: { width: 0 }, layer: "below" });
      if (cut >= bars.low && cut <= bars.high) shapes.push({ type: "line", yref: "paper", x0: cut, x1: cut, y0: 0, y1: 1, line: { color: ink, width: 1.5, dash: "dash" } });
    }
    Plotly.react(chart, [{
      type: "bar", x: bars.n.map((_, i) => bars.low + (i + 0.5) * width), y: bars.n, width,
      marker: { color: tone(score.color) },
      text: bars.n.map((n, i) => `${number(bars.low + i * width)} to ${number(bars.low + (i + 1) * width)}: ${n}`),
      textposition: "none", hovertemplate: "%{text}<extra></extra>",
    }], layout({
      height: 320, bargap: 0, shapes,
      xaxis: axis({ title: { text: escape(score.name) } }),
      yaxis: axis({ title: { text: "heads × inputs" } }),
    }), config());
    document.querySelector(".beyond").textContent = bars.beyond
      ? `${bars.beyond} value${bars.beyond === 1 ? "" : "s"} further out ${bars.beyond === 1 ? "is" : "are"} not shown.` : "";
  }

  function drawLayers() {
    const percent = heads.percents[share()], pairs = heads.heads * heads.samples;
    const names = heads.scores.map((score) => escape(score.name));
    const z = heads.scores.map((score) =>
      grid(score.counts[share()]).map((row) => (100 * row.reduce((a, b) => a + b, 0)) / pairs));
    Plotly.react(byId("layers"), [{
      type: "heatmap", z, x: heads.layers, y: names, colorscale: "Cividis", reversescale: true,
      zmin: 0, zmax: Math.max(1, ...z.flat()), xgap: 1, ygap: 1,
      colorbar: { thickness: narrow() ? 10 : 16, outlinewidth: 0, ticksuffix: "%", tickfont: { color: look().ink } },
      hovertemplate: "%{y}, layer %{x}<br>%{z:.1f}% inactive<extra></extra>",
    }], layout({
      height: 90 + 22 * names.length,
      xaxis: axis({ title: { text: "layer" }, type: "category", tickangle: 0, showgrid: false }),
      yaxis: axis({ type: "category", showgrid: false, autorange: "reversed" }),
    }), config());
    document.querySelector(".share-shown").textContent = `Every score at ${percent}%`;
  }

  // Black is one of the eight colours; on a dark page it has to be light.
  const tone = (color) => (color === "#000000" ? look().ink : color);

  function drawCurves() {
    const charts = document.querySelectorAll(".curve");
    const faint = dark.matches && !printing ? 0.9 : 0.65;
    data.charts.forEach((figure, i) => {
      const best = figure.data.find((trace) => trace.meta !== "Random");
      const wanted = heads ? selected().name : null;
      const strong = figure.data.some((trace) => trace.meta === wanted) ? wanted : best && best.meta;
      const traces = figure.data.map((trace) => {
        const on = trace.meta === strong || trace.meta === "Random";
        const color = tone(trace.line.color);
        return {
          ...trace, opacity: on ? 1 : faint,
          line: { ...trace.line, color, width: on ? 3 : 1.2 },
          marker: { ...trace.marker, color, size: on ? 8 : 5 },
          error_y: { ...trace.error_y, color, visible: on && Boolean(trace.error_y.array) },
        };
      });
      const small = narrow(), { ink } = look();
      const legend = small
        ? { orientation: "h", x: 0, y: -0.22, yanchor: "top", entrywidth: 0.5, entrywidthmode: "fraction", font: { size: 12 } }
        : { font: { size: 12 } };
      Plotly.react(charts[i], traces, layout({
        height: small ? 560 : 460,
        xaxis: axis(figure.layout.xaxis),
        yaxis: axis(figure.layout.yaxis),
        shapes: (figure.layout.shapes || []).map((shape) => ({ ...shape, line: { ...shape.line, color: ink } })),
        legend: { ...figure.layout.legend, ...legend },
        hovermode: "closest", uirevision: "kept",
      }), config());
    });
  }

  function draw() {
    drawCurves();
    if (!heads) return;
    drawHeatmap();
    drawDistribution();
    drawLayers();
  }

  function sortTable(header) {
    const table = header.closest("table"), body = table.tBodies[0];
    const column = [...header.parentNode.children].indexOf(header);
    const up = header.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("thead th").forEach((th) => th.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.key;
    const compare = (a, b) => {
      const x = Number(key(a)), y = Number(key(b));
      if (header.classList.contains("text")) return key(a).localeCompare(key(b)) * (up ? 1 : -1);
      // What is not known stays last either way.
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return (x - y) * (up ? 1 : -1);
    };
    [...body.rows].sort(compare).forEach((row) => body.append(row));
  }

  document.querySelectorAll("thead th").forEach((th) => th.querySelector("button").addEventListener("click", () => sortTable(th)));
  if (!data.charts.length && !heads) return;
  if (heads) {
    byId("score").addEventListener("change", draw);
    byId("share").addEventListener("change", () => { drawHeatmap(); drawDistribution(); drawLayers(); });
    document.querySelectorAll(".pick").forEach((button) => button.addEventListener("click", () => {
      const at = heads.scores.findIndex((score) => score.name === button.dataset.score);
      byId("score").value = String(at);
      draw();
      byId("controls").nextElementSibling.scrollIntoView({ behavior: "smooth" });
    }));
  }
  dark.addEventListener("change", draw);
  let wasNarrow = narrow();
  addEventListener("resize", () => { if (narrow() !== wasNarrow) { wasNarrow = narrow(); draw(); } });
  const print = (on) => () => {
    printing = on;
    document.querySelectorAll("details").forEach((node) => { node.open = on; });
    if (dark.matches) draw();
  };
  addEventListener("beforeprint", print(true));
  addEventListener("afterprint", print(false));
  draw();
})();
