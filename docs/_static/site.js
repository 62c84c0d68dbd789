// What axe-core misses in the pages of Sphinx and Furo.
const each = (which, change) => document.querySelectorAll(which).forEach(change);
const boxes = new ResizeObserver(entries => entries.forEach(({target}) => {
  if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
  else target.removeAttribute("tabindex");
}));
document.addEventListener("DOMContentLoaded", () => {
  // Boxes that scroll sideways, code and wide tables, are reached by the keyboard.
  each("pre, .table-wrapper", box => boxes.observe(box));
  // The captions of the navigation are headings without a level.
  each(".caption[role=heading]", caption => caption.setAttribute("aria-level", 2));
  // A signature over several lines is a list of definitions without terms.
  each(".sig dl, .sig dd", part => part.setAttribute("role", "presentation"));
});
