// How the explorer draws: elements, colours, a heatmap of heads, a pattern, lines along tokens.
const make = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// Text is always a text node: tokens and names of scores may hold anything.
function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const known = (value) => typeof value === "number" && Number.isFinite(value);
const number = (value, digits = 4) => (known(value) ? String(Number(value.toPrecision(digits))).replace("-", "−") : "not known");
const weightWords = (weight) => (weight < 0.0001 ? "less than 0.0001" : weight.toFixed(4));
const signed = (value) => (known(value) ? `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}` : "not known");
const headName = ([layer, head]) => `L${layer}H${head}`;
const sameHead = (one, other) => Boolean(one && other) && one[0] === other[0] && one[1] === other[1];

const CIVIDIS = ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"].map(
  (hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)),
);
function cividis(share) {
  const at = Math.min(1, Math.max(0, share)) * (CIVIDIS.length - 1);
  const left = Math.min(Math.floor(at), CIVIDIS.length - 2), rest = at - left;
  return CIVIDIS[left].map((from, i) => Math.round(from + rest * (CIVIDIS[left + 1][i] - from)));
}
const rgb = (channels) => `rgb(${channels.join(" ")})`;
const BLUE = "86 180 233", RISE = "213 94 0", FALL = "0 114 178";
const tint = (channels, alpha) => `rgb(${channels} / ${alpha.toFixed(3)})`;

// Between the 1st and the 99th percentile, so that one outlier does not flatten the rest.
function limits(values) {
  const sorted = values.filter(known).sort((a, b) => a - b);
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  return sorted.length ? [at(0.01), at(0.99)] : [0, 1];
}

// The heads of a model, a cell each: layers downwards, heads to the right.
function heatmap(table, act) {
  const rows = table.layers.length, columns = table.n_heads;
  const width = Math.min(30, Math.max(8, Math.floor(300 / columns)));
  const height = Math.min(20, Math.max(8, Math.floor(480 / rows)));
  const left = 34, top = 20;
  const cells = [], marks = draw("g", { "pointer-events": "none" });
  const svg = draw("svg", {
    class: "ih-heads", width: left + columns * width + 4, height: top + rows * height + 4, tabindex: 0,
    role: "application", "aria-roledescription": "heatmap of attention heads",
  });
  const every = (size) => [1, 2, 5, 10, 20, 50].find((step) => step * size >= 15) || 50;
  for (let column = 0; column < columns; column += every(width)) {
    svg.append(draw("text", { x: left + (column + 0.5) * width, y: top - 6, "text-anchor": "middle" }, String(column)));
  }
  for (let row = 0; row < rows; row += every(height)) {
    svg.append(draw("text", { x: left - 5, y: top + (row + 0.5) * height + 4, "text-anchor": "end" }, `L${table.layers[row]}`));
  }
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const x = left + column * width, y = top + row * height, there = column < table.heads_in[row];
      if (!there) svg.append(draw("path", { class: "ih-none", d: `M${x + 1} ${y + height - 2}l${width - 3} ${3 - height}` }));
      const cell = draw("rect", {
        x, y, width: width - 1, height: height - 1, "pointer-events": there ? null : "all",
        "data-head": there ? `${table.layers[row]},${column}` : null,
      });
      cell.place = { row, column, index: cells.length };
      cells.push(cell);
      svg.append(cell);
    }
  }
  svg.append(marks);
  const placeOf = (event) => event.target.place;
  svg.addEventListener("click", (event) => placeOf(event) && act.click(placeOf(event), event));
  svg.addEventListener("mousemove", (event) => act.point(placeOf(event), event));
  svg.addEventListener("mouseleave", (event) => act.point(undefined, event));
  svg.addEventListener("keydown", (event) => act.key(event));

  const ring = (row, column, name, stroke, grow) => draw("rect", {
    class: name, x: left + column * width - 0.5 - grow, y: top + row * height - 0.5 - grow,
    width: width + 2 * grow, height: height + 2 * grow, fill: "none", "stroke-width": stroke,
  });
  return {
    svg,
    paint(score) {
      const [low, high] = limits(score.mean);
      for (const cell of cells) {
        const value = score.mean[cell.place.index];
        const share = high > low ? (value - low) / (high - low) : 0.5;
        cell.setAttribute("fill", known(value) ? rgb(cividis(score.side === "above" ? 1 - share : share)) : "none");
      }
      return score.side === "above" ? [high, low] : [low, high];
    },
    mark(head, selection) {
      const rowOf = (layer) => table.layers.indexOf(layer);
      marks.replaceChildren();
      for (const [layer, column] of selection) {
        const x = left + (column + 0.5) * width - 0.5, y = top + (rowOf(layer) + 0.5) * height - 0.5;
        const arm = Math.min(width, height) / 2 - 2, cross = `M${x - arm} ${y - arm}l${2 * arm} ${2 * arm}m0 ${-2 * arm}l${-2 * arm} ${2 * arm}`;
        marks.append(draw("path", { class: "ih-cross-under", d: cross }), draw("path", { class: "ih-cross", d: cross }));
      }
      if (head) marks.append(ring(rowOf(head[0]), head[1], "ih-ring-under", 4, 0), ring(rowOf(head[0]), head[1], "ih-ring", 2, 0));
    },
  };
}

// How strong the colour of a weight is: most are small, and would all look like 0.
const strength = (weight) => Math.cbrt(weight);

// A pattern's cells are roots of weights in 65535ths, row after row.
function weightsOf(pattern) {
  const { cells } = pattern;
  // Where a copy of the bytes begins is even; where the bytes themselves begin may be odd.
  const bytes = typeof cells === "string"
    ? Uint8Array.from(atob(cells), (letter) => letter.charCodeAt(0))
    : new Uint8Array(cells.buffer, cells.byteOffset, cells.byteLength).slice();
  const roots = new Uint16Array(bytes.buffer);
  return {
    side: pattern.side, block: pattern.block,
    weight: (query, key) => (roots[query * pattern.side + key] / 65535) ** 2,
  };
}

function paintPattern(canvas, weights) {
  const { side } = weights;
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d"), image = context.createImageData(side, side);
  for (let query = 0; query < side; query += 1) {
    for (let key = 0; key <= query; key += 1) {
      image.data.set([...cividis(strength(weights.weight(query, key))), 255], 4 * (query * side + key));
    }
  }
  context.putImageData(image, 0, 0);
}

// One number per token as bars, about zero where they may be negative.
function strip({ label, values, signs, top }) {
  const found = values.filter(known), size = Math.max(...found.map(Math.abs), top || 0) || 1;
  const rows = signs ? 2 : 1;
  const svg = draw("svg", { viewBox: `0 0 ${values.length} ${rows}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  const paths = { up: "", down: "" };
  values.forEach((value, place) => {
    if (!known(value)) return;
    const height = value / size;
    paths[height < 0 ? "down" : "up"] += `M${place} 1v${-height}h1v${height}z`;
  });
  svg.append(draw("path", { d: paths.up, class: signs ? "ih-rise" : "ih-bar" }), draw("path", { d: paths.down, class: "ih-fall" }));
  if (signs) svg.append(draw("path", { d: `M0 1h${values.length}`, class: "ih-zero", "vector-effect": "non-scaling-stroke" }));
  const range = found.length ? `${number(Math.min(...found), top ? 4 : 3)} to ${number(Math.max(...found), 3)}` : "not known";
  return { svg, range };
}
