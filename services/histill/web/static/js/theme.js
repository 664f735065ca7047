// Light or dark, before the first paint: a plain script that the page waits for. A choice of the
// reader's own counts before the system's.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const choice = () => {
    try {
      return localStorage.getItem("histill:theme");
    } catch {
      return null; // A browser that keeps nothing for us follows the system.
    }
  };
  const apply = () => {
    const own = choice();
    document.documentElement.dataset.theme =
      own === "light" || own === "dark" ? own : system.matches ? "dark" : "light";
  };
  apply();
  system.addEventListener("change", apply);
  // Another tab's choice, or this page's own (js/appearance.js).
  addEventListener("storage", apply);
  document.addEventListener("histill:theme", apply);
})();
