"use strict";
// Charts are drawn from the data in the page, in the colours of its style: "$name" is the style's --name.
(() => {
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules])
    .filter((rule) => rule instanceof CSSMediaRule && rule.media.mediaText.includes("prefers-color-scheme"));
  const button = document.getElementById("scheme");
  let chosen = null; // "light" or "dark"; null: as the reader's system has it

  const coloured = (value, key, style) => {
    if (typeof value === "string") {
      return /color|colorscale/.test(key) && value.startsWith("$") ? style.getPropertyValue(`--${value.slice(1)}`).trim() : value;
    }
    if (Array.isArray(value)) return value.map((each) => coloured(each, key, style));
    if (value === null || typeof value !== "object") return value;
    const inside = (name) => (/color/.test(key) ? key : name);
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, coloured(each, inside(name), style)]));
  };

  const axis = { gridcolor: "$rule", linecolor: "$rule", zerolinecolor: "$rule", automargin: true, fixedrange: true };
  const titled = (it) => (it.title ? { ...it, title: { ...it.title, font: { size: 12, color: "$soft" } } } : it);
  const sparser = (it, narrow) => (it.dtick && narrow && it.dtick > 1 ? { ...it, dtick: 2 * it.dtick } : it);
  const cut = (name) => (name.length > 20 && !name.includes("&") ? `…${name.slice(-19)}` : name);
  const shorter = (it, narrow) => (it.ticktext && narrow ? { ...it, ticktext: it.ticktext.map(cut) } : it);
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const place of document.querySelectorAll(".chart")) {
      const chart = JSON.parse(document.getElementById(`${place.id}-data`).textContent);
      const narrow = place.clientWidth < 520;
      const layout = {
        ...chart.layout,
        xaxis: titled({ ...axis, ...sparser(chart.layout.xaxis, narrow) }),
        yaxis: titled({ ...axis, ...shorter(chart.layout.yaxis, narrow) }),
        height: chart.height,
        margin: { l: narrow ? 8 : 40, r: 8, t: 16, b: 40 },
        font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12.5, color: "$ink" },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        hoverlabel: { bgcolor: "$paper", bordercolor: "$rule", font: { color: "$ink" }, align: "left" },
        dragmode: false,
        hovermode: "closest",
      };
      const config = { responsive: true, displaylogo: false, displayModeBar: false };
      Plotly.react(place, coloured(chart.data, "", style), coloured(layout, "", style), config);
    }
  };

  const isDark = () => (chosen === null ? scheme.matches : chosen === "dark");
  const show = () => {
    const media = { light: "not all", dark: "all" }[chosen] ?? "(prefers-color-scheme: dark)";
    for (const rule of rules) rule.media.mediaText = media;
    button.textContent = isDark() ? "light" : "dark";
    draw();
  };
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    show();
  });
  scheme.addEventListener("change", show);
  let before = null; // paper is white
  addEventListener("beforeprint", () => {
    before = chosen;
    chosen = "light";
    show();
  });
  addEventListener("afterprint", () => {
    chosen = before;
    show();
  });
  show();
})();
