// The explorer's page: what is shown of which head, and what the kernel is asked for.
const ALONG = [
  ["first_token_weight", "weight of the first token", 1],
  ["entropy", "entropy, nats"],
  ["v_norm", "norm of v"],
  ["z_norm", "norm of z"],
  ["result_norm", "norm of result"],
];
const CHANGES = [["alone", "loss change, alone"], ["zeroed", "loss change, selection"]];

function render({ model, el }) {
  const table = model.get("table"), layers = table.layers;
  const nHeads = table.heads_in.reduce((a, b) => a + b, 0);
  const scoreNow = () => table.scores.find((score) => score.name === model.get("score"));
  let weights = null; // of the pattern shown
  let pointed = null, pinned = null; // tokens
  let asked = false; // whether a zeroing is under way
  let later = 0;

  // What stands where.
  const scoreMenu = make("select", { "aria-label": "score", onchange: () => put({ score: scoreMenu.value }) });
  scoreMenu.append(...table.scores.map(({ name, label }) => make("option", { value: name }, label)));
  const textMenu = make("select", { "aria-label": "text", onchange: () => put({ text: Number(textMenu.value) }) });
  textMenu.append(...table.titles.map((title, place) => make("option", { value: place }, `${place} (${table.n_tokens[place]} tokens): ${title}`)));
  const about = make("p", { class: "ih-soft" }), scale = make("div", { class: "ih-scale", "aria-hidden": "true" });
  const chips = make("div", { class: "ih-chips" });
  const share = make("input", { type: "number", min: 0, max: 100, step: "any", value: 10, "aria-label": "percent of heads" });
  const choose = make("button", { type: "button", onclick: () => share.checkValidity() && share.value !== "" && model.send({ ask: "select", percent: Number(share.value) }) }, "Select the inactive");
  const clear = make("button", { type: "button", onclick: () => put({ selection: [] }) }, "Clear");
  const zero = make("button", { type: "button", class: "ih-main", onclick: askZero });
  const loss = make("p", { class: "ih-loss", role: "status" });
  const problem = make("p", { class: "ih-problem", role: "alert" });
  const name = make("h3"), standing = make("p"), aloneWords = make("p", { class: "ih-alone" });
  const toggle = make("button", { type: "button", onclick: () => toggleHead(model.get("head")) });
  const canvas = make("canvas", { role: "img" });
  const rowLine = make("i", { class: "ih-row" }), frame = make("div", { class: "ih-pattern" }, canvas, rowLine);
  const patternWords = make("p", { class: "ih-soft" });
  const strips = make("div", { class: "ih-strips" });
  const colours = make("select", { "aria-label": "colour of the tokens", onchange: paintTokens });
  const colourWords = make("span", { class: "ih-soft" });
  const tokens = make("div", { class: "ih-tokens", tabindex: 0, role: "group", "aria-label": "tokens of the text" });
  const tip = make("div", { class: "ih-tip", role: "tooltip", hidden: "" });
  const live = make("div", { class: "ih-live", "aria-live": "polite" });
  const empty = make("p", { class: "ih-empty" }, "Click a head: its attention pattern and what it does along the text are shown here.");
  const seen = make("div", { class: "ih-seen" },
    make("div", { class: "ih-two" },
      make("figure", {}, make("figcaption", {}, "attention pattern: query ↓ key →"), frame, patternWords), strips),
    make("div", { class: "ih-by" }, make("label", {}, "colour tokens by ", colours), colourWords), tokens);
  const shown = make("div", { class: "ih-shown", hidden: "" },
    make("div", { class: "ih-title" }, name, toggle), standing, aloneWords,
    seen);
  const heads = heatmap(table, { click: clickHead, point: pointHead, key: keyHead });
  const root = make("div", { class: "ih-explorer", "data-lm-suppress-shortcuts": "true" },
    make("div", { class: "ih-top" },
      make("strong", {}, table.model), make("label", {}, "score ", scoreMenu), make("label", {}, "text ", textMenu)),
    problem,
    make("div", { class: "ih-body" },
      make("div", { class: "ih-left" },
        make("div", { class: "ih-map" }, heads.svg), scale, about,
        make("fieldset", {}, make("legend", {}, "zero together"),
          chips,
          make("div", { class: "ih-buttons" }, ...(table.static ? [] : [
            make("span", {}, choose, " ", share, " %"), clear, zero])),
          loss)),
      make("div", { class: "ih-right" }, empty, shown)),
    tip, live);
  el.replaceChildren(root);

  function put(changes) {
    for (const [key, value] of Object.entries(changes)) model.set(key, value);
    model.save_changes();
  }

  // Heads.
  const headAt = ({ row, column }) => [layers[row], column];
  const indexOf = ([layer, head]) => layers.indexOf(layer) * table.n_heads + head;

  function clickHead(place, event) {
    if (place.column >= table.heads_in[place.row]) return;
    if (event.shiftKey || event.ctrlKey || event.metaKey) toggleHead(headAt(place));
    else put({ head: headAt(place) });
  }

  function toggleHead(head) {
    const selection = model.get("selection"), left = selection.filter((one) => !sameHead(one, head));
    put({ selection: left.length < selection.length ? left : [...selection, head] });
  }

  function keyHead(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const head = model.get("head");
    if (event.key === " " || event.key === "Enter") {
      if (head) toggleHead(head);
    } else if (step) {
      const row = head ? layers.indexOf(head[0]) + step[0] : 0, here = table.heads_in[row] || 0;
      const column = !head ? 0 : step[0] ? Math.min(head[1], here - 1) : head[1] + step[1];
      if (column >= 0 && column < here) {
        model.set("head", [layers[row], column]);
        clearTimeout(later); // whoever holds a key down wants the head that it ends at
        later = setTimeout(() => model.save_changes(), 200);
      }
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function placeWords(head) {
    const score = scoreNow(), at = indexOf(head), rank = score.rank[at];
    if (!known(rank)) return `${score.name} is not known`;
    const percent = (100 * rank) / nHeads;
    return `rank ${score.rank_in_layer[at]} of ${table.heads_in[layers.indexOf(head[0])]} in its layer, ${rank} of ${nHeads} in the model (first ${percent < 1 ? percent.toFixed(1) : percent.toFixed(0)}%)`;
  }

  function pointHead(place, event) {
    if (!place) return hideTip();
    const head = headAt(place), score = scoreNow();
    if (place.column >= table.heads_in[place.row]) return showTip(event, `no ${headName(head)}: layer ${head[0]} has ${table.heads_in[place.row]} heads`);
    showTip(event, `${headName(head)}\n${score.name} ${number(score.mean[place.index])}\n${placeWords(head)}`);
  }

  function drawScore() {
    const score = scoreNow();
    scoreMenu.value = score.name;
    const [dark, light] = heads.paint(score);
    scale.replaceChildren(number(dark), make("i"), number(light));
    about.textContent = `${score.about ? `${score.about}; ` : ""}mean over ${table.titles.length} ${table.titles.length === 1 ? "text" : "texts"}. Dark: towards inactive (${score.side}).`;
    drawHead();
  }

  function drawSelection() {
    const selection = model.get("selection");
    heads.mark(model.get("head"), selection);
    chips.replaceChildren(...selection.map((head) =>
      make("button", { type: "button", title: `take ${headName(head)} out`, "aria-label": `take ${headName(head)} out`, onclick: () => toggleHead(head) }, `${headName(head)} ×`)));
    if (!selection.length) chips.append(make("span", { class: "ih-soft" }, "Shift-click heads, or press space on one, to select them."));
    clear.disabled = !selection.length;
    drawZeroed();
  }

  // Zeroing.
  function askZero() {
    asked = true;
    drawZeroed();
    model.send({ ask: "zero" });
  }

  const lossWords = ({ mean_before: before, mean_after: after }) =>
    `${before.toFixed(3)} → ${after.toFixed(3)} nats per token (${signed(after - before)})`;
  // What zeroing changes on the text that is shown: of the head shown alone, of the selection.
  function changesNow() {
    const { layer, head, text } = model.get("view"), alone = model.get("alone"), zeroed = model.get("zeroed");
    const ofHead = alone.heads && sameHead(alone.heads[0], [layer, head]);
    return { alone: ofHead && alone.text === text ? alone : null, zeroed: zeroed.text === text ? zeroed : null };
  }

  function drawZeroed() {
    const selection = model.get("selection"), zeroed = model.get("zeroed");
    zero.disabled = asked || !selection.length;
    zero.textContent = `Zero ${selection.length} ${selection.length === 1 ? "head" : "heads"}`;
    loss.classList.toggle("ih-waiting", asked);
    if (asked) loss.textContent = "running …";
    else if (!zeroed.heads) loss.textContent = "";
    else {
      const same = zeroed.heads.length === selection.length && zeroed.heads.every((head) => selection.some((one) => sameHead(one, head)));
      const of = same ? "" : ` with ${zeroed.heads.length} heads zeroed, before the selection was changed`;
      loss.textContent = `loss ${lossWords(zeroed)} on text ${zeroed.text}${of}`;
    }
  }

  // The head that is looked at.
  function drawHead() {
    const head = model.get("head"), view = model.get("view");
    heads.mark(head, model.get("selection"));
    heads.svg.setAttribute("aria-label", head ? `${headName(head)}, ${scoreNow().name} ${number(scoreNow().mean[indexOf(head)])}; arrow keys move, space selects` : "arrow keys choose a head, space selects it");
    empty.hidden = Boolean(head);
    shown.hidden = !head;
    seen.hidden = !view.pattern;
    if (!head) return;
    const score = scoreNow(), there = view.layer === head[0] && view.head === head[1] && view.text === model.get("text");
    const selected = model.get("selection").some((one) => sameHead(one, head));
    name.textContent = headName(head);
    toggle.textContent = selected ? "Take out of the selection" : "Add to the selection";
    const here = there ? `, ${number(view.on_text[table.scores.indexOf(score)])} on this text` : "";
    standing.textContent = `${score.name} ${number(score.mean[indexOf(head)])} on average${here}; ${placeWords(head)}, 1 being the most inactive.`;
    shown.classList.toggle("ih-waiting", !there);
    if (there) {
      const { alone } = changesNow();
      aloneWords.textContent = alone ? `Zeroed alone: loss ${lossWords(alone)}.` : "Zeroed alone: computing …";
      live.textContent = `${headName(head)} is shown`;
    } else {
      aloneWords.textContent = table.static
        ? `This copy holds ${model.get("held").map(headName).join(", ") || "none of the heads"}; the notebook shows every head.`
        : `computing ${headName(head)} …`;
    }
    root.dataset.shown = there ? headName(head) : "";
  }

  function drawView() {
    const view = model.get("view");
    if (view.pattern) {
      weights = weightsOf(view.pattern);
      paintPattern(canvas, weights);
      canvas.setAttribute("aria-label", `attention pattern of ${headName([view.layer, view.head])}`);
      const { side, block } = weights;
      patternWords.textContent = `Dark is a weight of 0, bright 1; the colour goes by its cube root.${block > 1 ? ` ${view.tokens.length} tokens are drawn as ${side} × ${side} cells: each is the largest weight of a square of ${block} × ${block}.` : ""}`;
      if (pinned >= view.tokens.length) pinned = null;
      pointed = null;
      tokens.classList.toggle("ih-ids", view.tokens.every((token) => /^\d+$/.test(token)));
      tokens.replaceChildren(...view.tokens.map((token, place) => {
        const span = make("span", {}, token.replace(/\n/g, "↵\n"));
        span.place = place;
        return span;
      }));
      drawStrips();
    }
    drawHead();
  }

  // Numbers along the tokens.
  function along() {
    const view = model.get("view"), found = changesNow();
    const rows = ALONG.map(([key, label, top]) => ({ key, label, top, values: view[key] }));
    for (const [key, label] of CHANGES) {
      if (!found[key]) continue;
      const { before, after } = found[key];
      rows.push({ key, label, signs: true, before, after, values: after.map((loss, place) => (known(loss) ? loss - before[place] : null)) });
    }
    return rows;
  }

  function drawStrips() {
    if (!model.get("view").pattern) return;
    const rows = along(), before = colours.value || "attention";
    strips.replaceChildren(...rows.map((row) => {
      const { svg, range } = strip(row), line = make("i", { class: "ih-column" });
      const box = make("div", { class: "ih-strip", "data-along": row.key }, svg, line);
      box.addEventListener("mousemove", (event) => pointToken(tokenUnder(event, box), event, row));
      box.addEventListener("mouseleave", (event) => pointToken(null, event));
      box.addEventListener("click", (event) => pin(tokenUnder(event, box)));
      return make("div", {}, make("p", {}, make("span", {}, row.label), make("span", { class: "ih-soft" }, range)), box);
    }));
    colours.replaceChildren(make("option", { value: "attention" }, "attention of the token pointed at"),
      ...rows.map(({ key, label }) => make("option", { value: key }, label)));
    colours.value = [...colours.options].some((option) => option.value === before) ? before : "attention";
    paintTokens();
  }

  const tokenUnder = (event, box) => {
    const { left, width } = box.getBoundingClientRect(), n = model.get("view").tokens.length;
    return Math.min(n - 1, Math.max(0, Math.floor((n * (event.clientX - left)) / width)));
  };
  const quoted = (place) => `“${model.get("view").tokens[place].replace(/\n/g, "↵")}” (${place})`;

  function pointToken(place, event, row) {
    pointed = place;
    if (place === null) hideTip();
    else {
      const losses = row && row.signs && known(row.after[place]) ? `\nloss ${number(row.before[place])} → ${number(row.after[place])}` : "";
      const change = row && row.signs ? signed(row.values[place]) : row && number(row.values[place]);
      showTip(event, row ? `${quoted(place)}\n${row.label}: ${change}${losses}` : quoted(place));
    }
    paintTokens();
  }

  function pin(place) {
    pinned = pinned === place ? null : place;
    paintTokens();
  }

  function paintTokens() {
    const { tokens: words, pattern } = model.get("view");
    if (!pattern) return;
    const at = pointed ?? pinned ?? words.length - 1, key = colours.value;
    const tints = key === "attention" ? attentionTints(at) : valueTints(along().find((row) => row.key === key));
    [...tokens.children].forEach((span, place) => {
      span.style.backgroundColor = tints[place];
      span.classList.toggle("ih-at", place === at);
    });
    colourWords.textContent = key !== "attention" ? "" : `${quoted(at)}${pointed === null && pinned === at ? ", pinned" : ""}: the stronger the colour, the more it looks there`;
    const share = (100 * (Math.floor(at / weights.block) + 0.5)) / weights.side;
    rowLine.style.top = `${share}%`;
    for (const line of strips.querySelectorAll(".ih-column")) line.style.left = `${(100 * (at + 0.5)) / words.length}%`;
  }

  const attentionTints = (at) => model.get("view").tokens.map((_, place) =>
    place > at ? "transparent" : tint(BLUE, 0.9 * strength(weightAt(at, place))));
  function valueTints({ values, signs, top }) {
    const size = Math.max(...values.filter(known).map(Math.abs), top || 0) || 1;
    return values.map((value) =>
      !known(value) ? "transparent" : tint(signs ? (value < 0 ? FALL : RISE) : BLUE, (0.85 * Math.abs(value)) / size));
  }

  tokens.addEventListener("mousemove", (event) => pointSpan(event));
  tokens.addEventListener("mouseleave", (event) => pointToken(null, event));
  tokens.addEventListener("click", (event) => event.target.place !== undefined && pin(event.target.place));
  tokens.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], n = tokens.children.length;
    if (!step) return;
    pinned = Math.min(n - 1, Math.max(0, (pinned ?? n - 1) + step));
    paintTokens();
    event.preventDefault();
  });
  function pointSpan(event) {
    const { place } = event.target;
    if (place === undefined) return;
    const row = along().find(({ key }) => key === colours.value);
    if (row) return pointToken(place, event, row);
    const at = pinned ?? place;
    pointed = pinned === null ? place : null;
    showTip(event, pinned === null || place > at ? quoted(place) : `${quoted(at)} at ${quoted(place)}: ${weightWords(weightAt(at, place))}`);
    paintTokens();
  }

  // The pattern.
  const weightAt = (query, key) => weights.weight(Math.floor(query / weights.block), Math.floor(key / weights.block));
  frame.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect(), { side, block } = weights, n = model.get("view").tokens.length;
    const cell = (offset, size) => Math.min(side - 1, Math.max(0, Math.floor((side * offset) / size)));
    const query = cell(event.clientY - box.top, box.height), key = cell(event.clientX - box.left, box.width);
    pointed = Math.min(n - 1, query * block);
    if (key > query) hideTip();
    else if (block === 1) showTip(event, `${quoted(query)}\nlooks at ${quoted(key)}\n${weightWords(weights.weight(query, key))}`);
    else {
      const span = (at) => `${at * block} to ${Math.min(n, (at + 1) * block) - 1}`;
      showTip(event, `tokens ${span(query)}\nat ${span(key)}\nlargest weight ${weightWords(weights.weight(query, key))}`);
    }
    paintTokens();
  });
  frame.addEventListener("mouseleave", (event) => pointToken(null, event));
  frame.addEventListener("click", () => pin(pointed));

  function showTip(event, text) {
    const box = root.getBoundingClientRect();
    tip.textContent = text;
    tip.hidden = false;
    const left = event.clientX - box.left + 14;
    tip.style.left = `${Math.max(0, Math.min(left, box.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${event.clientY - box.top + 16}px`;
  }
  function hideTip() {
    tip.hidden = true;
  }

  const listeners = {
    score: drawScore,
    text: () => { textMenu.value = model.get("text"); drawHead(); drawStrips(); drawZeroed(); },
    head: drawHead,
    selection: () => { drawSelection(); drawHead(); },
    view: drawView,
    alone: () => { drawHead(); drawStrips(); },
    zeroed: () => { asked = false; drawZeroed(); drawStrips(); },
    problem: () => { problem.textContent = model.get("problem"); if (model.get("problem")) { asked = false; drawZeroed(); } },
  };
  for (const [trait, listener] of Object.entries(listeners)) model.on(`change:${trait}`, listener);
  for (const listener of [drawScore, drawSelection, drawView, listeners.text, listeners.problem]) listener();
  return () => {
    clearTimeout(later);
    for (const [trait, listener] of Object.entries(listeners)) model.off(`change:${trait}`, listener);
  };
}

// A model without a kernel: a head's view is shown if this copy holds it.
function still({ views, ...state }) {
  const listeners = {}, tell = (key) => (listeners[key] || []).forEach((listener) => listener());
  state.held = views.map(({ view }) => [view.layer, view.head]);
  const look = () => Object.assign(state, views.find(({ view }) => sameHead(state.head, [view.layer, view.head])));
  Object.assign(state, { view: {}, alone: {} });
  look();
  return {
    get: (key) => state[key],
    set(key, value) {
      state[key] = value;
      if (key === "head") look();
      tell(`change:${key}`);
      if (key === "head") tell("change:view");
    },
    save_changes() {},
    on(key, listener) { (listeners[key] ||= []).push(listener); },
  };
}

export default { render };
