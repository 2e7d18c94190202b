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

// Height of a row, pixels, as the styles have it; rows beyond the edges that are made too.
View.ROW_PX = 58;
View.SPARE_ROWS = 6;

View.List = class {
  constructor(study, choose) {
    this.study = study;
    this.choose = choose;
    this.head = 0;
    this.order = study.slides.map((row, index) => index);
    this.selected = -1;
    this.rows = View.byId("rows");
    // As high as all rows; only those that can be seen are in it.
    this.sheet = View.element("div", {className: "sheet"});
    this.rows.replaceChildren(this.sheet);
    this.texts = study.slides.map((row) =>
      [row.slide, row.patient, row.label, row.split, row.state].join(" ").toLowerCase());
    View.fill(View.byId("sort"), Object.entries(View.SORTS).map(([name, sort]) => View.option(name, sort.title)), "table");
    View.byId("sort").addEventListener("change", () => this.show());
    View.byId("filter").addEventListener("input", () => this.show());
    this.rows.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.rows);
  }

  row(index) {
    const slide = this.study.slides[index];
    const called = slide.called[this.head];
    const image = View.element("img", {className: "thumb", alt: "", decoding: "async", src: `slide/${index}/thumbnail`});
    const value = View.element("span", {className: "value", textContent: called ? View.number(called.value) : "–"});
    value.classList.toggle("wrong", Boolean(called?.wrong));
    value.title = `${this.study.heads[this.head]?.column ?? ""}${called?.predicted ? `, predicted ${called.predicted}` : ""}`;
    const state = slide.state === "ok" ? "" : slide.state;
    const row = View.element("div", {className: "row"}, image,
      View.element("span", {className: "name", textContent: slide.slide, title: slide.slide}), value,
      View.element("span", {
        className: "about", title: slide.reason,
        textContent: [slide.label, slide.split, state].filter(Boolean).join(" · "),
      }),
      View.element("span", {
        className: "about", textContent: this.numbers(slide),
        title: "spread: standard deviation of the prediction over the heads that held the slide out, "
          + "or over all heads if none did; entropy: evenness of attention, 1 is uniform",
      }));
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(index === this.selected));
    row.dataset.slide = index;
    row.addEventListener("click", () => this.choose(index));
    return row;
  }

  numbers(slide) {
    const parts = [];
    if (slide.uncertainty !== null) parts.push(`spread ${slide.uncertainty.toPrecision(2)}`);
    const entropy = slide.entropy[this.head];
    if (entropy !== null && entropy !== undefined) parts.push(`entropy ${entropy.toPrecision(3)}`);
    return parts.join(" · ");
  }

  setHead(head) {
    this.head = head;
    this.show();
  }

  show() {
    const sort = View.SORTS[View.byId("sort").value];
    const words = View.byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const keys = this.study.slides.map((row, index) => sort.key(row, index, this.head) ?? null);
    const sign = sort.down ? -1 : 1;
    const natural = new Intl.Collator(undefined, {numeric: true});
    this.order = keys.map((key, index) => index)
      .filter((index) => words.every((word) => this.texts[index].includes(word)))
      .sort((one, other) => {
        const [a, b] = [keys[one], keys[other]];
        // Slides without the number come last in either order.
        if (a === null || b === null) return (a === null) - (b === null) || one - other;
        return sign * (typeof a === "string" ? natural.compare(a, b) : a - b) || one - other;
      });
    View.byId("count").textContent = `${this.order.length} of ${this.study.slides.length}`;
    this.sheet.style.height = `${this.order.length * View.ROW_PX}px`;
    this.sheet.replaceChildren();
    this.draw();
  }

  // Rows that can be seen now; those that stay are kept, with their pictures.
  draw() {
    const first = Math.max(0, Math.floor(this.rows.scrollTop / View.ROW_PX) - View.SPARE_ROWS);
    const last = Math.min(this.order.length,
      Math.ceil((this.rows.scrollTop + this.rows.clientHeight) / View.ROW_PX) + View.SPARE_ROWS);
    const there = new Map([...this.sheet.children].map((row) => [Number(row.dataset.slide), row]));
    const seen = this.order.slice(first, last).map((index, place) => {
      const row = there.get(index) ?? this.row(index);
      row.style.top = `${(first + place) * View.ROW_PX}px`;
      return row;
    });
    this.sheet.replaceChildren(...seen);
  }

  select(index) {
    this.selected = index;
    const at = this.order.indexOf(index);
    if (at >= 0) {
      const top = at * View.ROW_PX;
      const bottom = top + View.ROW_PX;
      if (top < this.rows.scrollTop) this.rows.scrollTop = top;
      if (bottom > this.rows.scrollTop + this.rows.clientHeight) {
        this.rows.scrollTop = bottom - this.rows.clientHeight;
      }
    }
    this.draw();
    for (const row of this.sheet.children) {
      row.setAttribute("aria-selected", String(Number(row.dataset.slide) === index));
    }
  }

  step(by) {
    const at = this.order.indexOf(this.selected);
    const next = this.order[Math.min(Math.max(at + by, 0), this.order.length - 1)];
    if (next !== undefined && next !== this.selected) this.choose(next);
  }
};
