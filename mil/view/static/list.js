"use strict";
// The list of slides: sorted and filtered here, from numbers that came once.
View.SORTS = {
  table: {title: "order of the table", key: (row, index) => index},
  slide: {title: "slide", key: (row) => row.slide},
  probability: {title: "prediction, highest", down: true, key: (row, i, head) => row.called[head]?.value},
  error: {
    title: "error, worst first", down: true,
    key: (row, i, head) => {
      const called = row.called[head];
      // Wrong classes come before right ones, whatever their probabilities are.
      return called?.error == null ? null : called.error + (called.wrong ? 10 : 0);
    },
  },
  uncertainty: {title: "uncertainty: spread over heads", down: true, key: (row) => row.uncertainty},
  focus: {title: "attention, most focused", key: (row, i, head) => row.entropy[head]},
  even: {title: "attention, most even", down: true, key: (row, i, head) => row.entropy[head]},
  label: {title: "label", key: (row) => row.label},
  split: {title: "split", key: (row) => row.split},
  state: {title: "state", key: (row) => (row.state === "ok" ? "~" : row.state)},
};

View.List = class {
  constructor(study, choose) {
    this.study = study;
    this.choose = choose;
    this.head = 0;
    this.order = study.slides.map((row, index) => index);
    this.selected = -1;
    this.rows = View.byId("rows");
    this.made = study.slides.map((row, index) => this.row(row, index));
    View.fill(View.byId("sort"), Object.entries(View.SORTS).map(([name, sort]) => View.option(name, sort.title)), "table");
    View.byId("sort").addEventListener("change", () => this.show());
    View.byId("filter").addEventListener("input", () => this.show());
    this.texts = study.slides.map((row) =>
      [row.slide, row.patient, row.label, row.split, row.state].join(" ").toLowerCase());
  }

  row(slide, index) {
    const image = View.element("img", {className: "thumb", alt: "", loading: "lazy", decoding: "async"});
    image.src = `slide/${index}/thumbnail`;
    const row = View.element("div", {className: "row"}, image,
      View.element("span", {className: "name", textContent: slide.slide, title: slide.slide}),
      View.element("span", {className: "value"}),
      View.element("span", {className: "about"}),
      View.element("span", {className: "about"}));
    row.setAttribute("role", "option");
    row.dataset.slide = index;
    row.addEventListener("click", () => this.choose(index));
    return row;
  }

  fillRow(index) {
    const slide = this.study.slides[index];
    const [, , value, about, numbers] = this.made[index].children;
    const called = slide.called[this.head];
    value.textContent = called ? View.number(called.value) : "–";
    value.classList.toggle("wrong", Boolean(called?.wrong));
    value.title = `${this.study.heads[this.head]?.column ?? ""}${called?.predicted ? `, predicted ${called.predicted}` : ""}`;
    const state = slide.state === "ok" ? "" : slide.state;
    about.textContent = [slide.label, slide.split, state].filter(Boolean).join(" · ");
    about.title = slide.reason;
    const parts = [];
    if (slide.uncertainty !== null) parts.push(`spread ${slide.uncertainty.toPrecision(2)}`);
    const entropy = slide.entropy[this.head];
    if (entropy !== null && entropy !== undefined) parts.push(`entropy ${entropy.toPrecision(3)}`);
    numbers.textContent = parts.join(" · ");
    numbers.title = "spread: standard deviation of the prediction over all heads that held the slide out; "
      + "entropy: evenness of attention, 1 is uniform";
  }

  setHead(head) {
    this.head = head;
    this.made.forEach((row, index) => this.fillRow(index));
    this.show();
  }

  show() {
    const sort = View.SORTS[View.byId("sort").value];
    const words = View.byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const keys = this.study.slides.map((row, index) => sort.key(row, index, this.head));
    const sign = sort.down ? -1 : 1;
    this.order = keys.map((key, index) => index)
      .filter((index) => words.every((word) => this.texts[index].includes(word)))
      .sort((one, other) => {
        const [a, b] = [keys[one], keys[other]];
        // Slides without the number come last in either order.
        if ((a ?? null) === null || (b ?? null) === null) return ((a ?? null) === null) - ((b ?? null) === null) || one - other;
        const order = typeof a === "string" ? a.localeCompare(b, undefined, {numeric: true}) : a - b;
        return sign * order || one - other;
      });
    this.rows.replaceChildren(...this.order.map((index) => this.made[index]));
    View.byId("count").textContent = `${this.order.length} of ${this.made.length}`;
  }

  select(index) {
    if (this.selected >= 0) this.made[this.selected].setAttribute("aria-selected", "false");
    this.selected = index;
    this.made[index].setAttribute("aria-selected", "true");
    this.made[index].scrollIntoView({block: "nearest"});
  }

  step(by) {
    const at = this.order.indexOf(this.selected);
    const next = this.order[Math.min(Math.max(at + by, 0), this.order.length - 1)];
    if (next !== undefined && next !== this.selected) this.choose(next);
  }
};
