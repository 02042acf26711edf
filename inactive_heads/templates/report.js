(() => {
  const chosen = (id) => (byId(id) ? byId(id).value : "");
  const payloads = data.models;
  const several = byId("model") && byId("model").options.length > 0;
  const headsNow = () => (several ? payloads[chosen("model")] : Object.values(payloads)[0]) || null;
  let heads = headsNow();
  // Counts of inputs, which the page holds as bytes: one each, two or four, by what they can be.
  const unpacked = (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const Width = heads.samples < 256 ? Uint8Array : heads.samples < 65536 ? Uint16Array : Uint32Array;
    return [...new Width(bytes.buffer)];
  };
  const countsOf = (score) => unpacked(score.counts[share()]);
  // Layers may have fewer heads than the largest has; a score may be undefined on some inputs.
  const headsIn = (row) => (heads.n_heads ? heads.n_heads[row] : heads.heads);
  const exists = (i) => i % heads.heads < headsIn(Math.floor(i / heads.heads));
  const knownOf = (score) => (score.known ? unpacked(score.known) : score.mean.map((_, i) => (exists(i) ? heads.samples : 0)));
  // A set of heads, which the page holds as bits: which are in it.
  const inSet = (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return heads.scores[0].mean.map((_, i) => Boolean((bytes[i >> 3] >> (7 - (i & 7))) & 1));
  };
  const setOf = (score) => inSet(score.sets[share()]);
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const noHead = (i) => `${headName(i)}<br>no such head: layer ${heads.layers[Math.floor(i / heads.heads)]} has ${headsIn(Math.floor(i / heads.heads))}`;
  // A stroke through the place of every head that its layer lacks.
  const strokes = () => {
    const path = heads.layers.flatMap((_, row) => Array.from({ length: heads.heads - headsIn(row) }, (_, i) => {
      const column = headsIn(row) + i;
      return `M${column - 0.4},${row + 0.4}L${column + 0.4},${row - 0.4}`;
    })).join("");
    return path ? [{ type: "path", path, layer: "below", line: { color: "#808080", width: 1 } }] : [];
  };

  const selected = () => heads.scores.find((score) => score.name === chosen("score")) || heads.scores[0];
  // The chosen share, or the nearest that this model has.
  const share = () => {
    const wanted = Number(chosen("share")), off = heads.percents.map((percent) => Math.abs(percent - wanted));
    return off.indexOf(Math.min(...off));
  };
  const grid = (flat) => heads.layers.map((_, i) => flat.slice(i * heads.heads, (i + 1) * heads.heads));
  const headNames = () => Array.from({ length: heads.heads }, (_, i) => String(i));
  const headName = (i) => `L${heads.layers[Math.floor(i / heads.heads)]}H${i % heads.heads}`;
  const quantile = (sorted, q) => sorted[Math.round(q * (sorted.length - 1))];
  const bar = (title) => ({
    thickness: narrow() ? 10 : 16, outlinewidth: 0, tickfont: { color: look().ink },
    title: { text: narrow() ? "" : title, side: "right", font: { color: look().ink } },
  });
  const headLayout = () => layout({
    shapes: strokes(),
    height: Math.min(1000, Math.max(300, 80 + (byId("answer") ? 13 : 18) * heads.layers.length)),
    // Categories, not numbers: a hybrid's layers have gaps, and a gap is not a wider row.
    xaxis: axis({ title: { text: "head" }, type: "category", tickangle: 0, showgrid: false, range: [-0.5, heads.heads - 0.5], categoryorder: "array", categoryarray: headNames() }),
    yaxis: axis({ title: { text: "layer" }, type: "category", showgrid: false, range: [heads.layers.length - 0.5, -0.5], categoryorder: "array", categoryarray: heads.layers }),
  });

  // Equal means share the lowest of their ranks; 1 is the most inactive.
  function ranksOf(score) {
    const known = score.mean.filter((v) => v !== null).sort((a, b) => a - b), rank = new Map();
    (score.side === "below" ? known : [...known].reverse()).forEach((v, i) => { if (!rank.has(v)) rank.set(v, i + 1); });
    return { known, rank };
  }

  // The most inactive heads of the chosen set, with those that tie with the tenth.
  const LISTED = 10;
  function mostInactive() {
    const score = selected(), inside = setOf(score), { rank } = ranksOf(score);
    const chosenHeads = inside.map((one, i) => (one ? i : -1)).filter((i) => i >= 0);
    chosenHeads.sort((a, b) => rank.get(score.mean[a]) - rank.get(score.mean[b]) || a - b);
    const last = chosenHeads[LISTED - 1], most = last === undefined ? 0 : rank.get(score.mean[last]);
    const listed = chosenHeads.filter((i, at) => at < LISTED || rank.get(score.mean[i]) === most);
    return { score, listed, rank, total: chosenHeads.length };
  }
  function cells(row, values, texts) {
    values.forEach((value, at) => {
      const name = texts[at] === "name", cell = document.createElement(name ? "th" : "td");
      cell.textContent = value;
      if (texts[at]) cell.className = name ? "text first" : "text";
      if (name) cell.scope = "row";
      row.append(cell);
    });
  }
  function list() {
    const { score, listed, rank, total } = mostInactive(), counts = countsOf(score), of = knownOf(score);
    const whole = score.groups && inSet(score.groups[share()]);
    const body = byId("most-rows");
    body.replaceChildren();
    for (const i of listed) {
      const values = [rank.get(score.mean[i]), headName(i), number(score.mean[i]), `${counts[i]} of ${of[i]} inputs`];
      cells(body.insertRow(), whole ? [...values, whole[i] ? "inactive" : "in use"] : values, ["", "name", "", "", "text"]);
    }
    document.querySelectorAll(".of-groups").forEach((node) => { node.hidden = !whole; });
    const rest = total - listed.length, file = byId("answer") && byId("answer").querySelector("pre");
    document.querySelector(".most-note").textContent = !total ? `No head is inactive at ${heads.percents[share()]}%.`
      : `${rest ? `${listed.length} of ${total} heads, by mean score over the inputs` : `All ${total} heads, by mean score over the inputs`}${rest && file ? ": heads.json has the set of the first choice." : "."}`;
    document.querySelectorAll(".how-many").forEach((node) => { node.textContent = total; });
  }
  function traits() {
    const score = selected(), body = byId("trait-rows");
    body.replaceChildren();
    heads.traits.forEach((name, at) => {
      const pair = score.traits[share()][at];
      cells(body.insertRow(), [name, ...pair.map((value) => (value === null ? "–" : String(Number(value.toPrecision(3))).replace("-", "−")))], ["name", "", ""]);
    });
  }

  function heatmap() {
    const score = selected(), counts = countsOf(score), of = knownOf(score);
    const below = score.side === "below", { known, rank } = ranksOf(score);
    const percent = heads.percents[share()];
    const text = score.mean.map((value, i) => {
      if (!exists(i)) return noHead(i);
      const place = value === null ? "" : `<br>rank ${rank.get(value)} of ${known.length}`;
      return `<b>${headName(i)}</b><br>${escape(score.name)}: ${number(value)}${place}` +
        `<br>inactive on ${counts[i]} of ${of[i]} inputs at ${percent}%`;
    });
    const marked = setOf(score).map((inside, i) => (inside ? i : -1)).filter((i) => i >= 0);
    return {
      traces: [
        {
          type: "heatmap", z: grid(score.mean), x: headNames(), y: heads.layers, text: grid(text),
          zmin: quantile(known, 0.01), zmax: quantile(known, 0.99),
          colorscale: "Cividis", reversescale: !below, xgap: 1, ygap: 1,
          hovertemplate: "%{text}<extra></extra>", colorbar: bar(escape(score.name)),
        },
        {
          type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false,
          x: marked.map((i) => String(i % heads.heads)),
          y: marked.map((i) => heads.layers[Math.floor(i / heads.heads)]),
          marker: { color: "#fff", size: heads.layers.length > 40 || narrow() ? 5 : 7, line: { color: "#000", width: 1 } },
        },
      ],
      layout: headLayout(),
    };
  }

  function inputShares() {
    const counts = countsOf(selected()), of = knownOf(selected());
    const percents = counts.map((n, i) => (of[i] ? (100 * n) / of[i] : null));
    const text = counts.map((n, i) => (exists(i) ? `<b>${headName(i)}</b><br>inactive on ${n} of ${of[i]} inputs` : noHead(i)));
    return {
      traces: [{
        type: "heatmap", z: grid(percents), x: headNames(), y: heads.layers, text: grid(text), zmin: 0, zmax: 100,
        colorscale: "Cividis", reversescale: true, xgap: 1, ygap: 1,
        hovertemplate: "%{text}<extra></extra>", colorbar: { ...bar("% of inputs"), ticksuffix: "%" },
      }],
      layout: headLayout(),
    };
  }

  // Hundredths in signed bytes; -128 where it is not known.
  function correlations() {
    const bytes = Int8Array.from(atob(selected().lengths || ""), (letter) => letter.charCodeAt(0));
    const values = [...bytes].map((hundredth) => (hundredth === -128 ? null : hundredth / 100));
    const text = values.map((value, i) => (exists(i) ? `<b>${headName(i)}</b><br>${value === null ? "not known" : value}` : noHead(i)));
    return {
      traces: [{
        type: "heatmap", z: grid(values), x: headNames(), y: heads.layers, text: grid(text), zmin: -1, zmax: 1,
        colorscale: [[0, "#b2182b"], [0.5, "#f7f7f7"], [1, "#2166ac"]], xgap: 1, ygap: 1,
        hovertemplate: "%{text}<extra></extra>", colorbar: bar("Spearman"),
      }],
      layout: headLayout(),
    };
  }

  function cutShapes(bars, cut, side) {
    const shapes = [];
    if (cut === null) return shapes;
    const from = side === "below" ? bars.low : Math.max(bars.low, cut);
    const to = side === "below" ? Math.min(bars.high, cut) : bars.high;
    if (to > from) shapes.push({ type: "rect", yref: "paper", x0: from, x1: to, y0: 0, y1: 1, fillcolor: "#808080", opacity: 0.25, line: { width: 0 }, layer: "below" });
    if (cut >= bars.low && cut <= bars.high) shapes.push({ type: "line", yref: "paper", x0: cut, x1: cut, y0: 0, y1: 1, line: { color: look().ink, width: 1.5, dash: "dash" } });
    return shapes;
  }

  function distribution() {
    const score = selected(), bars = score.bars;
    if (!bars) return { traces: [], layout: layout({ height: 320 }) };
    const width = (bars.high - bars.low) / bars.n.length;
    return {
      traces: [{
        type: "bar", x: bars.n.map((_, i) => bars.low + (i + 0.5) * width), y: bars.n, width,
        marker: { color: tone(score.color) },
        text: bars.n.map((n, i) => `${number(bars.low + i * width)} to ${number(bars.low + (i + 1) * width)}: ${n}`),
        textposition: "none", hovertemplate: "%{text}<extra></extra>",
      }],
      layout: layout({
        height: 320, bargap: 0, shapes: cutShapes(bars, score.cuts[share()], score.side),
        xaxis: axis({ title: { text: escape(score.name) } }),
        yaxis: axis({ title: { text: "heads × inputs" } }),
      }),
    };
  }

  function cumulative() {
    const score = selected(), bars = score.bars;
    if (!bars) return { traces: [], layout: layout({ height: 280 }) };
    const steps = bars.quantiles.length - 1;
    return {
      traces: [{
        type: "scatter", mode: "lines", x: bars.quantiles, y: bars.quantiles.map((_, i) => (100 * i) / steps),
        line: { color: tone(score.color), width: 2 }, hovertemplate: "%{y:.3g}% up to %{x:.4g}<extra></extra>",
      }],
      layout: layout({
        height: 280, shapes: cutShapes(bars, score.cuts[share()], score.side),
        xaxis: axis({ title: { text: escape(score.name) }, range: [bars.low, bars.high] }),
        yaxis: axis({ title: { text: "% up to that value" }, range: [0, 101] }),
      }),
    };
  }

  function layers() {
    const names = heads.scores.map((score) => escape(score.name));
    const z = heads.scores.map((score) => {
      const of = grid(knownOf(score)).map(sum);
      return grid(countsOf(score)).map((row, i) => (of[i] ? (100 * sum(row)) / of[i] : null));
    });
    return {
      traces: [{
        type: "heatmap", z, x: heads.layers, y: names, colorscale: "Cividis", reversescale: true,
        zmin: 0, zmax: Math.max(1, ...z.flat()), xgap: 1, ygap: 1,
        colorbar: { ...bar(""), ticksuffix: "%" },
        hovertemplate: "%{y}, layer %{x}<br>%{z:.1f}% inactive<extra></extra>",
      }],
      layout: layout({
        height: 90 + 22 * names.length,
        xaxis: axis({ title: { text: "layer" }, type: "category", tickangle: 0, showgrid: false }),
        yaxis: axis({ type: "category", showgrid: false, autorange: "reversed" }),
      }),
    };
  }

  function isBaseline(name) {
    return name === "Random" || name.startsWith("Placebo of ");
  }

  function curve(figure) {
    const faint = dark.matches && !printing ? 0.9 : 0.65;
    const best = figure.data.find((trace) => !isBaseline(trace.meta));
    const wanted = chosen("score");
    const strong = figure.data.some((trace) => trace.meta === wanted) ? wanted : best && best.meta;
    const traces = figure.data.map((trace) => {
      const on = trace.meta === strong || isBaseline(trace.meta);
      const color = tone(trace.line.color);
      return {
        ...trace, opacity: on ? 1 : faint,
        line: { ...trace.line, color, width: on ? 3 : 1.2 },
        marker: { ...trace.marker, color, size: on ? 8 : 5 },
        error_y: { ...trace.error_y, color, visible: on && Boolean(trace.error_y.array) },
      };
    });
    const small = narrow(), { ink } = look();
    return {
      traces,
      layout: layout({
        height: small ? 560 : 460,
        xaxis: axis(figure.layout.xaxis),
        yaxis: axis(figure.layout.yaxis),
        shapes: (figure.layout.shapes || []).map((shape) => ({ ...shape, line: { ...shape.line, color: ink } })),
        legend: { ...figure.layout.legend, ...(small ? smallLegend : { font: { size: 12 } }) },
        hovermode: "closest", uirevision: "kept",
      }),
    };
  }

  // The chosen score and the baselines alone, small enough to stand beside the heads.
  function cost() {
    const { figure } = data.charts[0], drawn = curve(figure);
    const wanted = drawn.traces.filter((trace) => trace.line.width > 2);
    const rest = drawn.layout;
    return {
      traces: wanted,
      layout: { ...rest, height: headLayout().height, legend: { ...rest.legend, orientation: "h", x: 0, y: 1.02, yanchor: "bottom" } },
    };
  }

  // The words that go with the chosen model, score and share.
  function say() {
    if (!heads) return;
    const score = selected(), percent = heads.percents[share()], cut = score.cuts[share()];
    const where = several ? `${chosen("model")}, ` : "";
    const rule = cut === null ? "" : `, inactive ${score.side} ${number(cut)}`;
    document.querySelectorAll(".shown").forEach((node) => { node.textContent = `${where}${score.name} at ${percent}%${rule}`; });
    document.querySelector(".score-shown").textContent = `${where}${score.name}`;
    document.querySelector(".share-shown").textContent = `${where}every score at ${percent}%`.replace(/^e/, "E");
    document.querySelector(".about").textContent = score.about;
    list();
    traits();
    const beyond = score.bars ? score.bars.beyond : 0;
    document.querySelector(".beyond").textContent = beyond
      ? `${beyond} value${beyond === 1 ? "" : "s"} further out ${beyond === 1 ? "is" : "are"} not shown.` : "";
    const counts = countsOf(score), of = knownOf(score), known = of.filter((n) => n).length;
    const always = counts.filter((n, i) => n && n === of[i]).length, never = counts.filter((n, i) => n === 0 && of[i]).length;
    document.querySelector(".often-split").textContent =
      `${always} heads are inactive on every input, ${known - always - never} on some, ${never} on none.`;
    const numbers = heads.layers.map((_, row) => headsIn(row));
    document.querySelector(".absent").textContent = heads.n_heads
      ? `Layers have ${Math.min(...numbers)} to ${Math.max(...numbers)} heads, ${sum(numbers)} in all: a place with a stroke is no head.` : "";
  }

  // What belongs to another choice is hidden, and so are sections of which nothing is left.
  function filter() {
    document.querySelectorAll("[data-model], [data-score], [data-share]").forEach((node) => {
      node.hidden = ["model", "score", "share"].some((key) => key in node.dataset && node.dataset[key] !== chosen(key));
    });
    document.querySelectorAll("section").forEach((section) => {
      const parts = [...section.querySelectorAll(".part")];
      if (parts.length) section.hidden = parts.every((part) => part.hidden);
      if (section.classList.contains("of-heads")) section.hidden = !heads;
      if (section.id === "lengths") section.hidden = !(heads && selected().lengths);
    });
    fillSeen();
  }

  // The choices stand in the page's address, so that a link leads to what was seen.
  const CHOICES = ["model", "score", "share"];
  function fromAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const id of CHOICES) {
      const value = asked.get(id), select = byId(id);
      if (value !== null && select && [...select.options].some((one) => one.value === value)) select.value = value;
    }
  }
  function intoAddress() {
    const now = new URLSearchParams(CHOICES.filter((id) => chosen(id)).map((id) => [id, chosen(id)]));
    history.replaceState(null, "", `#${now}`);
  }

  function choose() {
    intoAddress();
    heads = headsNow();
    filter();
    say();
    changing.forEach((chart) => { chart.drawn = false; if (visible(chart.node)) drawNow(chart); });
    drawLater();
  }

  // The rows of a late table are made when it is first seen: hundreds never are.
  const fillSeen = () => document.querySelectorAll("table[data-late]").forEach((table) => { if (visible(table)) fill(table); });
  function fill(table) {
    delete table.dataset.late;
    const heads = [...table.tHead.rows[0].cells];
    const make = (text, i) => {
      const first = heads[i].classList.contains("first"), cell = document.createElement(first ? "th" : "td");
      const { style } = heads[i].dataset, digits = Number(style.slice(1, -1)), value = Number(text);
      if (style === "") [cell.textContent, cell.className] = [text, heads[i].className];
      else if (text === "") cell.textContent = "–";
      else cell.textContent = (style.endsWith("f") ? value.toFixed(digits) : String(Number(value.toPrecision(digits || 6)))).replace("-", "−");
      if (first) cell.scope = "row";
      cell.dataset.key = style && text === "" ? "nan" : text;
      return cell;
    };
    for (const values of parseCsv(data.tables[Number(table.dataset.csv)]).slice(1)) {
      const row = table.tBodies[0].insertRow();
      row.append(...values.map(make));
    }
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

  document.querySelectorAll("table[data-csv]").forEach((table) => {
    const { csv, title } = table.dataset;
    toolbar(table.parentNode, ["CSV"], () => saveText(data.tables[Number(csv)], `${fileName(title)}.csv`, "text/csv"));
    table.querySelectorAll("thead th").forEach((th) => th.querySelector("button").addEventListener("click", () => sortTable(th)));
  });
  document.querySelectorAll(".pick").forEach((button) => button.addEventListener("click", () => {
    byId(button.dataset.kind).value = button.dataset.pick;
    choose();
    const there = ["answer", "heads", "curves", "cdfs"].map(byId).find((section) => section && !section.hidden);
    if (there) there.scrollIntoView({ behavior: "smooth" });
  }));
  // Those whose content goes with the choice; the others are shown or hidden as they are.
  const changing = [];
  document.querySelectorAll(".chart").forEach((node) => {
    const made = { heatmap, cost, shares: inputShares, correlations, distribution, cumulative, layers }[node.id];
    if (made) changing.push(register(node, made));
    else if (node.classList.contains("curve")) {
      const figure = data.charts[charts.filter((chart) => chart.node.classList.contains("curve")).length].figure;
      changing.push(register(node, () => curve(figure), narrow() ? 560 : 460));
    } else {
      const figure = data.figures[Number(node.dataset.figure)], wide = Boolean(node.closest(".wide"));
      register(node, () => themed(figure, wide), figure.layout.height);
    }
  });
  fromAddress();
  heads = headsNow();
  filter();
  say();
  if (!charts.length) { delete document.body.dataset.drawing; return; }
  addEventListener("hashchange", () => { fromAddress(); choose(); });
  for (const id of CHOICES) if (byId(id)) byId(id).addEventListener("change", choose);
  const again = () => { forget(); drawLater(); };
  dark.addEventListener("change", again);
  document.addEventListener("toggle", (event) => { fillSeen(); drawLater(); }, true);
  let wasNarrow = narrow();
  addEventListener("resize", () => { if (narrow() !== wasNarrow) { wasNarrow = narrow(); again(); } });
  const print = (on) => () => {
    printing = on;
    fillSeen();
    if (dark.matches) forget();
    drawAllNow();
  };
  addEventListener("beforeprint", print(true));
  addEventListener("afterprint", print(false));
  drawLater();
})();
