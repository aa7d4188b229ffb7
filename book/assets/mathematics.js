// Sets every piece of mathematics on the page. Without scripts its TeX source stays readable.
(function () {
  "use strict";
  var macros = {
    "\\R": "\\mathbb{R}", "\\E": "\\mathbb{E}", "\\tr": "\\operatorname{tr}", "\\diag": "\\operatorname{diag}",
    "\\argmin": "\\operatorname*{arg\\,min}"
  };
  // Fonts: as files over HTTP, embedded on file:// (where browsers refuse font files to a page).
  var fonts = document.createElement("link");
  fonts.rel = "stylesheet";
  fonts.href = new URL(location.protocol === "file:" ? "katex/embedded.css" : "katex/linked.css",
    document.currentScript.src).href;
  document.head.appendChild(fonts);

  function set() {
    document.querySelectorAll(".math").forEach(function (node, number) {
      var tex = node.querySelector(".tex");
      if (!tex) { return; }
      var display = node.tagName === "DIV";
      window.katex.render(tex.textContent, tex,
        { displayMode: display, throwOnError: false, macros: macros, strict: "ignore" });
      // Wide formulas scroll on a narrow screen; then the keyboard must reach them too.
      if (display && tex.scrollWidth > tex.clientWidth + 1) {
        tex.setAttribute("tabindex", "0");
        tex.setAttribute("role", "region");
        tex.setAttribute("aria-label", "Formula " + (number + 1));
      }
    });
  }
  if (document.readyState === "loading") { document.addEventListener("DOMContentLoaded", set); } else { set(); }
})();
