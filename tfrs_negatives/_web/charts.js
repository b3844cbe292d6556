// Plots as SVG, drawn at the width they have, so that text keeps its size.

const percentText = (share) => {
  if (share === null || share === undefined) return "–";
  const value = 100 * share;
  if (!value) return "0%";
  if (value < 0.01) return "< 0.01%";
  return parseFloat(value.toFixed(value >= 1 ? 1 : 2)) + "%";
};
const countText = (value) =>
  value.toLocaleString("en", { maximumFractionDigits: value < 10 && value % 1 ? 1 : 0 });

const byId = (id) => document.getElementById(id);

const make = (name, attributes = {}, text = "") => {
  const svg = ["svg", "g", "path", "line", "text", "circle", "rect", "title"];
  const node = svg.includes(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  return node;
};

// Round numbers from 0 to at least `most`.
const ticksTo = (most) => {
  const raw = (most || 1) / 4;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * unit).find((s) => s >= raw - 1e-12);
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, i) => i * step);
};

const mark = (shape, x, y, color) => {
  const r = 3.5;
  if (shape === "square")
    return make("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, fill: color });
  if (shape === "triangle") {
    const d = `M${x} ${y - r - 1}L${x + r + 1} ${y + r}H${x - r - 1}Z`;
    return make("path", { d, fill: color });
  }
  return make("circle", { cx: x, cy: y, r, fill: color });
};

// Axes within a new SVG; returns it and the functions from values to places.
const axes = (width, { xs, xLabel, yLabel, yTicks, yText, height = 250 }) => {
  const box = { left: 50, right: 14, top: 22, bottom: 44 };
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const inner = width - box.left - box.right;
  const most = yTicks[yTicks.length - 1];
  const x = (place) => box.left + inner * place;
  const y = (value) => height - box.bottom - (height - box.top - box.bottom) * (value / most);
  for (const tick of yTicks) {
    svg.append(make("line", {
      class: "grid", x1: box.left, x2: width - box.right, y1: y(tick), y2: y(tick),
    }));
    const at = { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" };
    svg.append(make("text", at, yText(tick)));
  }
  for (const [place, text] of xs)
    svg.append(make("text", {
      x: x(place), y: height - box.bottom + 18, "text-anchor": "middle",
    }, text));
  svg.append(make("text", {
    x: x(0.5), y: height - 6, "text-anchor": "middle",
  }, xLabel));
  svg.append(make("text", { x: 0, y: 10 }, yLabel));
  return { svg, x, y };
};

// Lines over categories: series of {name, color, dash, shape, values, errors}.
const lineChart = (width, { categories, series, xLabel, yLabel, yText, height }) => {
  const all = series.flatMap(({ values, errors }) => values.map(
    (v, i) => (v === null ? 0 : v + 2 * ((errors && errors[i]) || 0))));
  const last = Math.max(categories.length - 1, 1);
  const place = (i) => (categories.length === 1 ? 0.5 : 0.04 + (0.92 * i) / last);
  const { svg, x, y } = axes(width, {
    xs: categories.map((text, i) => [place(i), text]),
    xLabel, yLabel, yText, height, yTicks: ticksTo(Math.max(...all, 1e-9)),
  });
  for (const { name, color, dash, shape, values, errors } of series) {
    const known = values.map((v, i) => [v, i]).filter(([v]) => v !== null);
    const d = known.map(([v, i], n) => `${n ? "L" : "M"}${x(place(i))} ${y(v)}`).join("");
    svg.append(make("path", {
      d, fill: "none", stroke: color, "stroke-width": 2, "stroke-dasharray": dash || "",
    }));
    for (const [v, i] of known) {
      const error = errors && errors[i];
      if (error)
        svg.append(make("line", {
          x1: x(place(i)), x2: x(place(i)), stroke: color, "stroke-width": 1.5,
          y1: y(Math.max(v - 2 * error, 0)), y2: y(v + 2 * error),
        }));
      const point = mark(shape, x(place(i)), y(v), color);
      point.append(make("title", {}, `${name}, ${categories[i]}: ${yText(v)}`));
      svg.append(point);
    }
  }
  return svg;
};

// A line of points within 0 to 1 on both axes, against the diagonal.
const curveChart = (width, { xs, ys, xLabel, yLabel, color, height }) => {
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  const { svg, x, y } = axes(width, {
    xs: ticks.map((t) => [t, percentText(t)]), xLabel, yLabel, yText: percentText,
    yTicks: ticks, height,
  });
  svg.append(make("line", {
    class: "grid", x1: x(0), y1: y(0), x2: x(1), y2: y(1), "stroke-dasharray": "4 4",
  }));
  svg.append(make("text", {
    x: x(0.5) - 8, y: y(0.5) - 8, "text-anchor": "end",
  }, "all items alike"));
  const d = xs.map((v, i) => `${i ? "L" : "M"}${x(v)} ${y(ys[i])}`).join("");
  svg.append(make("path", { d, fill: "none", stroke: color, "stroke-width": 2.5 }));
  return svg;
};

// A bar divided by `parts`, [{name, value, color, text}], with its key.
const drawBar = (node, parts) => {
  const bar = make("div", { class: "bar", "aria-hidden": "true" });
  const key = make("ul", { class: "key" });
  for (const { name, value, color, text } of parts) {
    if (value > 0)
      bar.append(make("span", { style: `flex:${value} 0 0;background:${color}` }));
    key.append(make("li", { style: `--c:${color}` }, `${name} ${text}`));
  }
  node.replaceChildren(bar, key);
};

// A figure in #plots; returns the function that draws it at the width it has.
const figure = (title, small, draw, key = []) => {
  const node = make("figure");
  const caption = make("figcaption", {}, title);
  caption.append(make("small", {}, small));
  node.append(caption);
  if (key.length) {
    const list = make("ul", { class: "key" });
    for (const [name, color] of key)
      list.append(make("li", { style: `--c:${color}` }, name));
    node.append(list);
  }
  byId("plots").append(node);
  return () => {
    const old = node.querySelector("svg");
    if (old) old.remove();
    const width = Math.max(node.clientWidth - 36, 220);
    const svg = draw(width);
    svg.setAttribute("aria-label", `${title}. ${small}`);
    node.append(svg);
  };
};

// Draws figures now, and whenever the window's width changes.
const keepDrawn = (figures) => {
  const draw = () => figures.forEach((redraw) => redraw());
  draw();
  let [width, waiting] = [window.innerWidth, 0];
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(draw);
  });
};
