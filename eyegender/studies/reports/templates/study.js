"use strict";
(() => {
  document.body.classList.add("has-script");
  for (const button of document.querySelectorAll(".command button")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // the browser gives no access to the clipboard
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
  const source = document.getElementById("charts");
  if (!source || !window.Plotly) return;
  const charts = JSON.parse(source.textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const settings = { responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };
  const draw = (figure) => {
    const { data, layout } = charts[figure.id.slice("chart-".length)];
    // A finger on a chart scrolls the page.
    layout.dragmode = touch ? false : "zoom";
    figure.classList.add("drawn");
    Plotly.newPlot(figure.querySelector(".plot"), data, layout, settings).catch(() => figure.classList.remove("drawn"));
  };
  // A chart is drawn when it is about to be seen, so that a page with many of them opens at once.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "400px" });
  for (const figure of document.querySelectorAll("figure.chart")) seen.observe(figure);
})();
