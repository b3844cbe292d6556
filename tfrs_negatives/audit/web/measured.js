// What was measured, as plots and a table.

const report = JSON.parse(document.getElementById("report").textContent);
const color = (name) => `var(--${name})`;
const ORDER_NAMES = {
  shuffled: "shuffled", request_sorted: "request-sorted", spread: "spread",
};
const SHAPES = { shuffled: "circle", request_sorted: "square", spread: "triangle" };
const LEVEL_NAMES = {
  none: "none", accidental_hits: "accidental hits",
  keys: "hits and keys (user, request)", known_positives: "hits, keys, known positives",
};
const { orders, batch_sizes: sizes } = report.options;
const settingOf = (order, size) =>
  report.settings.find((s) => s.order === order && s.batch_size === size);

const seriesOf = (value, extra = {}, error = () => null) => orders.map((order) => ({
  name: ORDER_NAMES[order], color: color(order), shape: SHAPES[order],
  values: sizes.map((size) => value(settingOf(order, size))),
  errors: sizes.map((size) => error(settingOf(order, size))), ...extra,
}));

const fillPlots = () => {
  for (const order of orders)
    byId("legend").append(make("b", { style: `--c:${color(order)}` }, ORDER_NAMES[order]));
  const categories = sizes.map((s) => countText(s));
  const xLabel = "rows in a batch";
  const rate = (level) => (s) => s.levels[level].false_negative_rate.value;
  const error = (level) => (s) => s.levels[level].false_negative_rate.standard_error;
  const distinct = (what, extra = {}) => seriesOf(
    (s) => s[`distinct_${what}`].value / s.batch_size, extra,
    (s) => s[`distinct_${what}`].standard_error / s.batch_size);
  const lines = (series, yLabel, yText) => (width) =>
    lineChart(width, { categories, series, xLabel, yLabel, yText });
  const figures = [
    figure("False negatives in a batch",
      "solid: no masks; dashed: after masks of hits and keys; bars: two standard errors",
      lines([...seriesOf(rate("none"), {}, error("none")),
        ...seriesOf(rate("keys"), { dash: "5 4" }, error("keys"))],
      "share of pairs", percentText)),
    figure("Columns left of a row", "after all masks, known positives too; dashed: " +
      "what one row in twenty has at most",
    lines([...seriesOf((s) => s.levels.known_positives.columns_left.value / (s.batch_size - 1)),
      ...seriesOf((s) => s.levels.known_positives.columns_left.p5 / (s.batch_size - 1),
        { dash: "5 4" })],
    "share of the other rows", percentText)),
    figure("Distinct users and items in a batch", "as a share of its rows: what towers have to " +
      "run for; solid: users; dashed: items; bars: two standard errors",
    lines([...distinct("users"), ...distinct("items", { dash: "5 4" })],
      "share of rows", percentText)),
    figure("Popularity", "share of rows of the least popular items",
      (width) => curveChart(width, {
        xs: report.table.popularity.curve.items, ys: report.table.popularity.curve.rows,
        xLabel: "share of items, least popular first", yLabel: "share of rows",
        color: color("accent"),
      })),
  ];
  if (report.model) {
    const { edges, all, unknown } = report.model.hard;
    const bands = edges.slice(1).map((end, i) => `${countText(edges[i] + 1)}–${countText(end)}`);
    const rates = (list) => list.map((band) => band.false_negative_rate);
    figures.push(figure("False negatives among mined items",
      "solid: known positives left out, items the user takes later; dashed: all positives",
      (width) => lineChart(width, {
        // Both ends of each band, where there is room for them.
        ...(width / bands.length > 80 ? { categories: bands, xLabel: "ranks" }
          : { categories: edges.slice(1).map((n) => countText(n)), xLabel: "ranks up to" }),
        yLabel: "share of mined items",
        yText: percentText, series: [
          { name: "later positives", color: color("hard"), shape: "circle", values: rates(unknown) },
          { name: "all positives", color: color("hard"), shape: "square", dash: "5 4", values: rates(all) },
        ],
      })));
  }
  keepDrawn(figures);
};

const fillTable = () => {
  const rate = (s, level) => {
    const { value, standard_error: error } = s.levels[level].false_negative_rate;
    if (value === null) return "–";
    return `${(100 * value).toFixed(2)}%` + (error ? ` ± ${(100 * error).toFixed(2)}` : "");
  };
  const left = (s, name) => {
    const value = s.levels.known_positives.columns_left[name];
    return value === null ? "–" : countText(Math.round(value));
  };
  const columns = [
    ["Order", (s) => ORDER_NAMES[s.order]],
    ["Rows in a batch", (s) => countText(s.batch_size)],
    ["Distinct users", (s) => countText(Math.round(s.distinct_users.value))],
    ["Distinct requests", (s) => countText(Math.round(s.distinct_requests.value))],
    ["Distinct items", (s) => countText(Math.round(s.distinct_items.value))],
    ["FN, no masks", (s) => rate(s, "none")],
    ["FN, hits", (s) => rate(s, "accidental_hits")],
    ["FN, hits and keys", (s) => rate(s, "keys")],
    ["Columns left, mean", (s) => left(s, "value")],
    ["5th percentile", (s) => left(s, "p5")],
    ["Tail items seen", (s) => percentText(s.tail_items_seen)],
    ["Batches measured", (s) => `${countText(s.batches_measured)} of ${countText(s.batches)}`],
  ];
  const head = make("tr");
  columns.forEach(([name]) => head.append(make("th", { scope: "col" }, name)));
  const top = make("thead");
  top.append(head);
  const body = make("tbody");
  report.settings.forEach((setting, i) => {
    const previous = report.settings[i - 1];
    const first = previous && previous.order !== setting.order;
    const row = make("tr", first ? { class: "first" } : {});
    columns.forEach(([, text], n) =>
      row.append(make(n ? "td" : "th", n ? {} : { scope: "row" }, text(setting))));
    body.append(row);
  });
  byId("table").append(top, body);
};
