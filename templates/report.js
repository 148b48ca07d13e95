"use strict";
document.documentElement.classList.add("js");

function sortBy(button) {
  const title = button.parentElement;
  const column = title.cellIndex;
  const rising = title.getAttribute("aria-sort") !== "ascending";
  for (const it of title.parentElement.cells) it.removeAttribute("aria-sort");
  title.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const body = title.closest("table").tBodies[0];
  const value = (row) => row.cells[column].dataset.v;
  const rows = Array.from(body.rows);
  const numeric = rows.every((row) => value(row) === "" || !isNaN(Number(value(row))));
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = numeric ? Number(x) - Number(y) : x < y ? -1 : x > y ? 1 : 0;
    return rising ? order : -order;
  });
  body.append(...rows);
}

const viewer = document.getElementById("viewer");
let shown = [];
let place = 0;

function show(index) {
  place = (index + shown.length) % shown.length;
  const image = shown[place].querySelector("img");
  const large = viewer.querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  const caption = shown[place].parentElement.querySelector("figcaption");
  const scores = Array.from(caption.querySelectorAll(".scores span"), (it, i) => it.textContent + (i % 2 ? ", " : " "));
  viewer.querySelector("figcaption").textContent = caption.title + ": " + scores.join("").slice(0, -2);
}

document.addEventListener("click", (event) => {
  const sorter = event.target.closest("table.sortable thead button");
  if (sorter) return sortBy(sorter);
  const detail = event.target.closest("button.detail");
  if (detail) {
    shown = Array.from(detail.closest(".row").querySelectorAll("button.detail"));
    show(shown.indexOf(detail));
    return viewer.showModal();
  }
  const go = event.target.closest("#viewer button");
  if (go) return go.dataset.go === "0" ? viewer.close() : show(place + Number(go.dataset.go));
  if (event.target === viewer) viewer.close();
});

viewer.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) {
    event.preventDefault();
    show(place + step);
  }
});
