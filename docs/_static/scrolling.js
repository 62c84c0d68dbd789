// Boxes that scroll sideways can be reached by the keyboard: code and tables that are too wide.
const boxes = new ResizeObserver(entries => entries.forEach(({target}) => {
  if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
  else target.removeAttribute("tabindex");
}));
document.addEventListener("DOMContentLoaded", () =>
  document.querySelectorAll("pre, .table-wrapper").forEach(box => boxes.observe(box)));
