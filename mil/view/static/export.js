"use strict";
// A page of one slide: all that it shows came with it.
View.Export = class {
  constructor(slide) {
    this.slide = {...slide, pixelsUrl: "", layerIsImage: true};
    document.title = `${slide.row.slide} · ${slide.title}`;
    View.byId("title").textContent = `${slide.row.slide} · ${slide.title}`;
    this.side = new View.Side((tile) => this.fly(tile));
    this.panels = new View.Panels(View.byId("plots"), {
      point: (panel, x, y) => this.side.hovered(this.at(x, y)),
      tap: (panel, x, y) => this.panels.mark([0], this.at(x, y)),
      moved: (viewport) => View.scaleBar(View.byId("scale-bar"), slide.frame.unit_um, viewport.units),
    });
    View.fill(View.byId("head"), slide.heads.map((head, index) => View.option(index, head.title)));
    View.byId("head").addEventListener("change", () => this.setHead());
    View.byId("kind").addEventListener("change", () => this.setLayer());
    View.byId("opacity").addEventListener("input", () => this.panels.setOpacity(Number(View.byId("opacity").value)));
    View.byId("outlines").addEventListener("change", () => this.panels.setOutlines(View.byId("outlines").checked));
    View.say(...new Set(slide.notes));
  }

  get head() { return this.slide.heads[View.byId("head").value || 0]; }

  get layer() { return this.head?.layers[View.byId("kind").value || 0]; }

  async start() {
    const first = this.slide.heads[0]?.layers[0];
    await this.panels.build(this.slide, [first?.url ?? null], Number(View.byId("opacity").value));
    this.setHead();
    document.body.dataset.ready = "0";
  }

  setHead() {
    const number = Number(View.byId("head").value || 0);
    const called = this.slide.called[number];
    const {label} = this.slide.row;
    View.byId("prediction").textContent = called
      ? `${this.head.column} = ${View.number(called.value)}`
        + (called.predicted ? `, predicted ${called.predicted}` : "") + (label ? `, label ${label}` : "")
      : "";
    const kinds = (this.head?.layers ?? []).map((layer, index) => View.option(index, layer.kind));
    View.fill(View.byId("kind"), kinds, View.byId("kind").value);
    this.setLayer();
  }

  setLayer() {
    const {layer} = this;
    View.colourBar(document.querySelector(".bar"), layer);
    document.querySelector(".caution").textContent = layer?.note ?? "";
    if (layer) this.panels.setLayer(0, layer.url);
    this.side.ranked(layer, (tile) => layer.pictures[tile.tile] || "data:,");
  }

  at(x, y) {
    const tiles = this.head?.tiles;
    if (!tiles) return null;
    const tile = tiles.x.findIndex((left, index) =>
      x >= left && x < left + tiles.side && y >= tiles.y[index] && y < tiles.y[index] + tiles.side);
    if (tile < 0) return null;
    const values = Object.entries(tiles.values).map(([name, all]) => ({name, value: all[tile]}));
    return {tile, x: tiles.x[tile], y: tiles.y[tile], side: tiles.side, values};
  }

  fly(tile) {
    this.panels.mark([0], tile);
    const units = tile.side * 5 / Math.min(this.panels.width(), this.panels.host.clientHeight);
    this.panels.fly({x: tile.x + tile.side / 2, y: tile.y + tile.side / 2, units});
  }
};
View.page = new View.Export(JSON.parse(View.byId("data").textContent));
View.page.start();
