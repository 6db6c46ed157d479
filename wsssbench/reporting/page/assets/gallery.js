/* The gallery's controls: how strong masks are, marks on wrong pixels, and two layers with a divider. */
(() => {
  "use strict";

  function layersOf(figure) {
    const found = new Map();
    for (const cell of figure.querySelectorAll(".cell")) {
      found.set(cell.querySelector(".name").textContent, cell.querySelector(".picture"));
    }
    return found;
  }

  function fill(side, picture, title) {
    side.classList.toggle("smooth", Boolean(picture?.classList.contains("smooth")));
    side.replaceChildren(...(picture ? [...picture.children].map((image) => image.cloneNode()) : []));
    side.setAttribute("aria-label", picture?.getAttribute("aria-label") ?? `${title}: nothing of this image`);
  }

  function setUp(gallery) {
    const figures = [...gallery.querySelectorAll("figure.shot")];
    const viewer = gallery.querySelector(".viewer");
    const stage = viewer.querySelector(".stage");
    const find = (name) => viewer.querySelector(`.${name}`);
    const [which, left, right, cut] = ["which", "left", "right", "cut"].map(find);

    function move(percent) {
      cut.value = String(percent);
      stage.style.setProperty("--cut", `${cut.value}%`);
      cut.setAttribute("aria-valuetext", `${cut.value} % ${left.value}, the rest ${right.value}`);
    }

    function show() {
      const figure = figures[Number(which.value)];
      const layers = layersOf(figure);
      for (const name of ["--photo", "--ratio"]) stage.style.setProperty(name, figure.style.getPropertyValue(name));
      fill(find("first"), layers.get(left.value), left.value);
      fill(find("second"), layers.get(right.value), right.value);
      find("reading").textContent = `left: ${find("first").getAttribute("aria-label")}; right: ${find("second").getAttribute("aria-label")}`;
      move(cut.value);
    }

    function drag(event) {
      if (event.buttons !== 1) return;
      const box = stage.getBoundingClientRect();
      move(Math.round((100 * (event.clientX - box.left)) / box.width));
    }

    for (const select of [which, left, right]) select.addEventListener("change", show);
    cut.addEventListener("input", () => move(cut.value));
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      drag(event);
    });
    stage.addEventListener("pointermove", drag);
    for (const button of gallery.querySelectorAll(".look")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        which.value = button.dataset.figure;
        show();
        viewer.scrollIntoView({ block: "nearest" });
        which.focus({ preventScroll: true });
      });
    }
    viewer.hidden = false;
    show();
  }

  for (const gallery of document.querySelectorAll(".gallery")) {
    gallery.querySelector(".tools").hidden = false;
    gallery.querySelector(".opacity").addEventListener("input", (event) => {
      gallery.style.setProperty("--opacity", String(event.target.value / 100));
    });
    gallery.querySelector(".marks").addEventListener("change", (event) => {
      gallery.classList.toggle("unmarked", !event.target.checked);
    });
    setUp(gallery);
  }
})();
