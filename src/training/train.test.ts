import { expect, test } from "vitest";
import type { Batch, Dataset } from "../data/dataset.ts";
import { float, type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { metricOf } from "../metrics/index.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { float32, int64, type Tensor, toFloat32, typed } from "../tensor/tensor.ts";
import type { CheckpointStore } from "./checkpoint.ts";
import type { Constraint } from "./constraint.ts";
import { losses, lossOptions } from "./losses.ts";
import { trainOptions } from "./options.ts";
import { type TrainContext, type TrainRecord, train } from "./train.ts";

const onnx = await runtime({ threads: 1 });

/** Two noisy spirals of points in the plane, a class each. */
function spirals(count: number, seed: number): { x: Float32Array; y: number[] } {
  const r = random(seed);
  const y = Array.from({ length: count }, (_, i) => i % 2);
  const x = new Float32Array(2 * count);
  for (const [i, label] of y.entries()) {
    const t = 0.5 + 2.5 * r.next();
    x[2 * i] = t * Math.cos(2 * t + Math.PI * label) + 0.05 * r.normal();
    x[2 * i + 1] = t * Math.sin(2 * t + Math.PI * label) + 0.05 * r.normal();
  }
  return { x, y };
}

function dataset(): Dataset {
  const splits = { train: spirals(512, 1), val: spirals(200, 2) };
  return {
    name: "spirals",
    splits: ["train", "val"],
    size: (split = "train") => splits[split as "train"].y.length,
    async *batches({ batch, split = "train", seed, skip = 0, limit = Number.POSITIVE_INFINITY }) {
      const { x, y } = splits[split as "train"];
      const order = y.map((_, i) => i);
      if (seed !== undefined) random(seed).shuffle(order);
      const end = Math.min(order.length, skip + limit);
      for (let at = skip; at < end; at += batch) {
        const chosen = order.slice(at, Math.min(end, at + batch));
        const values = Float32Array.from(chosen.flatMap((i) => [x[2 * i]!, x[2 * i + 1]!]));
        yield {
          inputs: { x: float32([chosen.length, 2], values) },
          labels: int64(chosen.map((i) => y[i]!)),
          size: chosen.length,
        };
      }
    },
  };
}

function network(): Graph {
  const r = random(3);
  const draw = (shape: readonly number[]): Tensor => {
    const deviation = Math.sqrt(2 / shape[0]!);
    return float32(
      shape,
      Float32Array.from({ length: shape[0]! * shape[1]! }, () => r.normal() * deviation),
    );
  };
  const zeros = (n: number): Tensor => float32([n], new Float32Array(n));
  return makeGraph({
    nodes: [
      makeNode("Gemm", ["x", "w1", "b1"], ["h1"]),
      makeNode("Relu", ["h1"], ["a1"]),
      makeNode("Dropout", ["a1", "ratio"], ["d1"]),
      makeNode("Gemm", ["d1", "w2", "b2"], ["h2"]),
      makeNode("LeakyRelu", ["h2"], ["a2"], { alpha: float(0.1) }),
      makeNode("Gemm", ["a2", "w3", "b3"], ["y"]),
    ],
    weights: new Map([
      ["w1", draw([2, 32])],
      ["b1", zeros(32)],
      ["ratio", float32([], [0.05])],
      ["w2", draw([32, 32])],
      ["b2", zeros(32)],
      ["w3", draw([32, 2])],
      ["b3", zeros(2)],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 2] } }],
    outputs: [{ name: "y" }],
  });
}

function context(more: Partial<TrainContext> = {}): TrainContext {
  return {
    runtime: onnx,
    data: dataset(),
    validationSplit: "val",
    metric: metricOf("top-1"),
    objective: (a, model) => {
      const z = model.logits("y");
      const parts = { prediction: z, shape: model.type(z).shape, classAxis: 1, target: "labels", soft: false };
      return { loss: losses["cross-entropy"](a, parts, lossOptions.parse({})) };
    },
    feeds: (batch: Batch) => ({ ...batch.inputs, labels: batch.labels! }),
    extraInputs: ["labels"],
    seed: 7,
    signal: new AbortController().signal,
    log: () => {},
    ...more,
  };
}

const options = trainOptions.parse({ epochs: 25, batch: 64, optimizer: "adam", rate: 0.02, decay: 0 });

function memoryStore(): CheckpointStore & { readonly files: Map<string, Uint8Array> } {
  const files = new Map<string, Uint8Array>();
  return {
    files,
    read: async (name) => files.get(name),
    write: async (name, bytes) => void files.set(name, bytes),
  };
}

test("learns, records every epoch, and keeps the best", async () => {
  const log: TrainRecord[] = [];
  const result = await train(network(), options, context({ record: (entry) => log.push(entry) }));
  const seen = log.filter((entry) => entry.kind === "epoch");
  expect(result.records).toEqual(seen);
  expect(result.curve).toEqual(log.filter((entry) => entry.kind === "steps"));
  expect(result.curve).toHaveLength(25 * 8);
  expect(seen.length).toBe(25);
  expect(seen.at(-1)!.loss).toBeLessThan(seen[0]!.loss / 3);
  expect(result.best.score).toBeGreaterThan(0.95);
  expect(result.best.score).toBe(Math.max(...seen.map(({ score }) => score!)));
});

test("interrupted at random and started again, it ends in the same bytes", async () => {
  const short = { ...options, epochs: 6 };
  const whole = await train(network(), short, context());
  const store = memoryStore();
  const r = random(17);
  let result: Awaited<ReturnType<typeof train>> | undefined;
  for (let attempt = 0; !result; attempt++) {
    expect(attempt).toBeLessThan(20);
    const controller = new AbortController();
    const stop = 5 + r.int(20);
    let steps = 0;
    const progress = (): void => {
      if (++steps === stop) controller.abort(new Error("interrupted"));
    };
    try {
      result = await train(network(), short, context({ store, signal: controller.signal, progress }));
    } catch (error) {
      expect((error as Error).message).toBe("interrupted");
    }
  }
  for (const [name, weight] of whole.model.weights)
    expect(result.model.weights.get(name)!.bytes()).toEqual(weight.bytes());
  expect(result.records.map(({ loss, score }) => [loss, score])).toEqual(
    whole.records.map(({ loss, score }) => [loss, score]),
  );
});

test("a checkpoint of another run is refused", async () => {
  const store = memoryStore();
  await train(network(), { ...options, epochs: 1 }, context({ store, run: "one" }));
  await expect(train(network(), options, context({ store, run: "two" }))).rejects.toThrow(/checkpoint of another run/);
});

test("stops early without progress", async () => {
  const result = await train(network(), { ...options, rate: 1e-9, patience: 3 }, context());
  expect(result.records.length).toBeLessThanOrEqual(5);
});

test("a loss that is not a number names step and node", async () => {
  const wild = { ...options, optimizer: "sgd" as const, rate: 1e30 };
  await expect(train(network(), wild, context())).rejects.toThrow(
    /the loss is \S+ at step \d+; the first value that is not finite comes from '\S+'/,
  );
});

test("too little data is an error", async () => {
  await expect(train(network(), { ...options, batch: 1000 }, context())).rejects.toThrow(
    /has 512 samples to train on, a batch takes 1000/,
  );
});

test("only what may learn changes", async () => {
  const before = network();
  const result = await train(
    before,
    { ...options, epochs: 1 },
    context({ trains: ({ outputs }) => outputs[0] === "y" }),
  );
  const changed = [...before.weights].filter(
    ([name, weight]) => !toFloat32(weight).every((v, i) => v === toFloat32(result.model.weights.get(name)!)[i]),
  );
  expect(changed.map(([name]) => name)).toEqual(["w3", "b3"]);
});

/** Holds the first half of a weight at zero, and counts how often it acted. */
function halfOf(name: string): Constraint & { readonly count: number } {
  let count = 0;
  return {
    get count() {
      return count;
    },
    apply({ step }, weights) {
      expect(step).toBe(count);
      count++;
      const { value, average, before } = weights.get(name)!;
      if (step === 1) expect(before).not.toEqual(value);
      for (const values of [value, average]) values?.fill(0, 0, value.length / 2);
    },
    ready: ({ step }) => step > 20,
    state: () => new Map([["count", int64([count])]]),
    restore: (state) => {
      count = Number((typed(state.get("count")!) as BigInt64Array)[0]);
    },
    summaries: () => ({ zeros: 0.5 }),
  };
}

test("a constraint acts before the first step and after each, and holds in what is kept", async () => {
  const averaged = { ...options, epochs: 4, average: 0.9 };
  const log: TrainRecord[] = [];
  const constraint = halfOf("w2");
  const result = await train(
    network(),
    averaged,
    context({ constraints: [constraint], judgeStart: true, record: (entry) => log.push(entry) }),
  );
  expect(constraint.count).toBe(4 * 8 + 1);
  const kept = toFloat32(result.model.weights.get("w2")!);
  expect(kept.subarray(0, 512).every((v) => v === 0)).toBe(true);
  expect(kept.subarray(512).some((v) => v === 0)).toBe(false);
  // the first two epochs and the start are not ready
  expect(result.best.epoch).toBeGreaterThan(2);
  expect(log.filter((entry) => entry.kind === "steps").every(({ summaries }) => summaries?.zeros === 0.5)).toBe(true);
});

test("a run with a constraint that was interrupted ends in the same bytes", async () => {
  const short = { ...options, epochs: 3 };
  const whole = await train(network(), short, context({ constraints: [halfOf("w2")] }));
  const store = memoryStore();
  const controller = new AbortController();
  const progress = ({ step }: { step: number }): void => {
    if (step === 11) controller.abort(new Error("interrupted"));
  };
  const first = context({ store, signal: controller.signal, progress, constraints: [halfOf("w2")] });
  await expect(train(network(), short, first)).rejects.toThrow("interrupted");
  const constraint = halfOf("w2");
  const result = await train(network(), short, context({ store, constraints: [constraint] }));
  expect(constraint.count).toBe(3 * 8 + 1);
  for (const [name, weight] of whole.model.weights)
    expect(result.model.weights.get(name)!.bytes()).toEqual(weight.bytes());
});

test("of batches that are summed up, the last ones count too, and constraints act once an update", async () => {
  const moments: (readonly [number, number])[] = [];
  const constraint: Constraint = { apply: ({ step, steps }) => void moments.push([step, steps]) };
  const before = network();
  for (const [accumulate, updates] of [
    [16, 1],
    [3, 3],
  ] as const) {
    moments.length = 0;
    const once = { ...options, epochs: 1, accumulate };
    const result = await train(before, once, context({ constraints: [constraint] }));
    const [was, is] = [before, result.model].map((graph) => toFloat32(graph.weights.get("w3")!));
    expect(is).not.toEqual(was);
    expect(moments).toEqual(Array.from({ length: updates + 1 }, (_, i) => [i, updates]));
  }
});

test("killed before any of its checkpoints, it ends in the same bytes", async () => {
  const short = { ...options, epochs: 8, patience: 2 };
  const whole = await train(network(), short, context({ judgeStart: true }));
  expect(whole.best.epoch).toBeGreaterThan(1);
  for (let kill = 2; kill <= 8; kill++) {
    const store = memoryStore();
    let saves = 0;
    const write: CheckpointStore["write"] = async (name, bytes) => {
      if (name === "last.onnx" && ++saves === kill) throw new Error("killed");
      await store.write(name, bytes);
    };
    const killed = context({ judgeStart: true, store: { ...store, write } });
    await expect(train(network(), short, killed)).rejects.toThrow("killed");
    const result = await train(network(), short, context({ judgeStart: true, store }));
    expect(result.best).toEqual(whole.best);
    for (const [name, weight] of whole.model.weights)
      expect(result.model.weights.get(name)!.bytes(), `${kill} ${name}`).toEqual(weight.bytes());
  }
});
