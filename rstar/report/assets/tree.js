// The viewer of search trees: window.rstarTrees.mount(element, {trees: [{id, label, round, method, right, problem, data}]}).
//
// `data` is the object that rstar.report.trees.columns makes, or its packed form (base64 of gzipped JSON), which is read
// when the tree is opened. All text of a store goes through textContent: none of it is ever parsed as HTML.
// Only the rows in view exist as elements (Rows), so the size of a tree costs no layout.
"use strict";
(() => {
  const VALID = 1, TERMINAL = 2, CORRECT = 4, WRONG = 8;
  const ROW_MARGIN = 8; // rows kept above and below the view
  const LISTED = 300; // problems in the list at once; the search finds the others
  const TURN_MS = 900;
  const STATUS = {
    root: ["◆", "root"], right: ["✓", "right answer"], wrong: ["✗", "wrong answer"], answer: ["■", "answer without a verdict"],
    failed: ["!", "failed"], repaired: ["↻", "step whose error was shown to the policy"], step: ["●", "step"], unvisited: ["○", "step, never visited"],
  };
  let lastId = 0;

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("aria-") || name === "role" || name === "for") element.setAttribute(name, value);
      else element[name] = value;
    }
    element.append(...children);
    return element;
  }
  const button = (text, onclick, properties = {}) => make("button", { type: "button", textContent: text, onclick, ...properties });
  const number = (value, digits = 2) => (value === null || value === undefined ? "none" : value.toFixed(digits));
  const mark = (right) => (right === true ? ["✓", "right", "rt-good"] : right === false ? ["✗", "wrong", "rt-bad"] : ["–", "no verdict", "rt-muted"]);

  async function unpack(data) {
    if (typeof data !== "string") return data;
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }

  // One record: columns, and what follows from them.
  class Tree {
    constructor(data) {
      Object.assign(this, data);
      this.size = data.parent.length;
      this.children = Array.from({ length: this.size }, () => []);
      this.depth = new Int32Array(this.size);
      this.roots = [];
      for (let node = 0; node < this.size; node++) {
        const parent = data.parent[node];
        if (parent < 0) this.roots.push(node);
        else {
          this.children[parent].push(node);
          this.depth[node] = this.depth[parent] + 1;
        }
      }
      this.most = data.visits.reduce((most, visits) => Math.max(most, visits), 1);
    }
    q(node) { return this.visits[node] ? (this.value[node] ?? 0) / this.visits[node] : 0; }
    string(column, node) { const place = this[column][node]; return place < 0 ? null : this.texts[place]; }
    status(node) {
      const flags = this.flags[node];
      if (this.parent[node] < 0) return "root";
      if (!(flags & VALID)) return "failed";
      if (flags & CORRECT) return "right";
      if (flags & WRONG) return "wrong";
      if (flags & TERMINAL) return "answer";
      if (this.string("reason", node)) return "repaired";
      // An expanded step may have N = 0: a failed next step is not backed up (section 3.2).
      return this.visits[node] || this.children[node].length ? "step" : "unvisited";
    }
    title(node) {
      if (this.parent[node] < 0) return this.roots.length > 1 ? `tree ${this.tree[node] + 1}` : "the question";
      const text = this.string("text", node).slice(0, 2000).replace(/<output>[^]*/, "").replace(/<\/?[a-z_]+>/g, "");
      const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
      return (lines.find((line) => line.startsWith("#")) ?? lines.join("; ")).slice(0, 200) || "(empty step)";
    }
    path(node) {
      const path = [];
      for (; node >= 0; node = this.parent[node]) path.push(node);
      return path.reverse();
    }
    spoken(node) {
      const parts = [this.parent[node] < 0 ? this.title(node) : `step ${this.depth[node]}: ${this.title(node)}`, `Q ${number(this.q(node))}`,
        `${this.visits[node]} visits`, STATUS[this.status(node)][1]];
      if (node === this.chosen) parts.push("chosen answer");
      return parts.join(", ");
    }
    // Where the search would look best: the child with the highest Q at every level, visited ones only.
    bestPath() {
      let node = this.roots[0] ?? -1;
      for (let next = node; next >= 0 && next !== undefined;) {
        node = next;
        next = this.children[node].filter((child) => this.visits[child] && this.flags[child] & VALID)
          .reduce((best, child) => (best === undefined || this.q(child) > this.q(best) ? child : best), undefined);
      }
      return node;
    }
  }

  const mix = (first, share, second) => `color-mix(in srgb, var(${first}) ${Math.round(share * 100)}%, ${second})`;
  const COLOURS = {
    q: { label: "Q", of: (tree, node) => {
      if (!tree.visits[node]) return "var(--rt-border)";
      const q = Math.max(-1, Math.min(1, tree.q(node)));
      return mix(q < 0 ? "--rt-bad" : "--rt-good", 0.15 + 0.85 * Math.abs(q), "var(--rt-border)");
    } },
    visits: { label: "visits", of: (tree, node) => mix("--rt-accent", Math.log1p(tree.visits[node]) / Math.log1p(tree.most), "var(--rt-border)") },
    status: { label: "status", of: (tree, node) => ({ right: "var(--rt-good)", wrong: "var(--rt-bad)", failed: "var(--rt-bad)", answer: "var(--rt-accent)",
      unvisited: "var(--rt-border)" })[tree.status(node)] ?? "var(--rt-muted)" },
  };

  // The tree as a list of rows with the WAI-ARIA tree pattern; the focus stays on the tree (aria-activedescendant).
  class Rows {
    constructor(tree, pane) {
      this.tree = tree;
      this.pane = pane;
      this.open = new Set(tree.roots);
      this.shown = Infinity; // nodes of later turns are left out
      this.path = new Set();
      this.turn = 0;
      this.typed = "";
      this.prefix = `rt${++lastId}`;
      this.rows = make("div", { className: "rt-rows", role: "presentation" });
      this.element = make("div", { className: "rt-tree", role: "tree", tabIndex: 0, "aria-label": "search tree" }, this.rows);
      this.element.addEventListener("scroll", () => this.draw());
      this.element.addEventListener("keydown", (event) => this.key(event));
      this.element.addEventListener("click", (event) => this.click(event));
      new ResizeObserver(() => this.draw()).observe(this.element);
      this.active = tree.roots[0] ?? -1;
      this.flatten();
    }
    below(node) {
      const children = this.tree.children[node];
      return this.shown === Infinity ? children : children.filter((child) => this.tree.play.first[child] <= this.shown);
    }
    flatten() {
      this.order = [];
      this.place = new Map(); // node -> [row, position among its siblings, number of siblings]
      const stack = this.tree.roots.map((root, index) => [root, index + 1, this.tree.roots.length]).reverse();
      while (stack.length) {
        const [node, position, size] = stack.pop();
        this.place.set(node, [this.order.length, position, size]);
        this.order.push(node);
        if (!this.open.has(node)) continue;
        const below = this.below(node);
        for (let index = below.length - 1; index >= 0; index--) stack.push([below[index], index + 1, below.length]);
      }
      while (this.active >= 0 && !this.place.has(this.active)) this.active = this.tree.parent[this.active];
      this.draw();
    }
    get height() { return this.rowHeight ??= parseFloat(getComputedStyle(this.element).fontSize) * 2; } // px
    draw() {
      if (!this.element.isConnected) return; // it has no size yet
      const height = this.height;
      this.rows.style.height = `${this.order.length * height}px`;
      const from = Math.max(0, Math.floor(this.element.scrollTop / height) - ROW_MARGIN);
      const to = Math.min(this.order.length, Math.ceil((this.element.scrollTop + this.element.clientHeight) / height) + ROW_MARGIN);
      const wanted = this.order.slice(from, to);
      const active = this.place.get(this.active);
      if (active && (active[0] < from || active[0] >= to)) wanted.push(this.active); // aria-activedescendant needs it
      this.rows.replaceChildren(...wanted.map((node) => this.row(node)));
      if (this.active >= 0) this.element.setAttribute("aria-activedescendant", `${this.prefix}-${this.active}`);
    }
    row(node) {
      const { tree } = this, [index, position, size] = this.place.get(node), status = tree.status(node), below = this.below(node);
      const twist = make("span", { className: "rt-twist", textContent: below.length ? (this.open.has(node) ? "▾" : "▸") : "", "aria-hidden": "true" });
      const glyph = make("span", { className: `rt-glyph ${{ right: "rt-good", wrong: "rt-bad", failed: "rt-bad" }[status] ?? "rt-muted"}`,
        textContent: STATUS[status][0], title: STATUS[status][1], "aria-hidden": "true" });
      const title = make("span", { className: "rt-title", textContent: `${tree.title(node)}${node === tree.chosen ? "  ← chosen" : ""}`, "aria-hidden": "true" });
      const figure = (text) => make("span", { className: "rt-figure", textContent: text, "aria-hidden": "true" });
      const row = make("div", { id: `${this.prefix}-${node}`, className: "rt-row", role: "treeitem", "aria-level": tree.depth[node] + 1, "aria-setsize": size,
        "aria-posinset": position, "aria-selected": node === this.active, "aria-label": tree.spoken(node) },
      twist, glyph, title, figure(`Q ${number(tree.q(node))}`), figure(`N ${tree.visits[node]}`));
      if (below.length) row.setAttribute("aria-expanded", this.open.has(node));
      if (this.path.has(node)) row.classList.add("rt-path");
      if (this.turn && tree.play.first[node] === this.turn) row.classList.add("rt-new");
      row.node = node;
      row.style.top = `${index * this.height}px`;
      row.style.height = `${this.height}px`;
      row.style.paddingLeft = `${0.2 + tree.depth[node] * 0.9}em`;
      row.style.borderLeftColor = COLOURS[this.pane.colour].of(tree, node);
      return row;
    }
    select(node) {
      this.active = node;
      for (let above = this.tree.parent[node]; above >= 0; above = this.tree.parent[above]) this.open.add(above);
      if (!this.place.has(node)) this.flatten();
      const top = (this.place.get(node)?.[0] ?? 0) * this.height, view = this.element;
      if (top < view.scrollTop) view.scrollTop = top;
      else if (top + this.height > view.scrollTop + view.clientHeight) view.scrollTop = top + this.height - view.clientHeight;
      this.draw();
      this.pane.selected(node);
    }
    toggle(node, open = !this.open.has(node)) {
      if (open) this.open.add(node);
      else this.open.delete(node);
      this.flatten();
    }
    openAll(open) {
      this.open = new Set(open ? Array.from({ length: this.tree.size }, (_, node) => node).filter((node) => this.tree.children[node].length) : this.tree.roots);
      this.flatten();
    }
    click(event) {
      const row = event.target.closest(".rt-row");
      if (!row) return;
      if (event.target.classList.contains("rt-twist")) this.toggle(row.node);
      this.select(this.place.has(row.node) ? row.node : this.active);
    }
    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || this.active < 0) return;
      const { order, active } = this, index = this.place.get(active)[0], below = this.below(active);
      const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 1);
      const go = (row) => this.select(order[Math.max(0, Math.min(order.length - 1, row))]);
      const keys = {
        ArrowDown: () => go(index + 1), ArrowUp: () => go(index - 1), Home: () => go(0), End: () => go(order.length - 1),
        PageDown: () => go(index + page), PageUp: () => go(index - page),
        ArrowRight: () => { if (below.length) { if (this.open.has(active)) this.select(below[0]); else this.toggle(active, true); } },
        ArrowLeft: () => { if (below.length && this.open.has(active)) this.toggle(active, false); else if (this.tree.parent[active] >= 0) this.select(this.tree.parent[active]); },
        Enter: () => { if (below.length) this.toggle(active); this.pane.selected(active); },
        "*": () => { const above = this.tree.parent[active]; for (const node of above < 0 ? this.tree.roots : this.below(above)) this.open.add(node); this.flatten(); },
      };
      if (event.key in keys) keys[event.key]();
      else if (event.key.length === 1) this.typeAhead(event.key, index);
      else return;
      event.preventDefault();
    }
    typeAhead(letter, index) {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => { this.typed = ""; }, 700);
      this.typed += letter.toLowerCase();
      const start = this.typed.length === 1 ? index + 1 : index, { order, tree } = this;
      for (let step = 0; step < order.length; step++) {
        const node = order[(start + step) % order.length];
        if (tree.title(node).toLowerCase().replace(/^[#\s]+/, "").startsWith(this.typed)) { this.select(node); return; }
      }
    }
  }

  // A drawing of the whole tree: leaves from left to right in recorded order, steps from top to bottom.
  class Overview {
    constructor(tree, pane) {
      this.tree = tree;
      this.pane = pane;
      this.x = new Float64Array(tree.size);
      let leaves = 0;
      for (let node = tree.size - 1; node >= 0; node--) if (!tree.children[node].length) leaves++;
      this.leaves = Math.max(1, leaves);
      for (let node = 0, leaf = 0; node < tree.size; node++) if (!tree.children[node].length) this.x[node] = (leaf++ + 0.5) / this.leaves;
      for (let node = tree.size - 1; node >= 0; node--) {
        const below = tree.children[node];
        if (below.length) this.x[node] = (this.x[below[0]] + this.x[below[below.length - 1]]) / 2;
      }
      this.levels = tree.depth.reduce((most, depth) => Math.max(most, depth), 0) + 1;
      this.element = make("canvas", { className: "rt-map", role: "img" });
      this.element.setAttribute("aria-label", `overview of the whole tree: ${tree.size} nodes, ${this.leaves} leaves, ${this.levels - 1} steps deep; the tree below has the same nodes`);
      this.element.addEventListener("click", (event) => this.click(event));
      new ResizeObserver(() => this.draw()).observe(this.element);
    }
    at(node) { return [8 + this.x[node] * (this.width - 16), ((this.tree.depth[node] + 0.5) / this.levels) * this.high]; }
    // Canvas knows no CSS variables: a hidden element resolves each colour once.
    resolved(colour) {
      if (!this.cache.has(colour)) {
        this.probe.style.color = colour;
        this.cache.set(colour, getComputedStyle(this.probe).color);
      }
      return this.cache.get(colour);
    }
    draw() {
      const { element, tree, pane } = this, scale = window.devicePixelRatio || 1, rows = pane.rows;
      this.width = element.clientWidth;
      this.high = element.clientHeight;
      if (!this.width) return;
      element.width = this.width * scale;
      element.height = this.high * scale;
      const context = element.getContext("2d");
      context.scale(scale, scale);
      this.cache = new Map();
      this.probe = make("span", { hidden: true });
      element.parentNode.append(this.probe);
      const there = (node) => tree.play.first[node] <= rows.shown;
      context.strokeStyle = this.resolved("var(--rt-border)");
      context.beginPath();
      for (let node = 0; node < tree.size; node++) {
        if (tree.parent[node] < 0 || !there(node)) continue;
        context.moveTo(...this.at(tree.parent[node]));
        context.lineTo(...this.at(node));
      }
      context.stroke();
      context.strokeStyle = this.resolved("var(--rt-accent)");
      context.lineWidth = 2;
      context.beginPath();
      for (const node of rows.path) if (tree.parent[node] >= 0) { context.moveTo(...this.at(tree.parent[node])); context.lineTo(...this.at(node)); }
      context.stroke();
      const radius = Math.max(1, Math.min(4, (this.width / this.leaves) * 0.4));
      for (let node = 0; node < tree.size; node++) {
        if (!there(node)) continue;
        const [x, y] = this.at(node);
        context.fillStyle = this.resolved(COLOURS[pane.colour].of(tree, node));
        context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
      }
      if (rows.active >= 0) {
        const [x, y] = this.at(rows.active);
        context.strokeStyle = this.resolved("var(--rt-fg)");
        context.strokeRect(x - radius - 2.5, y - radius - 2.5, 2 * radius + 5, 2 * radius + 5);
      }
      this.probe.remove();
    }
    click(event) {
      let best = -1, least = Infinity;
      for (let node = 0; node < this.tree.size; node++) {
        if (this.tree.play.first[node] > this.pane.rows.shown) continue;
        const [x, y] = this.at(node), distance = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
        if (distance < least) [best, least] = [node, distance];
      }
      if (best >= 0) this.pane.rows.select(best);
    }
  }

  // Plays the turns of a tree one by one: see rstar/report/play.py for their meaning.
  class Player {
    constructor(tree, pane) {
      this.tree = tree;
      this.pane = pane;
      this.last = tree.play.ends.length;
      const rollouts = tree.play.kind === "rollouts";
      this.name = rollouts ? "Rollout" : "Trajectory";
      this.total = rollouts ? `${this.last} rollout${this.last === 1 ? "" : "s"}` : `${this.last} trajector${this.last === 1 ? "y" : "ies"}`;
      this.slider = make("input", { type: "range", min: 0, max: this.last, value: 0, oninput: () => this.go(Number(this.slider.value)), "aria-label": `${this.name} shown` });
      this.text = make("span", { role: "status" });
      this.playing = button("Play", () => (this.timer ? this.stop() : this.start()));
      this.back = button("‹", () => this.go(this.turn - 1), { title: "previous" });
      this.next = button("›", () => this.go(this.turn + 1), { title: "next" });
      this.back.setAttribute("aria-label", `previous ${this.name.toLowerCase()}`);
      this.next.setAttribute("aria-label", `next ${this.name.toLowerCase()}`);
      this.all = button("Whole tree", () => this.go(0));
      const note = rollouts
        ? "Rollouts are reconstructed: the store records no order. UCT was replayed without progressive widening, and every N and Q came out as recorded; a search with widening may have had another order. Figures are those at the end of the search."
        : "These are trajectories in recorded order (depth first, siblings in the order of their creation), not rollouts: the store does not record which rollout made a node. Figures are those at the end of the search.";
      this.note = make("small", { className: "rt-muted", textContent: note });
      this.element = make("div", { role: "group", "aria-label": `${this.total}, one by one` },
        make("div", { className: "rt-bar" }, this.playing, this.back, this.next, this.slider, this.all, this.text), make("details", {}, make("summary", { textContent: "What is the order?" }), this.note));
      this.turn = 0;
      this.label();
    }
    label() {
      this.text.textContent = this.turn ? `${this.name} ${this.turn} of ${this.last}` : this.total;
      this.slider.value = this.turn;
      this.back.disabled = this.turn <= 1;
      this.next.disabled = this.turn >= this.last;
      this.all.disabled = this.turn === 0;
    }
    go(turn) {
      this.turn = Math.max(0, Math.min(this.last, turn));
      const { rows } = this.pane, end = this.tree.play.ends[this.turn - 1];
      rows.turn = this.turn;
      rows.shown = this.turn || Infinity;
      rows.path = new Set(this.tree.path(this.turn ? end : this.tree.chosen));
      for (const node of rows.path) rows.open.add(node);
      rows.flatten();
      if (this.turn) rows.select(end);
      else this.pane.overview.draw();
      this.label();
    }
    start() {
      if (!this.last) return;
      this.playing.textContent = "Pause";
      if (this.turn >= this.last) this.go(0);
      this.timer = setInterval(() => {
        if (this.turn >= this.last || !this.element.isConnected) this.stop();
        else this.go(this.turn + 1);
      }, TURN_MS);
      this.go(this.turn + 1);
    }
    stop() {
      clearInterval(this.timer);
      this.timer = 0;
      this.playing.textContent = "Play";
    }
  }

  // One tree with its overview, player and the details of one node.
  class Pane {
    constructor(entry, others, change) {
      this.colour = "q";
      const choice = make("select", { "aria-label": "round and method", onchange: () => change(others[choice.selectedIndex]) },
        ...others.map((other) => make("option", { textContent: `${other.round} · ${other.method} ${mark(other.right)[0]}`, selected: other === entry })));
      this.body = make("div", { textContent: "Opening the tree…" });
      this.element = make("section", { className: "rt-pane", "aria-label": `${entry.round}, ${entry.method}` }, make("div", { className: "rt-bar" }, choice), this.body);
      this.ready = unpack(entry.data).then((data) => this.show(new Tree(data), entry)).catch((error) => {
        this.body.textContent = `This tree cannot be opened: ${error.message}`;
      });
    }
    show(tree, entry) {
      this.tree = tree;
      this.detail = make("section", { className: "rt-detail", "aria-label": "selected node" });
      this.rows = new Rows(tree, this);
      this.overview = new Overview(tree, this);
      this.player = new Player(tree, this);
      const colour = make("select", { "aria-label": "colour by", onchange: () => { this.colour = colour.value; this.rows.draw(); this.overview.draw(); } },
        ...Object.entries(COLOURS).map(([value, { label }]) => make("option", { value, textContent: `colour: ${label}` })));
      const best = tree.bestPath(), [glyph, word, style] = mark(entry.right), usage = tree.usage;
      const summary = make("div", { className: "rt-bar" }, make("strong", { className: style, textContent: `${glyph} ${word}` }),
        make("span", { className: "rt-muted", textContent: `${tree.size.toLocaleString()} nodes · ${usage.rollouts.toLocaleString()} rollouts · ${usage.tokens.toLocaleString()} tokens` }));
      if (tree.error) summary.append(make("span", { className: "rt-bad", textContent: `the search ended early: ${tree.error}` }));
      const tools = make("div", { className: "rt-bar" }, colour, button("Unfold all", () => this.rows.openAll(true)), button("Fold all", () => this.rows.openAll(false)),
        button("Chosen answer", () => this.reveal(tree.chosen), { disabled: tree.chosen < 0 }), button("Highest Q", () => this.reveal(best), { disabled: best < 0 }));
      this.body.replaceChildren(summary, this.overview.element, tools, this.player.element, make("div", { className: "rt-body" }, this.rows.element, this.detail));
      this.reveal(tree.chosen >= 0 ? tree.chosen : tree.roots[0] ?? -1);
    }
    reveal(node) {
      if (node < 0) return;
      this.player.stop();
      this.rows.shown = Infinity;
      this.rows.turn = this.player.turn = 0;
      this.player.label();
      this.rows.path = new Set(this.tree.path(node));
      for (const above of this.rows.path) this.rows.open.add(above);
      this.rows.flatten();
      this.rows.select(node);
    }
    selected(node) {
      const { tree } = this, status = tree.status(node), root = tree.parent[node] < 0;
      const [glyph, word] = STATUS[status], facts = make("dl");
      const fact = (name, value) => { if (value !== null && value !== "") facts.append(make("dt", { textContent: name }), make("dd", { textContent: value })); };
      fact("status", `${glyph} ${word}`);
      fact("Q", tree.visits[node] ? `${number(tree.q(node), 3)}  (q ${number(tree.value[node], 3)} over N)` : "0 (never visited)");
      fact("visits N", String(tree.visits[node]));
      if (!root) {
        fact("PPM score", tree.score[node] === null ? "not scored" : number(tree.score[node], 3));
        fact("log-prob", `${number(tree.logprob[node], 3)} nats`);
        fact("tokens", String(tree.tokens[node]));
        fact("answer", tree.string("answer", node));
        fact(tree.flags[node] & VALID && tree.flags[node] & TERMINAL ? "verdict" : "reason", tree.string("reason", node));
      } else fact("models", [tree.policyDigest && `policy ${tree.policyDigest.slice(0, 16)}`, tree.ppmDigest && `PPM ${tree.ppmDigest.slice(0, 16)}`].filter(Boolean).join("\n"));
      fact("below", `${tree.children[node].length} next steps`);
      const parts = [make("h3", { textContent: root ? tree.title(node) : `Step ${tree.depth[node]} · node ${node}` }), facts];
      if (!root) parts.push(make("h4", { textContent: "Code" }), make("pre", { tabIndex: 0, textContent: tree.string("text", node) }));
      if (tree.string("output", node)) parts.push(make("h4", { textContent: "Output" }), make("pre", { tabIndex: 0, textContent: tree.string("output", node) }));
      parts.push(make("h4", { textContent: "Path from the root" }), make("ol", { start: 0 }, ...tree.path(node).map((above) => {
        const link = button(tree.title(above), () => this.rows.select(above), { title: tree.spoken(above) });
        if (above === node) link.setAttribute("aria-current", "true");
        return make("li", {}, link);
      })));
      this.detail.replaceChildren(...parts);
      this.overview.draw();
    }
  }

  class Viewer {
    constructor(element, { trees }) {
      this.problems = new Map();
      for (const entry of trees) {
        if (!this.problems.has(entry.problem.id)) this.problems.set(entry.problem.id, []);
        this.problems.get(entry.problem.id).push(entry);
      }
      this.search = make("input", { type: "search", placeholder: "Search problems", "aria-label": "search problems", oninput: () => this.list() });
      this.filter = make("select", { "aria-label": "which problems", onchange: () => this.list() },
        ...[["all", "all problems"], ["right", "✓ some tree right"], ["wrong", "✗ some tree wrong"], ["mixed", "✓✗ right and wrong"]].map(([value, textContent]) => make("option", { value, textContent })));
      this.count = make("small", { className: "rt-muted", role: "status" });
      this.items = make("ul", { className: "rt-list" });
      this.panes = make("div", { className: "rt-panes" });
      this.heading = make("h3");
      this.question = make("div", { className: "rt-question" });
      this.compare = button("Compare two trees", () => this.toggleCompare());
      this.compare.setAttribute("aria-pressed", "false");
      element.replaceChildren(make("div", { className: "rt" },
        make("nav", { className: "rt-problems", "aria-label": "problems" }, this.search, this.filter, this.count, this.items),
        make("div", { className: "rt-main" }, this.heading, this.question, make("div", { className: "rt-bar" }, this.compare), this.panes)));
      this.entries = [];
      this.list();
      const first = trees[0];
      if (first) this.open(first.id);
      else this.question.textContent = "There are no trees.";
    }
    list() {
      const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean), kind = this.filter.value;
      const found = [...this.problems].filter(([id, entries]) => {
        const right = entries.some((entry) => entry.right === true), wrong = entries.some((entry) => entry.right === false);
        if ((kind === "right" && !right) || (kind === "wrong" && !wrong) || (kind === "mixed" && !(right && wrong))) return false;
        const text = `${id} ${entries[0].problem.question}`.toLowerCase();
        return words.every((word) => text.includes(word));
      });
      this.count.textContent = `${found.length} of ${this.problems.size} problems${found.length > LISTED ? `; the first ${LISTED} are listed` : ""}`;
      this.items.replaceChildren(...found.slice(0, LISTED).map(([id, entries]) => {
        const rights = entries.filter((entry) => entry.right === true).length, wrongs = entries.filter((entry) => entry.right === false).length;
        const marks = make("span", { className: "rt-marks" }, make("span", { className: "rt-good", textContent: `✓ ${rights} right ` }),
          make("span", { className: "rt-bad", textContent: `✗ ${wrongs} wrong ` }), make("span", { className: "rt-muted", textContent: id }));
        const item = button("", () => this.open(entries[0].id), { "aria-current": String(id === this.entries[0]?.problem.id) });
        item.append(make("span", { className: "rt-q", textContent: entries[0].label }), marks);
        return make("li", {}, item);
      }));
    }
    // Opens a tree by its id; returns a promise, settled when it is shown.
    open(id) {
      for (const entries of this.problems.values()) {
        const entry = entries.find((one) => one.id === id);
        if (!entry) continue;
        this.entries = [entry];
        return this.render();
      }
      return Promise.resolve();
    }
    toggleCompare() {
      if (this.entries.length === 2) this.entries.pop();
      else {
        const others = this.problems.get(this.entries[0].problem.id);
        this.entries.push(others.find((other) => other !== this.entries[0] && other.right !== this.entries[0].right) ?? others.find((other) => other !== this.entries[0]));
      }
      return this.render();
    }
    render() {
      const [first] = this.entries, others = this.problems.get(first.problem.id), two = this.entries.length === 2;
      this.heading.textContent = `Problem ${first.problem.id}`;
      this.question.textContent = first.problem.reference === null ? first.problem.question : `${first.problem.question}\nreference: ${first.problem.reference}`;
      this.compare.disabled = others.length < 2;
      this.compare.textContent = two ? "Show one tree" : "Compare two trees";
      this.compare.setAttribute("aria-pressed", String(two));
      this.panes.classList.toggle("rt-two", two);
      const panes = this.entries.map((entry, index) => new Pane(entry, others, (chosen) => { this.entries[index] = chosen; this.render(); }));
      this.panes.replaceChildren(...panes.map((pane) => pane.element));
      this.list();
      return Promise.all(panes.map((pane) => pane.ready));
    }
  }

  window.rstarTrees = { mount: (element, options) => new Viewer(element, options) };
})();
