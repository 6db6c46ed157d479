/* Tables that sort by any column and show only the rows a reader asks for. */
(() => {
  "use strict";
  const FEW = 3; // rows that need no filter

  function cellValue(row, column) {
    const cell = row.cells[column];
    if ("value" in cell.dataset) return Number(cell.dataset.value);
    return cell.textContent.trim().toLowerCase();
  }

  /* Numbers before words, words before empty cells, whatever the direction. */
  function kind(value) {
    return typeof value === "number" ? 0 : value === "" ? 2 : 1;
  }

  function compare(a, b, sign) {
    if (kind(a) !== kind(b)) return kind(a) - kind(b);
    return typeof a === "number" ? sign * (a - b) : sign * String(a).localeCompare(String(b), undefined, { numeric: true });
  }

  /* Numbers start with the largest, words with the first; then the other way round; then as it was. */
  function nextOrder(now, numeric) {
    const orders = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    return now === null ? orders[0] : now === orders[0] ? orders[1] : null;
  }

  function sortable(table, count) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      button.disabled = false;
      button.addEventListener("click", () => {
        const numeric = original.some((row) => kind(cellValue(row, column)) === 0);
        const order = nextOrder(head.getAttribute("aria-sort"), numeric);
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        const rows = [...original];
        if (order) {
          head.setAttribute("aria-sort", order);
          const sign = order === "ascending" ? 1 : -1;
          rows.sort((a, b) => compare(cellValue(a, column), cellValue(b, column), sign));
        }
        body.append(...rows);
        count.textContent = order ? `sorted by ${button.textContent}, ${order}` : "in the original order";
      });
    });
  }

  function badgesOf(row) {
    return [...row.querySelectorAll(".badge")].map((badge) => badge.textContent);
  }

  function chips(grid, rows, apply) {
    const all = [...new Set(rows.flatMap(badgesOf))];
    const telling = all.filter((text) => rows.some((row) => !badgesOf(row).includes(text)));
    return telling.map((text) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.textContent = text;
      chip.setAttribute("aria-pressed", "false");
      chip.addEventListener("click", () => {
        chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
        apply();
      });
      grid.querySelector(".chips").append(chip);
      return chip;
    });
  }

  function filterable(grid, count) {
    const rows = [...grid.querySelectorAll("tbody tr")];
    const search = grid.querySelector("input[type=search]");
    const buttons = chips(grid, rows, apply);

    function apply() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const pressed = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.textContent);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const fits = words.every((word) => text.includes(word)) && pressed.every((p) => badgesOf(row).includes(p));
        row.hidden = !fits;
      }
      const shown = rows.filter((row) => !row.hidden).length;
      count.textContent = `${shown} of ${rows.length} rows`;
    }

    search.addEventListener("input", apply);
    grid.querySelector(".tools").hidden = rows.length < FEW;
  }

  for (const grid of document.querySelectorAll(".grid")) {
    const count = grid.querySelector(".count");
    filterable(grid, count);
    sortable(grid.querySelector("table"), count);
  }
})();
