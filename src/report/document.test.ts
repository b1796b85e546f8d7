import { expect, test } from "vitest";
import type { LedgerEntry, Measurement } from "../recipe/ledger.ts";
import { ledgerLine, reportSections, skipLines } from "./document.ts";
import { ratioInWords } from "./format.ts";
import { reportMarkdown } from "./markdown.ts";
import type { ModelReport, Report } from "./report.ts";
import { renderTerminal, wrap } from "./terminal.ts";

function measured(bytes: number, accuracy: number, ms: number): Measurement {
  return {
    bytes,
    scores: [
      {
        metric: "top-1",
        value: accuracy,
        interval: [accuracy - 0.01, accuracy + 0.01],
        better: "higher",
        unit: "%",
        samples: 1000,
      },
    ],
    latency: { median: ms, quartiles: [0.9 * ms, 1.1 * ms], runs: 50, batch: 1 },
  };
}

const entry: LedgerEntry = {
  step: "quantize-static",
  options: {},
  seconds: 4.1,
  before: measured(44.7e6, 0.934, 1.2),
  after: measured(12.2e6, 0.931, 0.5),
  changes: { nodesBefore: 2, nodesAfter: 3, operators: { QuantizeLinear: 1 }, weightsChanged: 1 },
  exhibits: [],
  skips: [
    { node: "softmax", reason: "it has no integer kernel" },
    { node: "gelu", reason: "it has no integer kernel" },
    { node: "fc2", reason: "weights are shared with 'fc1'" },
  ],
  resumed: false,
};

function modelReport(name: string, measurement: Measurement): ModelReport {
  return { ...measurement, name, parameters: 11e6, macs: 1.8e9, nodes: 60, byType: { float32: 44e6 }, layers: [] };
}

const report: Report = {
  version: 1,
  tool: { name: "pare", version: "0.1.0" },
  created: "2026-01-01T00:00:00.000Z",
  title: "a_very_long_name | with a pipe",
  machine: { runtime: "onnxruntime-node 1.30.0", provider: "cpu", threads: 2, processor: "some", platform: "linux" },
  models: [modelReport("model.onnx", entry.before), modelReport("small.onnx", entry.after)],
  comparisons: [
    {
      model: 1,
      bytesRatio: 0.27,
      latencyRatio: 0.42,
      latencyInterval: [0.4, 0.5],
      scores: [
        {
          metric: "top-1",
          before: 0.934,
          after: 0.931,
          difference: -0.003,
          interval: [-0.008, 0.002],
          p: 0.25,
          better: "higher",
          unit: "%",
        },
      ],
      outputs: [],
      divergence: [],
      slower: [
        {
          node: "a/node/whose/name/is/far/too/long/for/a/column/of/any/terminal/Conv",
          op: "Conv",
          before: 0.1,
          after: 0.3,
        },
      ],
    },
  ],
  ledger: [entry],
  plans: [],
  weights: [],
};

test("a ledger line has time, bytes, score and latency", () => {
  expect(ledgerLine(entry)).toBe(
    "quantize-static  4.10 s  44.7 MB -> 12.2 MB  top-1 93.40 % -> 93.10 %  1.20 ms -> 500 µs",
  );
  expect(ledgerLine({ ...entry, resumed: true })).toContain("quantize-static  kept  ");
});

test("skips are grouped by reason", () => {
  expect(skipLines(entry)).toEqual([
    "quantize-static: 'softmax', 'gelu': it has no integer kernel",
    "quantize-static: 'fc2': weights are shared with 'fc1'",
  ]);
});

test("ratios read as words", () => {
  expect(ratioInWords(1, 4, ["smaller", "larger"])).toBe("4.00× smaller");
  expect(ratioInWords(3, 2, ["faster", "slower"])).toBe("1.50× slower");
  expect(ratioInWords(1, 1, ["faster", "slower"])).toBe("the same");
});

test("terminal text keeps within 80 columns and has no colour unless asked", () => {
  const text = renderTerminal(reportSections(report));
  expect(Math.max(...text.split("\n").map(({ length }) => length))).toBeLessThanOrEqual(80);
  expect(text).not.toContain("\u001b");
  expect(text).toContain("93.40 % [92.40, 94.40]");
  expect(text).toContain("-0.30 points [-0.80, +0.20], p = 0.25");
  expect(renderTerminal(reportSections(report), { colour: true })).toContain("\u001b[1mMeasured");
});

test("wrapped lines break at spaces and are indented", () => {
  expect(wrap("one two three four", 9)).toEqual(["one two", "  three", "  four"]);
  expect(wrap("about 71 032 samples or 308 µs", 11)).toEqual(["about", "  71 032", "  samples", "  or 308 µs"]);
});

test("markdown escapes what would be markup", () => {
  const text = reportMarkdown(report);
  expect(text).toContain("# a\\_very\\_long\\_name \\| with a pipe");
  expect(text).toMatch(/^\| {3}\| model\.onnx \| small\.onnx \|$/m);
  expect(text).toMatch(/^\| --- \| ---: \| ---: \|$/m);
});
