{
const result = {};
const panels = Array.from(document.querySelectorAll(".panel"));
result.panels = panels.length;
const panel = panels[0];
const [left, right, zoom] = panel.querySelectorAll("select");
const divider = panel.querySelector("input[type=range]");
const over = panel.querySelector(".over");
const lenses = Array.from(panel.querySelectorAll(".lens"));
divider.value = 25;
divider.dispatchEvent(new Event("input", { bubbles: true }));
result.cut = over.style.clipPath;
result.said = divider.getAttribute("aria-valuetext");
const before = [over.src, lenses[1].firstChild.src, lenses[0].firstChild.src];
right.value = 2;
right.dispatchEvent(new Event("change", { bubbles: true }));
result.swapped = over.src !== before[0] && lenses[1].firstChild.src !== before[1] && lenses[0].firstChild.src === before[2];
const places = () => lenses.map((it) => it.firstChild.style.transform);
zoom.value = 2;
zoom.dispatchEvent(new Event("input", { bubbles: true }));
const still = places();
const press = (key) => lenses[0].dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
press("ArrowRight");
result.linked = new Set(places()).size === 1;
result.moved = places()[0] !== still[0];
for (let i = 0; i < 50; i++) press("ArrowRight");
const edge = places()[0];
press("ArrowRight");
result.held = places()[0] === edge && edge.includes("-25%");

const filter = document.getElementById("filter");
const search = (text) => {
  filter.value = text;
  filter.dispatchEvent(new Event("input", { bubbles: true }));
};
const rows = Array.from(document.querySelector("table.images").tBodies[0].rows);
search("fresh  BREAD models/sd3-f16-wlf seed=");
const some = document.getElementById("filtered").textContent;
search("harbour");
result.shown = document.getElementById("filtered").textContent;
result.hidden = rows.filter((it) => it.hidden).length;
result.worded = some;
search("");
result.all = rows.filter((it) => it.hidden).length;

const detail = document.querySelector(".views .detail");
detail.click();
const viewer = document.getElementById("viewer");
const first = viewer.querySelector("img").alt;
viewer.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
const second = viewer.querySelector("img").alt;
result.dialog = { open: viewer.open, same: first !== second && first.endsWith("detail 1") && second.endsWith("detail 1") };

const element = document.createElement("pre");
element.id = "result";
element.textContent = JSON.stringify(result);
document.body.append(element);
}
