"use strict";
// Above each panel: the choice of its head, the prediction and the colour bar.
View.Heads = {
  captions() {
    View.byId("captions").classList.toggle("single", !this.heads[1]);
    for (const panel of [0, 1]) {
      const caption = document.querySelector(`.caption[data-panel="${panel}"]`);
      caption.hidden = panel === 1 && this.study.heads.length === 0;
      caption.replaceChildren(View.element("div", {className: "head"}, this.headSelect(panel), this.prediction(panel)));
      if (this.heads[panel]) {
        caption.append(View.element("div", {className: "bar"}), View.element("div", {className: "caution"}));
      }
    }
  },

  headSelect(panel) {
    const select = View.element("select", {className: "head-select"});
    select.setAttribute("aria-label", panel ? "second head" : "head");
    if (panel) select.append(View.option("", "no second head"));
    this.study.heads.forEach((head, index) => {
      const members = this.slide.heads[index]?.members ?? [];
      const held = members.filter((member) => !member.seen).length || members.length;
      const mean = held > 1 ? `, mean of ${held}` : "";
      select.append(View.option(`${index}:`, `${head.title} · ${head.tiling}${mean}`));
      if (members.length < 2) return;
      members.forEach((member, number) => select.append(View.option(`${index}:${number}`,
        `${head.title}, ${member.title}${member.seen ? " (trained on this slide)" : ""}`)));
    });
    const chosen = this.heads[panel];
    select.value = chosen ? `${chosen.head}:${chosen.member ?? ""}` : "";
    select.addEventListener("change", () => this.setHead(panel, select.value));
    return select;
  },

  async setHead(panel, value) {
    const [head, member] = value.split(":");
    this.heads[panel] = value ? {head: Number(head), member: member ? Number(member) : null} : null;
    if (panel === 0) this.list.setHead(this.heads[0].head);
    document.body.dataset.ready = "";
    try {
      await this.redraw(this.number);
    } catch (error) {
      View.say(error.message);
    }
  },

  prediction(panel) {
    const chosen = this.heads[panel];
    const row = this.study.slides[this.number];
    const called = chosen && row.called[chosen.head];
    if (!called) return View.element("span", {className: "prediction"});
    const predicted = called.predicted ? `, predicted ${called.predicted}` : "";
    const label = row.label ? `, label ${row.label}` : "";
    const text = `${this.study.heads[chosen.head].column} = ${View.number(called.value)}${predicted}${label}`;
    return View.element("span", {className: `prediction${called.wrong ? " wrong" : ""}`, textContent: text, title: text});
  },
};
