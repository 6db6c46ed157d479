/* Light or dark: as the system says, until the reader says otherwise. */
(() => {
  "use strict";
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const NAME = "wsssbench-theme";

  function stored() {
    try {
      return localStorage.getItem(NAME);
    } catch {
      return null; // a browser may refuse storage to files
    }
  }

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  }

  function show() {
    button.textContent = isDark() ? "Light colours" : "Dark colours";
  }

  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(NAME, root.dataset.theme);
    } catch {
      /* the choice then lasts as long as the page */
    }
    show();
  });
  system.addEventListener("change", show);
  const before = stored();
  if (before === "light" || before === "dark") root.dataset.theme = before;
  button.hidden = false;
  show();
})();
