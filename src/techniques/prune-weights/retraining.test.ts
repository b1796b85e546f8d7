import { expect, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { datasetOf, type Samples } from "../../data/samples.ts";
import { type Graph, makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { random } from "../../random.ts";
import { float32, int64, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { type CheckpointStore, decodeCheckpoint } from "../../training/checkpoint.ts";
import type { StepsRecord, TrainRecord } from "../../training/progress.ts";
import type { Exhibit } from "../exhibit.ts";
import type { Context } from "../technique.ts";
import { type Skip, testContext } from "../testing.ts";
import { pruneWeights } from "./index.ts";

const cpu = await runtime({ threads: 1 });
const features = 16;

/** Numbers whose class is the largest of four sums of three of them; four are noise. */
function sums(count: number, seed: number): Samples {
  const r = random(seed);
  const x = Float32Array.from({ length: features * count }, () => r.normal());
  const rowOf = (i: number): Float32Array => x.subarray(features * i, features * (i + 1));
  const classOf = (row: Float32Array): number => {
    const totals = Array.from({ length: 4 }, (_, c) => row[3 * c]! + row[3 * c + 1]! + row[3 * c + 2]!);
    return totals.indexOf(Math.max(...totals));
  };
  return {
    count,
    read: async (indices) => ({
      inputs: { x: float32([indices.length, features], Float32Array.from(indices.flatMap((i) => [...rowOf(i)]))) },
      labels: int64(indices.map((i) => classOf(rowOf(i)))),
      size: indices.length,
    }),
  };
}

const data: Dataset = datasetOf(
  "sums",
  new Map([
    ["train", sums(640, 1)],
    ["val", sums(200, 2)],
  ]),
);
const epoch = 640 / 32;

/** Two layers that have learned nothing yet. */
function network(): Graph {
  const r = random(4);
  const draw = (shape: readonly [number, number]): Tensor => {
    const values = Float32Array.from({ length: shape[0] * shape[1] }, () => r.normal() / Math.sqrt(shape[1]));
    return float32(shape, values);
  };
  return makeGraph({
    nodes: [
      makeNode("Gemm", ["x", "w1", "b1"], ["h"], { transB: 1 }, "hidden"),
      makeNode("Relu", ["h"], ["a"]),
      makeNode("Gemm", ["a", "w2", "b2"], ["y"], { transB: 1 }, "head"),
    ],
    weights: new Map([
      ["w1", draw([40, features])],
      ["b1", float32([40], new Float32Array(40))],
      ["w2", draw([4, 40])],
      ["b2", float32([4], new Float32Array(4))],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", features] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32", shape: ["n", 4] } }],
  });
}

type Options = NonNullable<Parameters<typeof pruneWeights>[0]>;

interface Outcome {
  readonly graph: Graph;
  readonly log: readonly TrainRecord[];
  readonly lines: readonly string[];
  readonly exhibits: readonly Exhibit[];
}

async function prune(options: Options, more: Partial<Context> = {}, graph = network()): Promise<Outcome> {
  const [skips, exhibits, log, lines]: [Skip[], Exhibit[], TrainRecord[], string[]] = [[], [], [], []];
  const context: Context = {
    ...testContext(cpu, skips, exhibits),
    data,
    log: (line) => lines.push(line),
    ...more,
    training: { record: (entry) => log.push(entry), ...more.training },
  };
  const usual: Options = { minElements: 1, ends: "prune", batch: 32, optimizer: "adam", rate: 0.02, distill: false };
  return { graph: await pruneWeights({ ...usual, ...options }).apply(graph, context), log, lines, exhibits };
}

const share = (graph: Graph, name: string): number => {
  const values = toFloat32(graph.weights.get(name)!);
  return values.filter((v) => v === 0).length / values.length;
};
const stepsOf = (log: readonly TrainRecord[]): readonly StepsRecord[] => log.filter((entry) => entry.kind === "steps");

test("what is pruned at once stays zero while the rest learns, in the average of the weights too", async () => {
  const { graph, log, exhibits, lines } = await prune({ sparsity: 0.6, epochs: 4, average: 0.9 });
  const { graph: untrained } = await prune({ sparsity: 0.6 });
  for (const name of ["w1", "w2"]) {
    const [after, before] = [graph, untrained].map((model) => toFloat32(model.weights.get(name)!));
    expect([...after!].map((v) => v === 0)).toEqual([...before!].map((v) => v === 0));
    expect(after).not.toEqual(before);
  }
  expect(log.at(-1)).toMatchObject({ kind: "epoch", metric: "top-1" });
  expect((log.at(-1) as { score: number }).score).toBeGreaterThan(0.7);
  expect(exhibits.map(({ kind }) => kind)).toEqual(["training", "sparsity", "note"]);
  const { layers } = exhibits.find((exhibit) => exhibit.kind === "sparsity")!;
  expect(layers[0]).toEqual({ name: "hidden", elements: 640, zeros: 384 });
  expect(lines.at(-1)).toBe("zeros: 60.0 % of the pruned layers' weights, 56.9 % of all");
});

test("sparsity rises on a schedule while training, and the best epoch is one of the full sparsity", async () => {
  const steps = { initialSparsity: 0.3, beginStep: 10, endStep: 70, frequency: 20 };
  const options: Options = {
    pruningSchedule: "polynomial",
    ...steps,
    sparsity: 0.8,
    epochs: 5,
    layerSparsity: { w2: 0.4 },
  };
  const { graph, log, exhibits } = await prune(options);
  const summaries = new Map(stepsOf(log).map((entry) => [entry.step, entry.summaries!]));
  const at = (step: number): number => 0.8 - 0.5 * (1 - (step - 10) / 60) ** 3;
  for (const [step, wanted] of [
    [9, 0],
    [10, at(10)],
    [29, at(10)],
    [30, at(30)],
    [50, at(50)],
    [70, 0.8],
    [100, 0.8],
  ]) {
    expect(summaries.get(step!)!["sparsity/w1"], `step ${step}`).toBeCloseTo(wanted!, 2);
    // a layer with a share of its own goes the same part of the way
    expect(summaries.get(step!)!["sparsity/w2"], `step ${step}`).toBeCloseTo(wanted! / 2, 2);
  }
  expect([share(graph, "w1"), share(graph, "w2")]).toEqual([0.8, 0.4]);
  expect([...graph.weights.keys()]).toEqual([...network().weights.keys()]);
  expect(graph.nodes).toEqual(network().nodes);
  const training = exhibits.find((exhibit) => exhibit.kind === "training")!;
  expect(training.best.epoch).toBeGreaterThanOrEqual(Math.ceil(70 / epoch));
  expect(training.best.score).toBeGreaterThan(0.7);
});

test("movement keeps the weights that grow", async () => {
  const schedule: Options = {
    pruningSchedule: "polynomial",
    sparsity: 0.75,
    epochs: 5,
    frequency: 5,
    include: ["hidden"],
  };
  const { graph } = await prune({ ...schedule, score: "movement" });
  const { graph: other } = await prune({ ...schedule, score: "random" });
  const noise = (model: Graph): number => {
    const w = toFloat32(model.weights.get("w1")!);
    return w.filter((v, i) => v !== 0 && i % features >= 12).length;
  };
  expect(share(graph, "w1")).toBe(0.75);
  // of 160 weights a quarter would be those of noise by chance
  expect(noise(graph)).toBeLessThan(0.75 * noise(other));
});

test.each<Options>([
  { score: "snip" },
  { score: "movement" },
  { score: "movement", density: "sensitivity", pruningSchedule: "constant", epochs: 1, distill: true },
])("data without labels is refused by what needs them: %o", async (options) => {
  const bare: Dataset = {
    name: "bare",
    splits: data.splits,
    size: data.size,
    async *batches(wanted) {
      for await (const { inputs, size } of data.batches(wanted)) yield { inputs, size };
    },
  };
  await expect(prune(options, { data: bare })).rejects.toThrow("the gradient of the loss needs data with labels");
});

test("rounds prune the same share of what is left", async () => {
  const { graph, log, lines, exhibits } = await prune({
    sparsity: 0.875,
    rounds: 3,
    epochs: 1,
    layerSparsity: { head: 0.271 },
  });
  expect(lines.filter((line) => line.startsWith("round"))).toHaveLength(3);
  expect(new Set(log.map(({ training }) => training))).toEqual(new Set(["round1", "round2", "round3"]));
  const { rounds } = exhibits.find((exhibit) => exhibit.kind === "progress")!;
  const [w1, w2] = [640, 160];
  const wanted = [0.5, 0.75, 0.875].map((s, i) => (s * w1 + (1 - 0.9 ** (i + 1)) * w2) / (w1 + w2));
  expect(rounds.map(({ amount }) => amount)).toEqual(wanted.map((s) => expect.closeTo(s, 2)));
  expect(rounds.map(({ kept }) => kept)).toEqual([undefined, undefined, true]);
  expect(share(graph, "w1")).toBe(0.875);
});

/** A store in memory. */
function memory(): CheckpointStore & { readonly files: ReadonlyMap<string, Uint8Array> } {
  const files = new Map<string, Uint8Array>();
  return {
    files,
    read: async (name) => files.get(name),
    write: async (name, bytes) => void files.set(name, bytes),
  };
}

/** Runs until a number of steps is done in all. */
async function killed(options: Options, store: CheckpointStore, steps: number): Promise<void> {
  const controller = new AbortController();
  let done = 0;
  const progress = (_: number, __: number, what: string): void => {
    if (what === "steps" && ++done === steps) controller.abort(new Error("killed"));
  };
  await expect(prune(options, { progress, signal: controller.signal, training: { store } })).rejects.toThrow("killed");
}

test("rewinding begins with the weights of an early step", async () => {
  const store = memory();
  const options: Options = { sparsity: 0.5, rewind: 3, epochs: 2, rate: 0.05, warmup: 0 };
  const early = memory();
  await killed(options, early, 3);
  await killed(options, store, 2 * epoch + 1);
  const state = (files: ReadonlyMap<string, Uint8Array>, name: string): Float32Array =>
    toFloat32(decodeCheckpoint(files.get(name)!, name).state.get("w1")!);
  const rewound = state(store.files, "round1-last.onnx");
  const [from, trained] = [state(early.files, "dense-last.onnx"), state(store.files, "dense-last.onnx")];
  const distance = (to: Float32Array): number =>
    rewound.reduce((sum, v, i) => sum + (v === 0 ? 0 : Math.abs(v - to[i]!)), 0);
  expect(rewound.filter((v) => v === 0)).toHaveLength(320);
  // one step away from where it was rewound to
  expect(distance(from)).toBeLessThan(distance(trained) / 2);
  await expect(prune({ ...options, rewind: 1000 })).rejects.toThrow(/training ends before step 1000/);
});

test.each([
  {
    name: "while training",
    options: { pruningSchedule: "polynomial", score: "movement", frequency: 7, epochs: 3 },
    at: [12, 20],
  },
  { name: "in rounds", options: { rounds: 2, rewind: 5, epochs: 1 }, at: [12, 20, 20] },
] as const)("killed and started again, pruning $name ends in the same bytes", async ({ options, at }) => {
  const whole = await prune({ ...options, sparsity: 0.7 });
  const store = memory();
  for (const steps of at) await killed({ ...options, sparsity: 0.7 }, store, steps);
  const resumed = await prune({ ...options, sparsity: 0.7 }, { training: { store } });
  for (const [name, weight] of whole.graph.weights) {
    expect(resumed.graph.weights.get(name)!.bytes(), name).toEqual(weight.bytes());
  }
});

test.each<[Options, RegExp]>([
  [{ pruningSchedule: "constant" }, /--pruning-schedule constant prunes while training.*Give --epochs/],
  [{ rounds: 3 }, /--rounds 3 prunes while training/],
  [{ rewind: 0 }, /--rewind 0 prunes while training/],
  [{ pruningSchedule: "constant", epochs: 1, score: "wanda" }, /score wanda can't be computed while training/],
  [{ pruningSchedule: "constant", epochs: 1, rounds: 2 }, /does not go with --rounds/],
  [{ pruningSchedule: "polynomial", epochs: 1, pattern: "2:4" }, /has one sparsity/],
  [{ pruningSchedule: "polynomial", epochs: 1, initialSparsity: 0.6 }, /initial sparsity 0.6 is above/],
  ...(["global", "lamp", "erdos-renyi", "sensitivity"] as const).map((density): [Options, RegExp] => [
    { density, pattern: "2:4" },
    new RegExp(`gives every layer the same sparsity.*Leave out --density ${density}`),
  ]),
  [{ initialSparsity: 0.1, epochs: 1 }, /--initial-sparsity does nothing with --pruning-schedule one-shot.*polynomial/],
  [{ beginStep: 5, epochs: 1 }, /--begin-step does nothing with --pruning-schedule one-shot.*constant or polynomial/],
  [{ endStep: -1, epochs: 1 }, /--end-step does nothing with --pruning-schedule one-shot/],
  [{ frequency: 100, epochs: 1 }, /--frequency does nothing with --pruning-schedule one-shot/],
  [{ pruningPower: 1, pruningSchedule: "constant", epochs: 1 }, /--pruning-power does nothing with .* constant/],
])("%o is refused", async (options, message) => {
  await expect(prune(options)).rejects.toThrow(message);
});
