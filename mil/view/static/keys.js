"use strict";
// The keyboard. Nothing is taken from a reader who types, or who holds Ctrl.
View.OPACITIES = [0, 0.25, 0.5, 0.75, 1];

View.Keys = {
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches?.("input[type=search], select, dialog *");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const action = this.keys()[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  },

  keys() {
    const kind = (number) => () => {
      const select = View.byId("kind");
      if (select.options.length <= number) return;
      select.selectedIndex = number;
      this.changed();
    };
    return {
      ArrowDown: () => this.list.step(1), ArrowRight: () => this.list.step(1),
      ArrowUp: () => this.list.step(-1), ArrowLeft: () => this.list.step(-1),
      "+": () => this.panels.zoom(1.5), "=": () => this.panels.zoom(1.5), "-": () => this.panels.zoom(1 / 1.5),
      0: () => this.panels.slide?.frame && this.panels.show(this.panels.whole()),
      1: kind(0), 2: kind(1), 3: kind(2), 4: kind(3),
      o: () => this.cycleOpacity(),
      t: () => View.byId("outlines").click(),
      b: () => this.toggleSecond(),
      "/": () => View.byId("filter").focus(),
      "?": () => View.byId("help").showModal(),
    };
  },

  cycleOpacity() {
    const next = View.OPACITIES.find((one) => one > this.opacity + 1e-6) ?? View.OPACITIES[0];
    View.byId("opacity").value = next;
    this.panels.setOpacity(next);
  },

  toggleSecond() {
    if (!this.slide || !this.study.heads.length) return;
    const other = this.study.heads.length > 1 ? (this.heads[0].head + 1) % this.study.heads.length : 0;
    this.setHead(1, this.heads[1] ? "" : `${other}:`);
  },
};
