"use strict";
// One or two plots with the same ranges. Units are those of the frame; y runs upwards in
// Bokeh, so it is the negative of a slide's.
View.Panels = class {
  constructor(host, on) {
    this.host = host;
    this.on = on;
    this.shown = [];
    this.viewport = null;
    this.building = Promise.resolve();
    this.settling = 0;
    // Each tile renderer of Bokeh rescales the ranges when its plot is resized: the place
    // that was shown before is restored once they have.
    new ResizeObserver(() => this.restore()).observe(host);
  }

  get count() { return this.shown.length; }

  width() { return Math.max(50, this.host.clientWidth / Math.max(1, this.count)); }

  // slide: what is shown; sources: for each panel the address of its layer, or null.
  build(slide, sources, opacity) {
    this.building = this.building.then(() => this.rebuild(slide, sources, opacity));
    return this.building;
  }

  async rebuild(slide, sources, opacity) {
    const fresh = this.slide !== slide;
    this.document?.clear();
    this.host.replaceChildren();
    this.slide = slide;
    this.shown = sources.map(() => null);
    this.x = this.y = null;
    cancelAnimationFrame(this.flight);
    // Nothing is known of a slide that was never tiled.
    if (!slide.frame) return;
    if (fresh || !this.viewport || this.viewport.fits) this.viewport = this.whole();
    const {Plotting, Range1d} = Bokeh;
    const [x, y] = this.extents(this.viewport);
    this.x = new Range1d({start: x[0], end: x[1]});
    this.y = new Range1d({start: y[0], end: y[1]});
    this.shown = sources.map((source) => this.panel(source, opacity));
    const row = new Bokeh.Row({
      children: this.shown.map((panel) => panel.figure), sizing_mode: "stretch_both", spacing: 4,
    });
    const view = await Plotting.show(row, this.host);
    this.document = view.model.document;
    for (const range of [this.x, this.y]) {
      range.properties.start.change.connect(() => this.moved());
      range.properties.end.change.connect(() => this.moved());
    }
    this.restore();
  }

  panel(source, opacity) {
    const {slide} = this;
    const figure = Bokeh.Plotting.figure({
      x_range: this.x, y_range: this.y, x_axis_type: null, y_axis_type: null,
      toolbar_location: null, min_border: 0, outline_line_color: null, sizing_mode: "stretch_both",
      background_fill_color: "#ffffff", lod_threshold: null,
      tools: [new Bokeh.PanTool(), new Bokeh.WheelZoomTool()],
    });
    figure.toolbar.active_scroll = figure.toolbar.tools.find((tool) => tool.type === "WheelZoomTool");
    figure.xgrid.visible = false;
    figure.ygrid.visible = false;
    const panel = {figure, layer: null};
    if (slide.overviewUrl) this.image(figure, slide.overviewUrl, 1, "image");
    if (slide.pixelsUrl) figure.add_renderers(this.tiles(slide.pixelsUrl, 1, true, "image"));
    if (source) {
      panel.layer = slide.layerIsImage ? this.image(figure, source, opacity, "underlay") : this.tiles(source, opacity, false, "underlay");
      if (!slide.layerIsImage) figure.add_renderers(panel.layer);
    }
    panel.outlines = [
      this.rings(figure, slide.tissue, "#1565c0", 1),
      this.rings(figure, slide.annotated, "#00c853", 2),
    ];
    panel.marked = new Bokeh.ColumnDataSource({data: {left: [], right: [], top: [], bottom: []}});
    const corner = (field) => ({field});
    figure.quad(corner("left"), corner("right"), corner("bottom"), corner("top"),
      {source: panel.marked, fill_alpha: 0, line_color: "#00e5ff", line_width: 2});
    figure.on_event("mousemove", (event) => this.on.point?.(this.shown.indexOf(panel), event.x, -event.y));
    figure.on_event("mouseleave", () => this.on.leave?.());
    figure.on_event("tap", (event) => this.on.tap?.(this.shown.indexOf(panel), event.x, -event.y));
    return panel;
  }

  tiles(url, alpha, smoothing, level) {
    const {frame} = this.slide;
    // An image tile of 512 pixels lies on 256 of Bokeh's, which may take the coarser of two
    // zooms: so nothing is enlarged.
    const side = 512 * 2 ** frame.max_zoom;
    const tile_source = new Bokeh.WMTSTileSource({
      url, tile_size: 256, min_zoom: 0, max_zoom: frame.max_zoom, initial_resolution: side / 256,
      x_origin_offset: -frame.left, y_origin_offset: frame.top + side,
      wrap_around: false, snap_to_zoom: false,
    });
    return new Bokeh.TileRenderer({tile_source, alpha, smoothing, level});
  }

  image(figure, url, alpha, level) {
    const {frame} = this.slide;
    const source = new Bokeh.ColumnDataSource({
      data: {url: [url], x: [frame.left], y: [-frame.top], w: [frame.width], h: [frame.height]},
    });
    return figure.image_url({field: "url"}, {field: "x"}, {field: "y"}, {field: "w"}, {field: "h"},
      {source, anchor: "top_left", global_alpha: alpha, level});
  }

  rings(figure, rings, colour, width) {
    const source = new Bokeh.ColumnDataSource({data: {
      xs: rings.map((ring) => ring.map(([x]) => x)),
      ys: rings.map((ring) => ring.map(([, y]) => -y)),
    }});
    return figure.multi_line({field: "xs"}, {field: "ys"}, {source, line_color: colour, line_width: width});
  }

  // Another layer in a panel, without building it anew.
  setLayer(panel, url) {
    const {layer} = this.shown[panel] ?? {};
    if (!layer) return;
    if (this.slide.layerIsImage) {
      layer.data_source.data = {...layer.data_source.data, url: [url]};
    } else {
      layer.tile_source.url = url;
    }
  }

  setOpacity(opacity) {
    for (const {layer} of this.shown.filter(Boolean)) {
      if (!layer) continue;
      if (this.slide.layerIsImage) layer.glyph.global_alpha = {value: opacity};
      else layer.alpha = opacity;
    }
  }

  setOutlines(visible) {
    for (const panel of this.shown.filter(Boolean)) {
      for (const outline of panel.outlines) outline.visible = visible;
    }
  }

  mark(panels, tile) {
    this.shown.forEach((panel, number) => {
      const drawn = tile && panels.includes(number);
      if (!panel) return;
      panel.marked.data = drawn
        ? {left: [tile.x], right: [tile.x + tile.side], top: [-tile.y], bottom: [-tile.y - tile.side]}
        : {left: [], right: [], top: [], bottom: []};
    });
  }

  whole() {
    const {frame} = this.slide;
    const units = Math.max(frame.width / this.width(), frame.height / this.host.clientHeight) * 1.04;
    // It stays whole when the window or the number of panels changes.
    return {x: frame.left + frame.width / 2, y: frame.top + frame.height / 2, units, fits: true};
  }

  extents({x, y, units}) {
    const right = this.width() / 2 * units;
    const down = this.host.clientHeight / 2 * units;
    return [[x - right, x + right], [-y - down, -y + down]];
  }

  show(viewport) {
    if (!this.x) return;
    const finest = 1 / 16;
    const coarsest = this.whole().units * 4;
    this.viewport = {...viewport, units: Math.min(Math.max(viewport.units, finest), coarsest)};
    const [x, y] = this.extents(this.viewport);
    this.restoring = true;
    this.x.setv({start: x[0], end: x[1]});
    this.y.setv({start: y[0], end: y[1]});
    this.restoring = false;
    this.on.moved?.(this.viewport);
  }

  moved() {
    if (this.restoring || this.settling || !this.x) return;
    const units = (this.x.end - this.x.start) / this.width();
    this.viewport = {
      x: (this.x.start + this.x.end) / 2, y: -(this.y.start + this.y.end) / 2, units,
    };
    this.on.moved?.(this.viewport);
  }

  restore() {
    if (!this.viewport || !this.x) return;
    clearTimeout(this.settling);
    const kept = {...this.viewport};
    this.settling = setTimeout(() => {
      this.settling = 0;
      this.show(kept.fits ? this.whole() : kept);
    }, 150);
  }

  zoom(factor) {
    if (this.viewport && this.x) this.show({...this.viewport, units: this.viewport.units / factor, fits: false});
  }

  // The way to a place, in half a second.
  fly(target) {
    const from = {...this.viewport};
    cancelAnimationFrame(this.flight);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const began = performance.now();
    const step = (now) => {
      const share = still ? 1 : Math.min(Math.max((now - began) / 500, 0), 1);
      const eased = share * share * (3 - 2 * share);
      this.show({
        x: from.x + (target.x - from.x) * eased,
        y: from.y + (target.y - from.y) * eased,
        units: from.units * (target.units / from.units) ** eased,
      });
      if (share < 1) this.flight = requestAnimationFrame(step);
    };
    this.flight = requestAnimationFrame(step);
  }
};
