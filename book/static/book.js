// What CSS alone cannot do: paper shows every answer, figures open, the keyboard reaches whatever scrolls.
addEventListener("beforeprint", () => {
  for (const answer of document.querySelectorAll("details:not([open])")) {
    answer.open = true;
    answer.dataset.opened = "for print";
  }
});
addEventListener("afterprint", () => {
  for (const answer of document.querySelectorAll("details[data-opened]")) {
    answer.open = false;
    delete answer.dataset.opened;
  }
});

// A page on the disk may not fetch another one, which is where the search takes its excerpts from.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

addEventListener("DOMContentLoaded", () => {
  // A figure opens in full size: on a phone its letters are small.
  for (const image of document.querySelectorAll(".bd-article .cell_output img")) {
    const link = document.createElement("a");
    link.href = image.src;
    image.replaceWith(link);
    link.append(image);
  }
});

function reachScrollers() {
  for (const formula of document.querySelectorAll(".bd-article span.math")) {
    const room = formula.closest("p, li, .bd-article").clientWidth;
    const width = formula.querySelector("svg")?.getBoundingClientRect().width ?? 0;
    formula.classList.toggle("wide", width > room && !formula.closest("table"));
  }
  for (const box of document.querySelectorAll(".bd-article :is(pre, .math, mjx-container, .output, .pst-scrollable-table-container)")) {
    if (box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX === "auto") box.tabIndex = 0;
    else if (box.getAttribute("tabindex") === "0") box.removeAttribute("tabindex");
  }
}
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  reachScrollers();
});
addEventListener("resize", reachScrollers);
