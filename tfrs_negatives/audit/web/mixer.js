// What a mixture of negatives does: the arithmetic of the Python function `mixture`.

const SOURCES = ["in_batch", "uniform", "hard"];
const SOURCE_NAMES = { in_batch: "In-batch", uniform: "Uniform", hard: "Hard" };

const logWeightsOf = (measured) =>
  measured.log_mean_weight.map((v) => (v === null ? -Infinity : v));

const logAddExp = (a, b) => {
  const most = Math.max(a, b);
  return most === -Infinity ? most : most + Math.log1p(Math.exp(Math.min(a, b) - most));
};

const sourcesOf = (report, setting, state) => {
  const { table, model } = report;
  const which = state.level === "known_positives" ? "unknown" : "all";
  const inBatch = {
    falseRate: setting.levels[state.level].false_negative_rate.value,
    tail: table.popularity.tail_row_share,
  };
  const uniform = {
    falseRate: table.uniform_false_negative_rate[which],
    tail: table.popularity.tail_item_share,
  };
  const hard = { falseRate: null, tail: null };
  if (model) {
    const probed = model.in_batch[state.order][state.size][state.level];
    inBatch.columns = probed.columns;
    inBatch.logWeight = logWeightsOf(probed);
    uniform.logWeight = logWeightsOf(model.uniform[which]);
    if (which === "unknown") {
      inBatch.falseRate = probed.false_negative_rate;
      uniform.falseRate = model.uniform[which].false_negative_rate;
    }
    const edges = model.hard.edges;
    const [first, end] = [edges.indexOf(state.skip), edges.indexOf(state.last)];
    const total = state.last - state.skip;
    hard.falseRate = hard.tail = 0;
    hard.logWeight = new Array(model.probes).fill(-Infinity);
    for (let i = first; i < end; i++) {
      const band = model.hard[which][i];
      const share = (edges[i + 1] - edges[i]) / total;
      hard.falseRate += share * band.false_negative_rate;
      hard.tail += share * band.tail_share;
      logWeightsOf(band).forEach((log, row) => {
        hard.logWeight[row] = logAddExp(hard.logWeight[row], Math.log(share) + log);
      });
    }
  }
  return { in_batch: inBatch, uniform, hard };
};

// The mean over a row's negatives; null where one that is needed was not measured.
const meanOver = (counts, sources, name) => {
  let [sum, total] = [0, 0];
  for (const source of SOURCES) {
    if (!counts[source]) continue;
    if (sources[source][name] === null) return null;
    sum += counts[source] * sources[source][name];
    total += counts[source];
  }
  return total ? sum / total : null;
};

// state: {order, size, level, shares: {in_batch, uniform, hard}, skip, last}.
const mix = (report, state) => {
  const total = state.shares.in_batch + state.shares.uniform + state.shares.hard;
  if (!total) return null;
  const share = Object.fromEntries(SOURCES.map((s) => [s, state.shares[s] / total]));
  const setting = report.settings.find(
    (s) => s.order === state.order && s.batch_size === state.size);
  const columns = state.size - 1;
  const counts = {
    in_batch: share.in_batch * setting.levels[state.level].columns_left.value,
    uniform: share.uniform * columns,
    hard: share.hard * columns,
  };
  const sources = sourcesOf(report, setting, state);
  const found = {
    share, counts, sources, asked: columns,
    falseRate: meanOver(counts, sources, "falseRate"),
    tail: meanOver(counts, sources, "tail"),
    gradient: null, probability: null,
  };
  if (!report.model) return found;
  const sums = { in_batch: 0, uniform: 0, hard: 0 };
  for (let row = 0; row < report.model.probes; row++) {
    const logs = [
      Math.log(share.in_batch * sources.in_batch.columns[row]),
      Math.log(share.uniform * columns), Math.log(share.hard * columns),
    ].map((log, i) => log + sources[SOURCES[i]].logWeight[row]);
    // The largest term is 1: of scores over a low temperature exp would be infinite.
    const largest = Math.max(0, ...logs);
    const mass = logs.map((log) => Math.exp(log - largest));
    const all = Math.exp(-largest) + mass[0] + mass[1] + mass[2];
    SOURCES.forEach((s, i) => { sums[s] += mass[i] / all / report.model.probes; });
  }
  found.probability = sums.in_batch + sums.uniform + sums.hard;
  if (found.probability)
    found.gradient = Object.fromEntries(
      SOURCES.map((s) => [s, sums[s] / found.probability]));
  return found;
};

const oneIn = (share) =>
  share > 0.5 ? "More than half of the negatives are"
    : `One in ${Math.round(1 / share)} negatives is`;

const falseSentence = (found, state, report) => {
  const rate = found.falseRate;
  const hidden = report.model && state.level === "known_positives";
  const what = hidden ? "an item the user takes later" : "an item the user is known to like";
  if (rate === null) {
    return "How many of the hard negatives are positives needs a model " +
      "(--model); the other sources’ rates are below.";
  }
  if (!rate) {
    return report.model ? "None of the negatives measured is a positive."
      : "No negative is a known positive: these masks drop all that the table tells of.";
  }
  const worst = SOURCES.filter((s) => found.counts[s] > 0).sort((a, b) =>
    found.counts[b] * found.sources[b].falseRate -
    found.counts[a] * found.sources[a].falseRate)[0];
  let text = `${oneIn(rate)} ${what} (${percentText(rate)}), most of them from the ` +
    `${SOURCE_NAMES[worst].toLowerCase()} part.`;
  if (rate >= report.thresholds.false_negative_rate) {
    if (worst === "hard") text += " Skip more of the best ranks.";
    else if (state.level === "none" || state.level === "accidental_hits")
      text += " Mask by keys: pass query_keys.";
    else if (state.level === "keys") text += " Mask the user’s history: known_positive_ids.";
  }
  return text;
};

const gradientSentence = (found, report) => {
  if (!report.model)
    return "Which source the gradient comes from depends on scores: it needs a model.";
  const limits = report.thresholds;
  const { gradient, probability, share, sources } = found;
  if (!gradient) return "There is no gradient: no negatives are left.";
  const top = [...SOURCES].sort((a, b) => gradient[b] - gradient[a])[0];
  let text = `${SOURCE_NAMES[top]} negatives are ${percentText(share[top])} of the ` +
    `negatives and carry ${percentText(gradient[top])} of the gradient.`;
  if (share.hard > 0 && sources.hard.falseRate >= limits.hard_false_negative_rate)
    text += ` But ${percentText(sources.hard.falseRate)} of the hard ones are positives: ` +
      "they teach the model to push away what users want.";
  if (share.uniform > 0 && gradient.uniform < limits.uniform_gradient_share)
    text += ` Uniform ones carry ${percentText(gradient.uniform)}: this model tells them ` +
      "with ease, they only guard the rest of the catalogue.";
  if (probability < limits.negatives_probability)
    text += ` All negatives together have a probability of ${percentText(probability)}: ` +
      "little is left to learn from this mixture.";
  return text;
};

const exposureSentence = (found, report) => {
  const items = report.table.popularity.tail_item_share;
  if (found.tail === null || !items) return "";
  const text = `Tail items are ${percentText(found.tail)} of the negatives and ` +
    `${percentText(items)} of the catalogue.`;
  return found.tail / items <= report.thresholds.tail_rows_over_items
    ? `${text} Raise the uniform share to show more of them.` : text;
};

const verdictOf = (found, report) => {
  const limits = report.thresholds;
  const { gradient, sources, share } = found;
  const hardWrong = sources.hard.falseRate >= limits.hard_false_negative_rate;
  if (gradient && share.hard > 0 && hardWrong && gradient.hard >= 0.5)
    return "Hard negatives dominate, and too many are positives";
  if (found.falseRate !== null && found.falseRate >= limits.false_negative_rate)
    return "Too many false negatives";
  if (found.falseRate === null) return "Half of the picture: no model was given";
  if (found.probability !== null && found.probability < limits.negatives_probability)
    return "Clean, but too easy";
  const items = report.table.popularity.tail_item_share;
  if (items && found.tail / items <= limits.tail_rows_over_items)
    return "Clean, but blind to the tail";
  return "A sound mixture";
};

const diagnose = (found, state, report) => found === null
  ? ["No negatives", "Give at least one source a share above 0."]
  : [verdictOf(found, report), [
    falseSentence(found, state, report),
    gradientSentence(found, report),
    exposureSentence(found, report),
  ].filter(Boolean).join(" ")];
