import { describe, expect, test } from "vitest";
import type { ComparisonReport, ModelReport, ScoreDifference, VerdictReport } from "../report.ts";
import { number } from "./parts.ts";
import {
  askedSentence,
  budgetSentence,
  comparisonSentence,
  differenceInterval,
  differenceWords,
  intervalText,
  speedChange,
  speedInterval,
} from "./words.ts";

const verdict: VerdictReport = {
  target: "latency",
  maxDrop: 0.01,
  metric: "top-1",
  drop: 0.004,
  dropInterval: [-0.001, 0.009],
  samples: { calibration: 100, selection: 1000, confirmation: 5000 },
  met: true,
  findings: [],
};

function plain(text: string | undefined): string {
  return (text ?? "").replaceAll("\u202f", " ").replaceAll("\u2212", "-");
}

describe("the budget", () => {
  test("is stated in the metric's unit", () => {
    expect(plain(askedSentence(verdict, "%"))).toBe("Asked: the fastest model that loses at most 1 point of top-1.");
    expect(plain(askedSentence({ ...verdict, maxDrop: 0.02 }, undefined))).toContain("at most 2 % of top-1");
  });

  test.each([
    [0.004, [-0.001, 0.009], "Lost 0.4 points", "-0.1 to 0.9 points, all of it inside the budget"],
    [0.004, [-0.001, 0.012], "Lost 0.4 points", "which reaches beyond the budget"],
    [0.02, [0.015, 0.025], "Lost 2 points", "all of it beyond the budget"],
    [0.02, [0.005, 0.025], "Lost 2 points", "which reaches into the budget"],
    [-0.003, [-0.01, 0.004], "Gained 0.3 points", "all of it inside the budget"],
  ] as const)("drop %f in %j", (drop, dropInterval, start, end) => {
    const sentence = plain(budgetSentence({ ...verdict, drop, dropInterval }, "%"));
    expect(sentence).toContain(`${start} of top-1 on 5 000 samples`);
    expect(sentence).toContain(end);
  });

  test("says nothing of a drop that was not measured", () => {
    const { drop: _, dropInterval: __, ...unmeasured } = verdict;
    expect(budgetSentence(unmeasured, "%")).toBeUndefined();
  });
});

test("a difference is called one only where its interval excludes none", () => {
  const base: ScoreDifference = {
    metric: "top-1",
    before: 0.9,
    after: 0.89,
    difference: -0.01,
    better: "higher",
    unit: "%",
  };
  expect(plain(differenceWords({ ...base, interval: [-0.02, 0.001] }))).toBe(
    "top-1 fell by 1.00 points, no more than chance explains",
  );
  expect(plain(differenceWords({ ...base, interval: [-0.02, -0.001] }))).toBe("top-1 fell by 1.00 points");
  const perplexity = { ...base, metric: "perplexity", better: "lower" as const, difference: -0.5, unit: "" };
  expect(plain(differenceWords(perplexity))).toBe("perplexity fell by 0.500, a gain");
  expect(differenceWords({ ...base, difference: 0 })).toBe("top-1 is unchanged");
});

test("a speed is called one only where its interval excludes 1", () => {
  const base: ComparisonReport = { model: 1, bytesRatio: 1, scores: [], outputs: [], divergence: [], slower: [] };
  expect(speedChange(base)).toBeUndefined();
  expect(speedChange({ ...base, latencyRatio: 0.97, latencyInterval: [0.9, 1.02] })).toBe(
    "not measurably faster or slower",
  );
  expect(speedChange({ ...base, latencyRatio: 0.5, latencyInterval: [0.48, 0.52] })).toBe("2.00× faster");
  expect(speedChange({ ...base, latencyRatio: 1.3, latencyInterval: [1.2, 1.4] })).toBe("1.30× slower");
});

test("the interval of a speed surrounds the factor that its words state", () => {
  expect(speedInterval({ latencyRatio: 0.5, latencyInterval: [0.4, 0.8] })).toBe("1.25 to 2.50");
  expect(speedInterval({ latencyRatio: 1.02, latencyInterval: [1.01, 1.05] })).toBe("1.01 to 1.05");
  expect(speedInterval({ latencyRatio: 1.02, latencyInterval: [0.8, 1.25] })).toBe("0.800 to 1.25 times the speed");
  expect(speedInterval({ latencyRatio: 1.02 })).toBeUndefined();
});

test("intervals share a unit; numbers keep theirs on the same line", () => {
  expect(intervalText([0.905, 0.925], "%")).toBe("90.50 to 92.50\u202f%");
  expect(differenceInterval([-0.01, 0.002], "%")).toBe("\u22121.00 to +0.20");
  expect(number("5 000 samples of 12 MB, -3 points, top-5, 2-1")).toBe(
    "5\u202f000 samples of 12\u202fMB, \u22123\u202fpoints, top-5, 2-1",
  );
});

test("a file of the same size may be smaller once it is compressed", () => {
  const model = (gzip: number): ModelReport => ({
    name: `gzip ${gzip}`,
    bytes: 1000,
    gzip,
    scores: [],
    parameters: 250,
    macs: 250,
    nodes: 1,
    byType: {},
    layers: [],
  });
  const comparison: ComparisonReport = { model: 1, bytesRatio: 1, scores: [], outputs: [], divergence: [], slower: [] };
  const sentence = (gzip: number): string => comparisonSentence({ models: [model(900), model(gzip)] }, comparison);
  expect(sentence(300)).toBe("gzip 300 against gzip 900: the same size, but 3.00× smaller with gzip.");
  expect(sentence(899)).toBe("gzip 899 against gzip 900: the same size.");
});
