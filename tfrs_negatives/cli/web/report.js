// Draws what validation said of each epoch, and of each discount of popularity.

const report = JSON.parse(byId("report").textContent);
const color = (name) => `var(--${name})`;
const MODELS = { "TFRS": "plain", "TFRS, corrected": "corrected", "ours": "ours" };
const SHAPES = { plain: "square", corrected: "triangle", ours: "circle" };
const share = (value) => String(parseFloat(value.toFixed(3)));

const curves = () => {
  const { models, measure } = report.curves;
  const longest = Math.max(...Object.values(models).flat().map((curve) => curve.length), 0);
  if (!longest) return [];
  const series = Object.entries(models).flatMap(([name, bySeed]) =>
    bySeed.map((values, i) => ({
      name: bySeed.length > 1 ? `${name}, run ${i + 1}` : name,
      color: color(MODELS[name]), shape: SHAPES[MODELS[name]], values,
    })));
  // No more labels than there is room for.
  const every = Math.ceil(longest / 12);
  const categories = Array.from({ length: longest },
    (_, i) => (i % every ? "" : String(i + 1)));
  return [figure("Validation of each epoch",
    `${measure}, on rows of the training part that were put aside`,
    (width) => lineChart(width, {
      categories, series, xLabel: "epoch", yLabel: measure, yText: share,
    }),
    Object.keys(models).map((name) => [name, color(MODELS[name])]))];
};

const dial = () => {
  const { discounts, figures, plain } = report.dial;
  const categories = discounts.map((discount) => discount.toFixed(1));
  const kinds = [["recall", "circle"], ["tail", "triangle"], ["coverage", "square"]];
  const names = Object.keys(figures);
  const series = names.map((name, i) => ({
    name, color: color(kinds[i][0]), shape: kinds[i][1], values: figures[name],
  }));
  names.forEach((name, i) => {
    if (plain && plain[name] !== null)
      series.push({
        name: `TFRS, ${name}`, color: color(kinds[i][0]), shape: kinds[i][1], dash: "5 4",
        values: discounts.map(() => plain[name]),
      });
  });
  return [figure("What a discount of popularity does",
    "ours, one model, on the held-out rows" + (plain ? "; dashed: TFRS" : ""),
    (width) => lineChart(width, {
      categories, series, xLabel: "popularity discount of the query", yLabel: "share",
      yText: share,
    }),
    names.map((name, i) => [name, color(kinds[i][0])]))];
};

keepDrawn([...curves(), ...dial()]);
