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
  const caption = shown[place].closest("figure").querySelector("figcaption");
  const scores = Array.from(caption.querySelectorAll(".scores span"), (it, i) => it.textContent + (i % 2 ? ", " : " "));
  viewer.querySelector("figcaption").textContent = caption.title + ": " + scores.join("").slice(0, -2);
}

// Two pictures of a comparison over each other, and their details at one zoom and place.
function make(tag, attributes, ...children) {
  const it = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) it.setAttribute(name, value);
  it.append(...children);
  return it;
}

function pair(article) {
  const views = Array.from(article.querySelectorAll(".views > figure"));
  if (views.length < 2) return;
  const sample = article.querySelector("h3").textContent.trim();
  const chooser = (label, chosen) => {
    const select = make("select", {}, ...views.map((it, i) => make("option", { value: i }, it.dataset.name)));
    select.value = chosen;
    return [select, make("label", {}, make("span", {}, label), select)];
  };
  const [left, leftLabel] = chooser("Left", 0);
  const [right, rightLabel] = chooser("Right", 1);
  const divider = make("input", { type: "range", min: 0, max: 100, value: 50, step: 1 });
  const zoom = make("select", {}, ...[1, 2, 4].map((it) => make("option", { value: it }, it + "×")));
  const under = make("img", { alt: "" });
  const over = make("img", { alt: "", class: "over" });
  const bar = make("i", { "aria-hidden": "true" });
  const names = [make("span", { class: "l" }), make("span", { class: "r" })];
  const stack = make("div", { class: "stack" }, under, over, bar, ...names);
  const lenses = [];
  const rows = make("div", { class: "lenses" });
  const n = views[0].querySelectorAll(".detail img").length;
  for (let place = 0; place < n; place++) {
    for (const side of [left, right]) {
      const image = make("img", { draggable: "false" });
      const lens = make("div", { class: "lens inset" + place, tabindex: 0, role: "group" }, image);
      lenses.push({ lens, image, side, place });
      rows.append(lens);
    }
  }
  const at = { x: 0, y: 0 };
  function draw() {
    const cut = Number(divider.value);
    over.style.clipPath = `inset(0 0 0 ${cut}%)`;
    bar.style.left = cut + "%";
    divider.setAttribute("aria-valuetext", `${cut} % ${views[left.value].dataset.name}, the rest ${views[right.value].dataset.name}`);
    const scale = Number(zoom.value);
    const reach = (1 - 1 / scale) * 50;
    at.x = Math.max(-reach, Math.min(reach, at.x));
    at.y = Math.max(-reach, Math.min(reach, at.y));
    for (const { image } of lenses) image.style.transform = `scale(${scale}) translate(${-at.x}%, ${-at.y}%)`;
  }
  function choose() {
    for (const [image, side] of [[under, left], [over, right]]) {
      const whole = views[side.value].querySelector(".whole img");
      image.src = whole.src;
      image.width = whole.getAttribute("width");
      image.height = whole.getAttribute("height");
      image.alt = whole.alt;
    }
    names.forEach((it, i) => (it.textContent = views[[left, right][i].value].dataset.name));
    for (const { lens, image, side, place } of lenses) {
      const view = views[side.value];
      const detail = view.querySelectorAll(".detail img")[place];
      image.src = detail.src;
      image.width = detail.getAttribute("width");
      image.height = detail.getAttribute("height");
      image.alt = detail.alt;
      lens.setAttribute("aria-label", `${view.dataset.name}, detail ${place + 1} of ${sample}: arrow keys move all details`);
    }
    draw();
  }
  const drag = (element, move) => {
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      move(event, true);
      event.preventDefault();
      element.focus({ preventScroll: true });
    });
    element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && move(event, false));
  };
  drag(stack, (event) => {
    const box = stack.getBoundingClientRect();
    divider.value = Math.round(100 * (event.clientX - box.left) / box.width);
    draw();
  });
  for (const { lens } of lenses) {
    drag(lens, (event, first) => {
      if (first) return;
      const scale = Number(zoom.value);
      at.x -= 100 * event.movementX / lens.clientWidth / scale;
      at.y -= 100 * event.movementY / lens.clientHeight / scale;
      draw();
    });
    lens.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step || zoom.value === "1") return;
      event.preventDefault();
      at.x += 4 * step[0];
      at.y += 4 * step[1];
      draw();
    });
  }
  for (const it of [left, right]) it.addEventListener("change", choose);
  for (const it of [divider, zoom]) it.addEventListener("input", draw);
  const controls = make("div", { class: "controls" }, leftLabel, rightLabel,
    make("label", { class: "wide" }, make("span", {}, "Divider"), divider),
    make("label", {}, make("span", {}, "Zoom of details"), zoom));
  const panel = make("div", { class: "panel", role: "group", "aria-label": "Two pictures of " + sample }, controls,
    make("div", { class: "halves" }, stack, rows));
  article.querySelector(".views").before(panel);
  choose();
}
for (const it of document.querySelectorAll("article.compare")) pair(it);

const filter = document.getElementById("filter");
if (filter) {
  const rows = Array.from(document.querySelector("table.images").tBodies[0].rows, (row) => [row, row.textContent.toLowerCase()]);
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const [row, text] of rows) {
      row.hidden = !wanted.every((it) => text.includes(it));
      n += !row.hidden;
    }
    document.getElementById("filtered").textContent = wanted.length ? `${n} of ${rows.length}` : "";
  });
}

document.addEventListener("click", (event) => {
  const sorter = event.target.closest("table.sortable thead button");
  if (sorter) return sortBy(sorter);
  const detail = event.target.closest("button.detail");
  if (detail) {
    // Of a comparison, the same place in all pictures.
    const place = Array.from(detail.classList).find((it) => it.startsWith("inset"));
    shown = Array.from(detail.closest(".row").querySelectorAll("button.detail" + (place ? "." + place : "")));
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
