import type { LedgerEntry, Measurement, Score } from "../recipe/ledger.ts";
import type { Exhibit } from "../techniques/exhibit.ts";
import type { LayerReport, ModelReport, Report } from "./report.ts";

const hostile = `</style><script>alert("x")</script><img src=x onerror='y'>&amp;\u202e\u0000 "q" 'r' ]]> ${"long/".repeat(30)}end`;

function score(value: number): Score {
  return { metric: "top-1", value, interval: [value - 0.01, value + 0.01], better: "higher", unit: "%", samples: 1000 };
}

function measured(bytes: number, accuracy: number, ms: number): Measurement {
  const latency = { median: ms, quartiles: [ms * 0.98, ms * 1.03] as const, runs: 50, batch: 1 };
  return { bytes, scores: [score(accuracy)], latency };
}

function layer(name: string, bytes: number, ms: number): LayerReport {
  return { name, op: "Conv", parameters: bytes / 4, bytes, byType: { float32: bytes }, macs: bytes * 100, ms };
}

/** A model of forty layers. */
export function model(name: string, scale: number, accuracy: number): ModelReport {
  const layers = Array.from({ length: 40 }, (_, i) =>
    layer(i === 3 ? hostile : `block${i}/conv`, 4000 * scale * (i + 1), i / 9),
  );
  return {
    ...measured(1e6 * scale, accuracy, 4 * scale),
    name,
    gzip: 9e5 * scale,
    brotli: 8e5 * scale,
    parameters: 250_000,
    macs: 4e7,
    nodes: 80,
    byType: { float32: 5e5 * scale, int8: 4e5 * scale, int32: 2e4, custom: 100 },
    peakMemory: 7e7,
    energy: 2e-4 * scale,
    times: Array.from({ length: 50 }, (_, i) => 4 * scale * (1 + ((i * 7) % 13) / 100)),
    layers,
  };
}

const [before, after] = [measured(1e6, 0.92, 4), measured(2.5e5, 0.91, 1)];

const exhibits: readonly Exhibit[] = [
  { kind: "note", text: hostile },
  { kind: "sparsity", layers: layerNames(40).map((name, i) => ({ name, elements: 10 * i, zeros: 7 * i })) },
  {
    kind: "groups",
    groups: [
      ...layerNames(40).map((name, i) => ({ name, members: [name, "x"], before: 8 + i, after: 8 })),
      { name: hostile, members: [hostile], before: 3, after: 3, frozen: hostile },
    ],
  },
  {
    kind: "sensitivity",
    amount: { name: "sparsity", unit: "%" },
    damage: { name: hostile },
    layers: layerNames(40).map((name, i) => ({
      name,
      curve: [
        [0.5, i / 100],
        [0.9, i === 7 ? Number.MAX_VALUE : i / 10],
      ],
      proposed: 0.6,
    })),
  },
  {
    kind: "formats",
    damage: { name: hostile },
    layers: layerNames(60).map((name, i) => ({
      name,
      elements: 100 * i,
      chosen: i % 2 === 0 ? "int8" : "float",
      options: [
        { format: "float", bits: 32, damage: 0 },
        ...(i === 3 ? [] : [{ format: "int8", bits: 8, damage: i / 100 }]),
      ],
    })),
  },
  {
    kind: "ranges",
    values: [hostile, "block0/conv"].map((name, i) => ({
      name,
      bits: 8,
      range: [-0.5, 1.5 * i],
      histogram: { min: -1, max: 2, counts: [0, 4, 90, 5, 1] },
      clipped: 0.01,
      signalToNoise: 12 + i,
    })),
    quantized: 30,
  },
  {
    kind: "progress",
    amount: { name: "sparsity", unit: "%" },
    quality: { name: "top-1", unit: "%", better: "higher" },
    rounds: [
      { amount: 0, quality: 0.92 },
      { amount: 0.5, quality: 0.91, cut: 0.1, kept: true },
    ],
    limit: 0.9,
  },
  {
    kind: "grids",
    layers: layerNames(40).map((name, i) => ({
      name,
      elements: 10 * i,
      width: "4 bits",
      packed: 5 * i,
      stored: 10 * i,
    })),
    ranges: layerNames(40).map((name, i) => ({
      name,
      of: i % 2 === 0 ? "weights" : "activations",
      bits: 4,
      before: [-1, 1],
      after: [-1, i / 10],
    })),
  },
  {
    kind: "training",
    name: hostile,
    curve: [1, 2, 3].map((step) => ({
      kind: "steps",
      step,
      epoch: 1,
      loss: 1 / step,
      rate: 0.1,
      samplesPerSecond: 10,
      summaries: { sparsity: step / 4, [`sparsity/${hostile}`]: step / 5, "norm/w": step },
    })),
    epochs: [{ kind: "epoch", step: 3, epoch: 1, loss: 1, rate: 0.1, samplesPerSecond: 10, seconds: 1 }],
    best: { epoch: 1 },
  },
];

function layerNames(count: number): string[] {
  return Array.from({ length: count }, (_, i) => (i === 5 ? hostile : `block${i}/conv`));
}

const step: LedgerEntry = {
  step: "quantize-static",
  options: { perChannel: true, note: hostile },
  seconds: 3.2,
  before,
  after,
  changes: { nodesBefore: 80, nodesAfter: 120, operators: { QuantizeLinear: 20, Relu: -5 }, weightsChanged: 40 },
  exhibits,
  skips: [
    ...Array.from({ length: 9 }, (_, i) => ({ node: `n${i}`, reason: "shared" })),
    { node: hostile, reason: hostile },
  ],
  resumed: true,
};

/** A report with everything in it, names that try to break out of the page too. */
export function fullReport(): Report {
  const comparison: Report["comparisons"][number] = {
    model: 1,
    bytesRatio: 0.25,
    latencyRatio: 0.25,
    latencyInterval: [0.24, 0.27],
    scores: [
      {
        metric: "top-1",
        before: 0.92,
        after: 0.91,
        difference: -0.01,
        interval: [-0.02, 0.001],
        p: 0.08,
        better: "higher",
        unit: "%",
      },
    ],
    outputs: [{ output: hostile, sqnr: 24, cosine: 0.99 }],
    divergence: ["a", hostile, "c", "d"].map((node, i) => ({
      node,
      value: `${node}_out`,
      sqnr: i === 0 ? Number.POSITIVE_INFINITY : 30 - 5 * i,
      cosine: 0.99,
    })),
    firstBad: hostile,
    slower: [{ node: hostile, op: "Add", before: 0.1, after: 0.2 }],
  };
  const histogram = { min: -1, max: 1, counts: [1, 4, 6, 4, 1] };
  return {
    version: 1,
    tool: { name: "pare", version: "0.0.0" },
    created: "2026-01-02T03:04:05.000Z",
    title: hostile,
    command: `pare compress ${hostile}`,
    seed: 7,
    machine: { runtime: "onnxruntime-node", provider: "cpu", threads: 1, processor: hostile, platform: "linux" },
    data: { name: hostile, samples: 2000, classes: ["a", hostile] },
    models: [model("before.onnx", 1, 0.92), model(hostile, 0.25, 0.91)],
    comparisons: [comparison],
    ledger: [step],
    plans: [
      {
        name: "int8",
        steps: [{ step: "quantize-static", options: { x: 1 } }],
        measured: after,
        drop: 0.01,
        outcome: "chosen",
        reason: "best",
      },
      { name: hostile, steps: [], measured: after, drop: 0.5, outcome: "over budget", reason: hostile },
      { name: "broken", steps: [], outcome: "failed", reason: "no" },
      {
        name: "infinite",
        steps: [],
        measured: after,
        drop: Number.POSITIVE_INFINITY,
        outcome: "over budget",
        reason: "no",
      },
    ],
    verdict: {
      target: "size",
      maxDrop: 0.02,
      metric: "top-1",
      drop: 0.01,
      dropInterval: [-0.001, 0.02],
      samples: { calibration: 100, selection: 500, confirmation: 500 },
      met: true,
      findings: [hostile],
    },
    weights: [
      {
        layer: hostile,
        weight: "w",
        before: histogram,
        after: histogram,
        channels: [
          [-1, 1],
          [-0.5, 0.1],
        ],
        sqnr: 20,
      },
    ],
  };
}

/** The same report with nothing in it. */
export const emptyReport: Report = {
  ...fullReport(),
  title: "nothing",
  models: [],
  comparisons: [],
  ledger: [],
  plans: [],
  weights: [],
};
