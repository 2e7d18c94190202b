"use strict";
// The tile under the cursor, and the tiles of the highest and the lowest values.
View.Side = class {
  constructor(fly) {
    this.fly = fly;
    this.asking = false;
    this.next = null;
  }

  // Only the last of several questions is asked while an answer is awaited.
  ask(address, shown) {
    this.next = {address, shown};
    if (!this.asking) this.askNext();
  }

  async askNext() {
    this.asking = true;
    while (this.next) {
      const {address, shown} = this.next;
      this.next = null;
      try {
        shown(await View.get(address));
      } catch (error) {
        View.say(error.message);
      }
    }
    this.asking = false;
  }

  hovered(tile) {
    const host = View.byId("hovered");
    if (!tile) {
      host.replaceChildren(View.element("p", {className: "quiet", textContent: "no tile here"}));
      return;
    }
    const rows = [
      ["tile", String(tile.tile)],
      ["x, y", `${Math.round(tile.x)}, ${Math.round(tile.y)}`],
      ...tile.values.map(({name, value}) => [name, View.number(value)]),
    ];
    const table = View.element("table");
    for (const [name, value] of rows) {
      table.append(View.element("tr", {},
        View.element("td", {textContent: name}), View.element("td", {textContent: value})));
    }
    host.replaceChildren(table);
  }

  ranked(layer, image) {
    for (const end of ["top", "bottom"]) {
      const tiles = layer ? layer[end] : [];
      View.byId(end).replaceChildren(...tiles.map((tile) => this.button(tile, image)));
    }
  }

  button(tile, image) {
    const picture = View.element("img", {alt: "", loading: "lazy", decoding: "async"});
    if (tile.x !== undefined) picture.src = image(tile);
    const title = `tile ${tile.tile}: ${View.number(tile.value)}`;
    const button = View.element("button", {type: "button", title},
      picture, View.element("span", {textContent: View.short(tile.value)}));
    button.dataset.tile = tile.tile;
    button.addEventListener("click", () => this.fly(tile));
    return button;
  }
};
