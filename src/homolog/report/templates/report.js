/* Draws the charts from the data block, and opens everything for print. The page reads without it: all numbers are in tables. */
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const options = {
    mode: "vega-lite",
    renderer: "svg",
    ast: true,
    actions: false,
    defaultStyle: false,
    config: data.config,
    tooltip: { disableDefaultStyle: true, theme: "homolog" },
  };
  const boxes = Array.from(document.querySelectorAll("[data-chart]"));
  const drawn = boxes.map(function (box) {
    return vegaEmbed(box, data.charts[box.dataset.chart], options).then(
      function () { box.dataset.state = "drawn"; },
      function (error) {
        box.dataset.state = "failed";
        box.textContent = data.failed + " " + error;
      }
    );
  });
  Promise.all(drawn).then(function () { document.documentElement.dataset.charts = "done"; });

  let closed = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (element) { element.open = true; });
  });
  window.addEventListener("afterprint", function () {
    closed.forEach(function (element) { element.open = false; });
  });
})();
