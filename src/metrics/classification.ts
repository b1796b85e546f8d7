import { ignoredLabel } from "../data/dataset.ts";
import { type Judged, type Metric, type Row, ratioOf } from "./metric.ts";
import { argmax, type ClassScores, classScores, inTop, negativeLogLikelihood } from "./scores.ts";

/** Share of samples whose label is among the k classes with the highest scores. */
function topK(k: number): Metric {
  return {
    name: `top-${k}`,
    summary:
      k === 1
        ? "share of samples whose highest score is the label's"
        : `share with the label among the ${k} highest scores`,
    better: "higher",
    unit: "%",
    needs: "labels",
    proportion: true,
    rows(judged) {
      const scores = classScores(judged, `top-${k}`);
      return bySample(scores, (places) => [places.every((place) => hit(scores, place, k, judged)) ? 1 : 0]);
    },
    value: (rows) => ratioOf(rows, 0),
  };
}

function hit(scores: ClassScores, place: number, k: number, { probabilities }: Judged): boolean {
  const at = scores.at(place);
  const label = scores.labels[place]!;
  return at.length === 1 ? argmax(at, probabilities) === label : inTop(at, label, k);
}

/** One row a sample, made from its places. */
function bySample(scores: ClassScores, row: (places: number[]) => Row): Row[] {
  const { placesPerSample: width } = scores;
  return Array.from({ length: scores.places / width }, (_, i) =>
    row(Array.from({ length: width }, (_, k) => i * width + k)),
  );
}

function counted({ labels }: ClassScores, places: readonly number[]): number[] {
  return places.filter((place) => labels[place] !== ignoredLabel);
}

export const top1 = topK(1);
export const top5 = topK(5);

/** Rows [sum of the counted places' losses, their number]. */
function lossRows(judged: Judged, metric: string): Row[] {
  const scores = classScores(judged, metric, ignoredLabel);
  return bySample(scores, (all) => {
    const places = counted(scores, all);
    let sum = 0;
    for (const place of places)
      sum += negativeLogLikelihood(scores.at(place), scores.labels[place]!, judged.probabilities);
    return [sum, places.length];
  });
}

/** Mean of -ln p(label), in nats. */
export const crossEntropy: Metric = {
  name: "cross-entropy",
  summary: "mean of -ln p(label), in nats",
  better: "lower",
  unit: "nats",
  needs: "labels",
  rows: (judged) => lossRows(judged, "cross-entropy"),
  value: (rows) => ratioOf(rows, 0, 1),
};

/** exp of the mean of -ln p(next token) over all tokens; windows are independent, so the first tokens see little. */
export const perplexity: Metric = {
  name: "perplexity",
  summary: "exp of the mean of -ln p(next token)",
  better: "lower",
  needs: "labels",
  rows: (judged) => lossRows(judged, "perplexity"),
  value: (rows) => Math.exp(ratioOf(rows, 0, 1)),
};

/** Share of tokens (or of labelled places) whose highest score is the label's. */
export const tokenAccuracy: Metric = {
  name: "token-accuracy",
  summary: "share of tokens whose highest score is the right one's",
  better: "higher",
  unit: "%",
  needs: "labels",
  proportion: true,
  rows(judged) {
    const scores = classScores(judged, "token-accuracy", ignoredLabel);
    return bySample(scores, (all) => {
      const places = counted(scores, all);
      const right = places.filter((place) => argmax(scores.at(place), judged.probabilities) === scores.labels[place]);
      return [right.length, places.length];
    });
  },
  value: (rows) => ratioOf(rows, 0, 1),
};

/**
 * F1 = 2 TP / (2 TP + FP + FN). "macro": mean over the classes that occur as a label or prediction; "micro": over the
 * pooled counts (equal to accuracy with one label a sample); "binary": of class 1.
 */
function f1(average: "macro" | "micro" | "binary"): Metric {
  const name = average === "macro" ? "f1" : `f1-${average}`;
  return {
    name,
    summary: `F1 score, ${{ macro: "mean over classes", micro: "over pooled counts", binary: "of class 1" }[average]}`,
    better: "higher",
    unit: "%",
    needs: "labels",
    // rows [label, prediction] of each place, in pairs
    rows(judged) {
      const scores = classScores(judged, name);
      return bySample(scores, (places) =>
        places.flatMap((place) => [scores.labels[place]!, argmax(scores.at(place), judged.probabilities)]),
      );
    },
    value: (rows) => f1Of(rows, average),
  };
}

function f1Of(rows: readonly Row[], average: "macro" | "micro" | "binary"): number {
  const counts = new Map<number, { hits: number; labels: number; predictions: number }>();
  const of = (key: number) => counts.get(key) ?? counts.set(key, { hits: 0, labels: 0, predictions: 0 }).get(key)!;
  for (const row of rows) {
    for (let i = 0; i < row.length; i += 2) {
      of(row[i]!).labels++;
      of(row[i + 1]!).predictions++;
      if (row[i] === row[i + 1]) of(row[i]!).hits++;
    }
  }
  // a prediction that is not a number counts as the class -1, which no label has
  const score = (c: { hits: number; labels: number; predictions: number }): number =>
    c.labels + c.predictions === 0 ? 0 : (2 * c.hits) / (c.labels + c.predictions);
  if (average === "binary") return score(of(1));
  const classes = [...counts].filter(([key]) => key >= 0).map(([, count]) => count);
  if (average === "macro") return classes.reduce((sum, c) => sum + score(c), 0) / classes.length;
  const pooled = { hits: 0, labels: 0, predictions: 0 };
  for (const c of counts.values()) for (const key of ["hits", "labels", "predictions"] as const) pooled[key] += c[key];
  return score(pooled);
}

export const f1Macro = f1("macro");
export const f1Micro = f1("micro");
export const f1Binary = f1("binary");
