"use strict";
// The switches, the keyboard, and what happens when a slide is chosen.
View.TILES_ACROSS = 5;

View.Main = class {
  constructor(study) {
    this.study = study;
    this.slide = null;
    this.number = -1;
    // The head of each panel and one of its trainings; null: their mean.
    this.heads = [{head: 0, member: null}, null];
    this.layers = [null, null];
    document.title = `${study.title} · mil view`;
    View.byId("title").textContent = study.title;
    View.byId("title").title = study.title;
    this.list = new View.List(study, (number) => this.choose(number));
    this.panels = new View.Panels(View.byId("plots"), {
      point: (panel, x, y) => this.point(panel, x, y, (tile) => this.side.hovered(tile)),
      leave: () => View.byId("hovered").replaceChildren(
        View.element("p", {className: "quiet", textContent: "point at a tile"})),
      tap: (panel, x, y) => this.point(panel, x, y, (tile) => this.tapped(tile)),
      moved: (viewport) => View.scaleBar(
        View.byId("scale-bar"), this.slide?.frame?.unit_um ?? 0, viewport.units),
    });
    this.side = new View.Side((tile) => this.fly(tile));
    View.fill(View.byId("scale"), study.scales.map((name) => View.option(name, name)), "percentile");
    this.connect();
    this.list.setHead(0);
    View.say(...study.notes);
  }

  connect() {
    for (const id of ["kind", "column", "branch", "scale", "colours"]) {
      View.byId(id).addEventListener("change", () => this.changed());
    }
    View.byId("opacity").addEventListener("input", () => this.panels.setOpacity(this.opacity));
    View.byId("outlines").addEventListener("change", () => this.panels.setOutlines(View.byId("outlines").checked));
    View.byId("help-button").addEventListener("click", () => View.byId("help").showModal());
    document.addEventListener("keydown", (event) => this.key(event));
    // The keys are the page's again once a choice is made.
    document.addEventListener("change", (event) => event.target.matches("select") && event.target.blur());
  }

  get opacity() { return Number(View.byId("opacity").value); }

  async choose(number) {
    this.number = number;
    this.list.select(number);
    document.body.dataset.ready = "";
    try {
      const slide = await View.get(`slide/${number}`);
      // Another slide was chosen while this one was read.
      if (this.number !== number) return;
      slide.overviewUrl = slide.has_overview ? `slide/${number}/overview` : "";
      slide.pixelsUrl = slide.has_pixels ? `slide/${number}/pixels/{Z}/{X}/{Y}` : "";
      slide.heads = {};
      this.slide = slide;
      View.byId("kind").dataset.wanted ??= "attention";
      await this.redraw(number);
    } catch (error) {
      View.say(error.message);
    }
  }

  head(panel) {
    const chosen = this.heads[panel];
    return chosen && this.slide ? this.slide.heads[chosen.head] : null;
  }

  fillSwitches() {
    const head = this.head(0) ?? {kinds: [], columns: [], branches: 0, interest: 0};
    const kind = View.byId("kind");
    const titles = Object.fromEntries(this.study.kinds.map(({name, title}) => [name, title]));
    View.fill(kind, head.kinds.map((name) => View.option(name, titles[name])), kind.dataset.wanted);
    const isAttention = kind.value === "attention" || !kind.value;
    const isSigned = kind.value === "alone" || kind.value === "effect";
    const column = View.byId("column");
    const wanted = column.value === "" || column.options.length !== head.columns.length ? head.interest : column.value;
    View.fill(column, head.columns.map((name, index) => View.option(index, name)), wanted);
    column.parentElement.hidden = !isSigned || head.columns.length < 2;
    const branch = View.byId("branch");
    const branches = Array.from({length: head.branches}, (_, index) => View.option(index, `branch ${index + 1}`));
    View.fill(branch, [View.option("", "mean"), ...branches], branch.value);
    branch.parentElement.hidden = !isAttention || head.branches < 2;
    const colours = View.byId("colours");
    const names = this.study.colours[isSigned ? "signed" : "attention"];
    View.fill(colours, names.map((name) => View.option(name, name)), colours.value);
  }

  layerQuery(panel) {
    const chosen = this.heads[panel];
    const head = this.head(panel);
    if (!chosen || !head || !head.drawn) return null;
    const kind = View.byId("kind").value || "attention";
    // The second head may lack what the first has.
    if (!head.kinds.includes(kind)) return null;
    const branch = View.byId("branch").value;
    const hasBranch = kind === "attention" && branch !== "" && Number(branch) < head.branches;
    return View.query({
      head: chosen.head, member: chosen.member, kind,
      column: kind === "alone" || kind === "effect" ? View.byId("column").value : null,
      branch: hasBranch ? branch : null,
      scale: View.byId("scale").value, colours: View.byId("colours").value,
    });
  }

  layerUrl(panel) {
    const query = this.layerQuery(panel);
    return query && `slide/${this.number}/layer/{Z}/{X}/{Y}?${query}`;
  }

  // Scores of the heads that are shown, read once a slide; then switches and panels.
  async redraw(number) {
    const {slide} = this;
    for (const chosen of this.heads) {
      if (chosen && !slide.heads[chosen.head] && this.study.heads.length) {
        slide.heads[chosen.head] = await View.get(`slide/${number}/head/${chosen.head}`);
      }
    }
    if (this.number !== number || this.slide !== slide) return;
    this.fillSwitches();
    await this.draw(number);
  }

  async draw(number) {
    const shown = this.heads[1] ? [0, 1] : [0];
    this.captions();
    await this.panels.build(this.slide, shown.map((panel) => this.layerUrl(panel)), this.opacity);
    this.panels.setOutlines(View.byId("outlines").checked);
    await this.describe(number);
  }

  async changed() {
    const kind = View.byId("kind");
    kind.dataset.wanted = kind.value || "attention";
    if (!this.slide) return;
    document.body.dataset.ready = "";
    this.fillSwitches();
    const panels = this.heads[1] ? [0, 1] : [0];
    const urls = panels.map((panel) => this.layerUrl(panel));
    if (urls.some((url, panel) => Boolean(url) !== Boolean(this.panels.shown[panel]?.layer))) {
      await this.draw(this.number);
      return;
    }
    urls.forEach((url, panel) => url && this.panels.setLayer(panel, url));
    await this.describe(this.number);
  }

  // Colour bars, tiles of the highest and lowest values, and notes.
  async describe(number) {
    const notes = [...this.slide.notes];
    for (const panel of [0, 1]) {
      const head = this.head(panel);
      if (head) notes.push(...head.notes);
      const query = this.layerQuery(panel);
      let layer = null;
      try {
        layer = query && await View.get(`slide/${number}/map?${query}`);
      } catch (error) {
        notes.push(error.message);
      }
      if (this.number !== number) return;
      this.layers[panel] = layer;
      const caption = document.querySelector(`.caption[data-panel="${panel}"]`);
      const bar = caption.querySelector(".bar");
      if (bar) View.colourBar(bar, layer);
      const caution = caption.querySelector(".caution");
      if (caution) caution.textContent = caution.title = layer?.note ?? "";
      if (panel === 0) {
        this.side.ranked(layer, (tile) => `slide/${number}/tile/${tile.tile}?head=${this.heads[0].head}`);
      }
    }
    View.say(...new Set(notes));
    document.body.dataset.ready = String(number);
  }

  point(panel, x, y, shown) {
    const query = this.layerQuery(Math.max(panel, 0));
    if (!query) return;
    const place = View.query({x: x.toFixed(2), y: y.toFixed(2)});
    const number = this.number;
    this.side.ask(`slide/${number}/at?${query}&${place}`, (tile) => {
      if (this.number === number) shown(tile);
    });
  }

  tapped(tile) {
    this.side.hovered(tile);
    this.panels.mark([0, 1], tile);
  }

  fly(tile) {
    if (tile.x === undefined || !this.panels.x) return;
    this.panels.mark([0, 1], tile);
    const units = tile.side * View.TILES_ACROSS / Math.min(this.panels.width(), this.panels.host.clientHeight);
    this.panels.fly({x: tile.x + tile.side / 2, y: tile.y + tile.side / 2, units});
  }
};

Object.assign(View.Main.prototype, View.Heads, View.Keys);

View.start = async () => {
  try {
    View.main = new View.Main(await View.get("study"));
    if (View.main.study.slides.length) await View.main.choose(View.main.list.order[0]);
    else View.say("This study has no slides.");
  } catch (error) {
    View.say(error.message);
  }
};
View.start();
