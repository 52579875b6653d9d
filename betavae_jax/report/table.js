// The table of runs: a heading sorts, words filter.

function sortTable(table, column, descending) {
  const body = table.tBodies[0];
  const key = (row) => {
    const value = row.cells[column].dataset.value;
    return value === "" ? null : Number(value);
  };
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === null || y === null) return (x === null) - (y === null); // no value: last
    return descending ? y - x : x - y;
  });
  body.append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortTable(table, column, descending);
    });
  });
}

// A word with "=" is a whole setting, so that beta=1 leaves out beta=16; others match anywhere.
find("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  for (const row of document.querySelectorAll("tbody tr")) {
    const words = row.dataset.words.toLowerCase();
    const settings = words.split(" ");
    row.hidden = !wanted.every((w) => (w.includes("=") ? settings.includes(w) : words.includes(w)));
  }
});
