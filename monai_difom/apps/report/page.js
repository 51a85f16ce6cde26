// pictures open large, and are put in order; the page is whole without it
const pictures = () => [...document.querySelectorAll("button.shot, button.plain")]
  .filter(button => !button.closest("details:not([open])"));
const opened = () => document.querySelector(".large");
function show(button) {
  opened()?.classList.remove("large");
  button?.closest("figure").classList.add("large");
  document.body.classList.toggle("still", !!button);
  button?.focus();
}
document.addEventListener("click", event => {
  const button = event.target.closest("button.shot, button.plain");
  if (button) show(button.closest(".large") ? null : button);
  else if (event.target.closest(".large")) show(null);
});
document.addEventListener("keydown", event => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], now = opened()?.querySelector("button");
  if (!now) return;
  if (event.key === "Escape") show(null);
  const all = pictures();
  if (step) { event.preventDefault(); show(all[(all.indexOf(now) + step + all.length) % all.length]); }
});
for (const choice of document.querySelectorAll(".sorting select")) choice.addEventListener("change", () => {
  const sign = choice.value.startsWith("-") ? -1 : 1, key = choice.value.replace("-", "");
  for (const grid of choice.closest("section").querySelectorAll(".tiles")) {
    const tiles = [...grid.children];
    tiles.forEach((tile, place) => tile.dataset.place ??= place);
    grid.append(...tiles.sort((a, b) => sign * (a.dataset[key || "place"] - b.dataset[key || "place"])));
  }
});
