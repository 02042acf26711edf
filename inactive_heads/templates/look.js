// How charts look, follow the reader's theme, are drawn when there is time, and are saved.
const data = JSON.parse(document.getElementById("report-data").textContent);
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
// Black is one of the eight colours; on a dark page it has to be light.
const tone = (color) => (color === "#000000" ? look().ink : color);
const config = () => ({
  responsive: true, displaylogo: false,
  displayModeBar: narrow() ? false : "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toImage"],
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
const smallLegend = { orientation: "h", x: 0, y: -0.22, yanchor: "top", entrywidth: 0.5, entrywidthmode: "fraction", font: { size: 12 } };

// A figure made in Python, in the page's look.
function themed(figure, wide) {
  const { ink } = look(), given = figure.layout, axes = {};
  for (const [key, value] of Object.entries(given)) {
    if (/^[xy]axis\d*$/.test(key)) axes[key] = axis(value);
  }
  const toned = (style) => (style && typeof style.color === "string" ? { ...style, color: tone(style.color) } : style);
  const traces = figure.data.map((trace) => ({
    ...trace,
    ...(trace.line && { line: toned(trace.line) }),
    ...(trace.marker && { marker: toned(trace.marker) }),
    ...(trace.type === "heatmap" && { colorbar: { thickness: narrow() ? 10 : 16, outlinewidth: 0, tickfont: { color: ink }, ...trace.colorbar } }),
  }));
  const legend = { font: { size: 12 }, ...given.legend };
  const panels = Boolean((given.annotations || []).length);
  return {
    traces,
    layout: layout({
      ...given, ...axes,
      margin: { l: 60, r: 15, t: panels ? 40 : 15, b: panels ? 60 : 50 },
      legend: narrow() && !wide && !legend.orientation ? { ...legend, ...smallLegend } : legend,
      shapes: (given.shapes || []).map((shape) => ({ ...shape, line: { ...shape.line, color: ink } })),
      uirevision: "kept",
    }),
  };
}

// Charts are {node, spec, drawn}: spec() gives {traces, layout} as of now.
const charts = [];
const visible = (node) => node.offsetParent !== null && !node.closest("details:not([open])");

function register(node, spec, height) {
  const chart = { node, spec, drawn: false };
  charts.push(chart);
  // Its place is kept before it is drawn, so that nothing below moves.
  if (height) node.style.minHeight = `${height}px`;
  const tools = toolbar(node, ["SVG", "PNG"], (format) => saveChart(chart, format.toLowerCase()));
  chart.tools = tools;
  return chart;
}

function drawNow(chart) {
  const { traces, layout: shape } = chart.spec();
  Plotly.react(chart.node, traces, shape, config());
  chart.drawn = true;
}

let working = false;
function drawLater() {
  if (working) return;
  working = true;
  document.body.dataset.drawing = "";
  const step = () => {
    const next = charts.find((chart) => !chart.drawn && visible(chart.node));
    if (!next) {
      working = false;
      delete document.body.dataset.drawing;
      return;
    }
    drawNow(next);
    setTimeout(step);
  };
  // The words come first: charts wait until the page has been painted.
  requestAnimationFrame(() => setTimeout(step));
}

const drawAllNow = () => charts.forEach((chart) => { if (!chart.drawn && visible(chart.node)) drawNow(chart); });
const forget = () => charts.forEach((chart) => { chart.drawn = false; });

function toolbar(after, names, act) {
  const tools = document.createElement("div");
  tools.className = "tools";
  for (const name of names) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.title = `Save as ${name}`;
    button.addEventListener("click", () => act(name));
    tools.append(button);
  }
  after.after(tools);
  return tools;
}

const fileName = (title) => title.replace(/[^\p{L}\p{N}.+-]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 100) || "figure";

function saveChart(chart, format) {
  const { node } = chart, part = node.closest(".part, section");
  const title = [...part.querySelectorAll("h3")].map((heading) => heading.textContent).find(Boolean) || "figure";
  const name = node.closest("section").id;
  const size = { width: node.clientWidth, height: node.clientHeight };
  // On white, whatever the reader's theme: it goes into a paper. As it is shown, where it can.
  printing = true;
  const { traces, layout: shape } = chart.spec();
  printing = false;
  const figure = dark.matches || !chart.drawn ? { data: traces, layout: { ...shape, ...size } } : node;
  return Plotly.downloadImage(figure, { format, filename: fileName(`${name}-${title}`), scale: format === "png" ? 2 : 1, ...size });
}

function saveText(text, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Rows of cells; a cell with commas, quotes or line breaks stands in quotes.
function parseCsv(text) {
  const rows = [[]];
  for (const [, cell, end] of text.matchAll(/("(?:[^"]|"")*"|[^,\n]*)(,|\n|$)/g)) {
    rows.at(-1).push(cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell);
    if (end === "\n") rows.push([]);
    if (end === "") break;
  }
  return rows.filter((row) => row.length > 1 || row[0] !== "");
}
