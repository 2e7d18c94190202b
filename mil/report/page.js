"use strict";
// Sorting: a click on a heading sorts its table, numbers as numbers.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column]?.dataset.value ?? row.cells[column]?.textContent.trim() ?? "";
  const number = text => /^[-−]?[\d.,]+/.test(text) ? parseFloat(text.replace("−", "-").replaceAll(",", "")) : NaN;
  headings.forEach((heading, column) => {
    heading.dataset.sort = "";
    heading.tabIndex = 0;
    const sort = () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach(other => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...body.rows].map(row => [key(row, column), row]);
      const numeric = keyed.some(([text]) => !Number.isNaN(number(text)));
      const order = ([a], [b]) => {
        if (!numeric) return a.localeCompare(b, undefined, { numeric: true });
        const [x, y] = [number(a), number(b)];
        // Cells without a number come last in both directions.
        if (Number.isNaN(x) || Number.isNaN(y)) return (Number.isNaN(x) - Number.isNaN(y)) * (down ? -1 : 1);
        return x - y;
      };
      keyed.sort(order);
      if (down) keyed.reverse();
      body.append(...keyed.map(([, row]) => row));
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
// The table of slides: a search and a choice of the split.
const find = document.getElementById("find"), split = document.getElementById("split"), wrong = document.getElementById("wrong");
const rows = [...document.querySelectorAll("#slides tbody tr")];
const texts = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
if (!rows.some(row => row.dataset.split === "test")) split.value = "";
const show = () => {
  const words = find.value.toLowerCase();
  for (const row of rows) {
    row.hidden = !(texts.get(row).includes(words) && (!split.value || row.dataset.split === split.value) && (!wrong.checked || row.dataset.wrong));
  }
  document.getElementById("count").textContent = rows.filter(row => !row.hidden).length + " of " + rows.length;
};
find.addEventListener("input", show);
split.addEventListener("change", show);
wrong.addEventListener("change", show);
show();
// On paper nothing is folded.
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
