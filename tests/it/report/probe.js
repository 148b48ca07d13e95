const result = { errors: window.errors, alerts: window.alerts };
const rows = (table) => Array.from(table.tBodies[0].rows);
const names = (table) => rows(table).map((row) => row.cells[0].textContent);

result.scripts = document.scripts.length;
result.handlers = Array.from(document.querySelectorAll("*")).filter((it) =>
  Array.from(it.attributes).some((attribute) => attribute.name.startsWith("on"))).length;
result.foreign = Array.from(document.querySelectorAll("[src],[href]")).filter((it) =>
  !/^(data:|#)/.test(it.getAttribute("src") || it.getAttribute("href"))).length;
result.unnamed = Array.from(document.querySelectorAll("main img, svg:not([aria-hidden])")).filter((it) =>
  !(it.alt || it.getAttribute("aria-label"))).length;
result.title = document.title;
result.samples = Array.from(document.querySelectorAll("article h3"), (it) => it.firstChild.textContent.trim());
result.overflow = document.documentElement.scrollWidth - window.innerWidth;
result.paper = getComputedStyle(document.body).backgroundColor;

const table = document.querySelector("#sources table");
const button = table.querySelectorAll("thead button")[2];
button.focus();
result.focused = document.activeElement === button;
const before = names(table);
button.click();
result.rising = names(table);
result.aria = button.parentElement.getAttribute("aria-sort");
button.click();
result.falling = names(table);
result.unlike = before.join() !== result.rising.join();
const undefinedColumn = Array.from(table.tHead.rows[0].cells).findIndex((it) => it.textContent.startsWith("PSNR"));
table.querySelectorAll("thead button")[undefinedColumn].click();
result.last = names(table).slice(-2).sort();
table.querySelectorAll("thead button")[0].click();
result.restored = names(table).join() === before.join();

const detail = document.querySelector(".details .detail");
if (detail) {
  detail.click();
  const viewer = document.getElementById("viewer");
  const image = viewer.querySelector("img");
  const first = image.src;
  viewer.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  result.viewer = { open: viewer.open, moved: image.src !== first, caption: viewer.querySelector("figcaption").textContent };
}
const element = document.createElement("pre");
element.id = "result";
element.textContent = JSON.stringify(result);
document.body.append(element);
