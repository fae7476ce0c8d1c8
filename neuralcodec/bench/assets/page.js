"use strict";
// The report's page: which metric and which codecs the plots show, what a point says, and the comparison of pictures.

const root = document.documentElement;
root.classList.add("js");
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

// Colours: as the system, light, dark.
const theme = document.querySelector(".theme");
const themes = [["", "Auto", "as the system"], ["light", "Light", "light"], ["dark", "Dark", "dark"]];
theme.addEventListener("click", () => {
  const next = themes[(themes.findIndex(([name]) => name === (root.dataset.theme || "")) + 1) % themes.length];
  root.dataset.theme = next[0];
  theme.textContent = next[1];
  theme.setAttribute("aria-label", `Colours: ${next[2]}`);
});

// Metric and codecs of all plots.
for (const input of all("input[name=metric]")) {
  input.addEventListener("change", () => {
    for (const plot of all(".plot[data-metric]")) plot.hidden = plot.dataset.metric !== input.value;
  });
}
for (const input of all("input[data-series]")) {
  input.addEventListener("change", () => {
    for (const series of all(`.plots:not(.side) .series.s${input.dataset.series}`)) series.classList.toggle("off", !input.checked);
  });
}

// The nearest point under the pointer says what it is. The points of a series are its use elements, in order.
const tip = document.querySelector(".tip");
function pointsOf(plot) {
  const texts = JSON.parse(plot.dataset.points);
  const seen = {};
  return all("svg", plot).filter((svg) => svg.getClientRects().length).flatMap((svg) => all(".series:not(.off)", svg)).flatMap((group) => {
    const number = group.classList[1].slice(1);
    return all("use", group).map((mark) => {
      seen[number] = (seen[number] ?? -1) + 1;
      const box = mark.getBoundingClientRect();
      return { x: box.x + box.width / 2, y: box.y + box.height / 2, text: texts[number]?.[seen[number]] };
    });
  });
}
for (const plot of all(".plot")) {
  plot.addEventListener("pointermove", (event) => {
    let best = null, least = 28;
    for (const point of pointsOf(plot)) {
      const distance = Math.hypot(point.x - event.clientX, point.y - event.clientY);
      if (point.text && distance < least) [best, least] = [point, distance];
    }
    tip.hidden = !best;
    if (!best) return;
    tip.textContent = best.text;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(best.x - width / 2, root.clientWidth - width - 8))}px`;
    tip.style.top = `${best.y - height - 12 < 0 ? best.y + 12 : best.y - height - 12}px`;
  });
  plot.addEventListener("pointerleave", () => { tip.hidden = true; });
}
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

// Panels of which one is shown.
for (const select of all("select[data-panels]")) {
  const show = () => {
    for (const panel of all(`[data-panel=${select.dataset.panels}]`)) panel.hidden = panel.dataset.number !== select.value;
  };
  select.addEventListener("change", show);
  show();
}

// Comparison of pictures.
class Viewer {
  constructor(element) {
    this.element = element;
    this.images = all(".stack img", element);
    this.radios = all(".shots input", element);
    this.name = element.querySelector(".shown-name");
    this.difference = element.querySelector("[data-difference]");
    this.stage = element.querySelector(".stage");
    this.chosen = 0;
    this.radios.forEach((radio, number) => {
      radio.addEventListener("change", () => this.choose(number));
      // A pointer that can hover switches without a click.
      radio.closest("label").addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") this.choose(number); });
    });
    this.difference.addEventListener("change", () => { element.classList.toggle("difference", this.difference.checked); });
    for (const size of all("input[name^=size]", element)) {
      size.addEventListener("change", () => {
        element.dataset.size = size.value;
        element.style.setProperty("--zoom", parseInt(size.value, 10) || 1);
      });
    }
    this.pointer();
    this.choose(0);
  }

  choose(number) {
    this.chosen = (number + this.images.length) % this.images.length;
    this.radios[this.chosen].checked = true;
    this.draw(this.chosen);
  }

  draw(number) {
    this.images.forEach((image, n) => image.classList.toggle("shown", n === number));
    this.name.textContent = this.images[number].alt;
  }

  // A short press goes to the next picture; a long one shows the source for as long as it lasts.
  pointer() {
    let timer = 0, held = false;
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      held = false;
      timer = setTimeout(() => { held = true; this.draw(0); }, 250);
    });
    const end = (next) => {
      if (!timer) return;
      clearTimeout(timer);
      timer = 0;
      if (held) this.draw(this.chosen);
      else if (next) this.choose(this.chosen + 1);
    };
    this.stage.addEventListener("pointerup", () => end(true));
    this.stage.addEventListener("pointercancel", () => end(false));
    this.stage.addEventListener("pointerleave", () => end(false));
    this.stage.addEventListener("contextmenu", (event) => { if (held) event.preventDefault(); });
  }

  key(key) {
    if (/^[1-9]$/.test(key) && key <= this.images.length) this.choose(key - 1);
    else if (key === "ArrowRight" || key === "ArrowDown") this.choose(this.chosen + 1);
    else if (key === "ArrowLeft" || key === "ArrowUp") this.choose(this.chosen - 1);
    else if (key === "d" || key === "D") this.difference.click();
    else return false;
    return true;
  }

  get active() {
    const box = this.element.getBoundingClientRect();
    return !this.element.hidden && box.bottom > 0 && box.top < innerHeight;
  }
}
const viewers = all(".viewer").map((element) => new Viewer(element));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, textarea, input:not([type=radio], [type=checkbox])")) return;
  const inside = viewers.find((v) => v.element.contains(event.target));
  // Arrows belong to radio buttons that have the focus, and up and down scroll the page unless the picture has it.
  if (event.key.startsWith("Arrow") && event.target.matches("input")) return;
  if (/^Arrow(Up|Down)$/.test(event.key) && !event.target.closest(".stage")) return;
  const viewer = inside || viewers.find((v) => v.active);
  if (viewer?.key(event.key)) event.preventDefault();
});

// The section that is being read, in the navigation.
const links = new Map(all(".sections a").map((a) => [a.hash.slice(1), a]));
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const [id, link] of links) {
      if (id === entry.target.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const id of links.keys()) observer.observe(document.getElementById(id));
