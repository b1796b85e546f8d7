import type { Metric, Row } from "./metric.ts";
import { argmax, classScores } from "./scores.ts";

/** Pixels with this label are left out, by the custom of Pascal VOC and Cityscapes. */
export const ignoredLabel = 255;

/**
 * Mean intersection over union: per class, pixels of label and prediction alike over pixels of either, counted over
 * all samples; then the mean over the classes that occur. Labels `[n, H, W]`; 255 is ignored.
 */
export const meanIou: Metric = {
  name: "miou",
  summary: "mean over classes of intersection over union of pixels, label 255 ignored",
  better: "higher",
  unit: "%",
  needs: "labels",
  // rows: triples [class, intersection, union]
  rows(judged) {
    const scores = classScores(judged, "miou", ignoredLabel);
    const width = scores.placesPerSample;
    return Array.from({ length: scores.places / width }, (_, i) => {
      const both = new Map<number, number>();
      const either = new Map<number, number>();
      const add = (counts: Map<number, number>, key: number): void => void counts.set(key, (counts.get(key) ?? 0) + 1);
      for (let place = i * width; place < (i + 1) * width; place++) {
        const label = scores.labels[place]!;
        if (label === ignoredLabel) continue;
        const prediction = argmax(scores.at(place), judged.probabilities);
        add(either, label);
        if (prediction === label) add(both, label);
        else if (prediction >= 0) add(either, prediction);
      }
      return [...either].flatMap(([key, union]) => [key, both.get(key) ?? 0, union]);
    });
  },
  value(rows) {
    const classes = new Map<number, { both: number; either: number }>();
    for (const row of rows) addRow(classes, row);
    let sum = 0;
    for (const { both, either } of classes.values()) sum += both / either;
    return sum / classes.size;
  },
};

function addRow(classes: Map<number, { both: number; either: number }>, row: Row): void {
  for (let i = 0; i < row.length; i += 3) {
    const known = classes.get(row[i]!) ?? { both: 0, either: 0 };
    classes.set(row[i]!, { both: known.both + row[i + 1]!, either: known.either + row[i + 2]! });
  }
}
