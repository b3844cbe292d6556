// Follows the controls, and writes what is said in words.

const fillHeader = () => {
  const { table } = report;
  const skew = table.popularity;
  byId("lead").textContent =
    `${countText(table.rows_read)} rows were read, ${countText(table.rows_used)} used` +
    (table.rows_dropped_by_label
      ? `, ${countText(table.rows_dropped_by_label)} dropped because their label is not above 0`
      : "") + `. A request is ${table.request_rule}.`;
  const size = sizes[Math.floor(sizes.length / 2)];
  const order = orders.includes("request_sorted") ? "request_sorted" : orders[0];
  const levels = settingOf(order, size).levels;
  const facts = [
    ["Users", countText(table.users), `in ${countText(table.requests)} requests`],
    ["Items", countText(table.items), `${countText(table.distinct_pairs)} distinct pairs`],
    ["Popularity", `Gini ${skew.gini.toFixed(2)}`,
      `top 1% of items: ${percentText(skew.top_1_percent_share)} of rows`],
    ["False negatives", percentText(levels.none.false_negative_rate.value),
      `${ORDER_NAMES[order]}, ${countText(size)} rows, no masks`],
    ["After key masks", percentText(levels.keys.false_negative_rate.value),
      "same user, request or item dropped"],
  ];
  for (const [name, value, small] of facts) {
    const node = make("div");
    const number = make("dd", {}, value);
    number.append(make("small", {}, small));
    node.append(make("dt", {}, name), number);
    byId("facts").append(node);
  }
};

const fillAdvice = () => {
  for (const { setting, reason, measured, threshold, compared_with } of
    report.recommendations) {
    const node = make("li");
    const number = measured === null ? "not finite" : Number(measured.toPrecision(3));
    node.append(make("code", {}, setting), make("p", {}, reason), make("small", {},
      `measured ${number}, threshold ${compared_with} (${threshold.replaceAll("_", " ")})`));
    byId("advice").append(node);
  }
  if (!report.recommendations.length)
    byId("advice").append(make("li", {},
      "Nothing: every number is on the good side of its threshold."));
};

const fillControls = () => {
  const options = (id, pairs, chosen) => {
    for (const [value, text] of pairs) {
      const option = make("option", { value }, text);
      option.selected = value === chosen;
      byId(id).append(option);
    }
  };
  options("order", orders.map((o) => [o, ORDER_NAMES[o]]),
    orders.includes("request_sorted") ? "request_sorted" : orders[0]);
  options("size", sizes.map((s) => [s, countText(s)]), sizes[Math.floor(sizes.length / 2)]);
  options("level", Object.entries(LEVEL_NAMES), "keys");
  const { model } = report;
  byId("ranks").disabled = !model;
  byId("ranks").hidden = !model;
  if (model) {
    const end = model.hard.edges.length - 1;
    Object.assign(byId("skip"), { max: end - 1, value: 0 });
    Object.assign(byId("last"), { max: end, value: Math.min(5, end) });
    byId("mixer-basis").textContent =
      ` and on the model’s scores for ${countText(model.probes)} rows; the sliders of ` +
      "ranks stop where bands of them were measured";
  }
};

const readState = (moved) => {
  const edges = report.model ? report.model.hard.edges : [0, 1];
  let [skip, last] = [Number(byId("skip").value), Number(byId("last").value)];
  if (report.model && skip >= last) {
    if (moved === "last") byId("skip").value = skip = last - 1;
    else byId("last").value = last = skip + 1;
  }
  return {
    order: byId("order").value, size: Number(byId("size").value),
    level: byId("level").value, skip: edges[skip], last: edges[last],
    shares: Object.fromEntries(SOURCES.map((s) => [s, Number(byId(s).value)])),
  };
};

const update = (moved) => {
  const state = readState(moved);
  const found = mix(report, state);
  for (const source of SOURCES) {
    const share = found ? found.share[source] : 0;
    const negatives = found ? share * found.asked : 0;
    const text = `${percentText(share)} · ${countText(negatives)} a row`;
    byId(`${source}-value`).textContent = text;
    byId(source).setAttribute("aria-valuetext", text);
  }
  for (const [id, text] of [
    ["skip", state.skip ? `${countText(state.skip)} items` : "none"],
    ["last", countText(state.last)],
  ]) {
    byId(`${id}-value`).textContent = text;
    byId(id).setAttribute("aria-valuetext", text);
  }
  const [verdict, text] = diagnose(found, state, report);
  byId("verdict").textContent = verdict;
  byId("diagnosis").textContent = text;
  showNumbers(found, state);
};

const showNumbers = (found, state) => {
  const used = found ? SOURCES.filter((s) => found.share[s] > 0) : [];
  byId("false-rate").textContent = found ? percentText(found.falseRate) : "–";
  byId("false-unit").textContent = report.model && state.level === "known_positives"
    ? "of the negatives are positives the user takes later"
    : "of the negatives are the user’s own positives";
  byId("false-parts").textContent = used.map((s) => {
    const rate = found.sources[s].falseRate;
    return `${SOURCE_NAMES[s]} ${rate === null ? "needs a model" : percentText(rate)}`;
  }).join(" · ");
  drawBar(byId("negatives-bar"), used.map((s) => ({
    name: SOURCE_NAMES[s], value: found.counts[s], color: color(s),
    text: countText(found.counts[s]),
  })));
  const gradient = found && found.gradient;
  drawBar(byId("gradient-bar"), gradient ? used.map((s) => ({
    name: SOURCE_NAMES[s], value: gradient[s], color: color(s),
    text: percentText(gradient[s]),
  })) : []);
  byId("gradient-bar").hidden = !gradient;
  byId("gradient-note").textContent = gradient
    ? `All negatives together have a probability of ${percentText(found.probability)}, ` +
      `at temperature ${report.model.temperature}, without log-Q correction.`
    : report.model ? "" : "This part needs a model: run the audit with --model. The " +
      "counts above are all that the table tells.";
  const tail = found && found.tail;
  drawBar(byId("exposure-bar"), tail === null ? [] : [
    { name: "Head", value: 1 - tail, color: color("head"), text: percentText(1 - tail) },
    { name: "Tail", value: tail, color: color("tail"), text: percentText(tail) },
  ]);
  byId("exposure-bar").hidden = tail === null;
  const { tail_item_share: items } = report.table.popularity;
  byId("exposure-note").textContent = tail === null
    ? "Which items are mined needs a model."
    : `Of the catalogue, ${percentText(1 - items)} are head and ${percentText(items)} tail items.`;
};

const fillNotes = () => {
  const { model, options, table } = report;
  const notes = [
    ["False negative", "a pair of a row and another row’s column whose item is, anywhere " +
      "in the table, a positive of the row’s user. Rows of the same item and user count."],
    ["Orders", "shuffled: at random. Request-sorted: whole requests one after the other, in " +
      `random order. Spread: what data.spread_requests makes of that, with a buffer of ` +
      `${options.spread_buffer} batches.`],
    ["Tail", `the ${percentText(table.popularity.tail_item_share)} of items with the fewest ` +
      "rows. Seen: a negative of at least one row of an epoch, after all masks."],
    ["Sampling", `at most ${options.max_batches} batches of an epoch are looked at; seed ` +
      `${options.seed}.`],
  ];
  if (model)
    notes.push(["Scores", `of ${countText(model.items_with_scores)} items for ` +
      `${countText(model.probes)} rows, none among its user’s last 20%, which stand for ` +
      "positives that are not recorded yet. A source’s columns enter the softmax with their " +
      "mean weight, row by row."]);
  for (const [name, text] of notes) {
    const node = make("p");
    node.append(make("b", {}, `${name}: `), text);
    byId("notes").append(node);
  }
  byId("notes").append(make("p", {}, `Written by tfrs_negatives ${report.version}, report ` +
    `schema ${report.schema_version}.`));
};

fillHeader();
fillAdvice();
fillControls();
fillPlots();
fillTable();
fillNotes();
byId("controls").addEventListener("input", (event) => update(event.target.id));
byId("controls").addEventListener("submit", (event) => event.preventDefault());
update();
