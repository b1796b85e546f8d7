import { expect, test } from "vitest";
import type { Dataset } from "../data/dataset.ts";
import { datasetOf } from "../data/samples.ts";
import { onnxSize } from "../formats/onnx/index.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { techniques } from "../techniques/index.ts";
import { simplify } from "../techniques/simplify/index.ts";
import type { Context } from "../techniques/technique.ts";
import { normal, testContext } from "../techniques/testing.ts";
import { floatToHalf } from "../tensor/half.ts";
import { float32, type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import { parseSizeTarget } from "./iterate-size.ts";
import { type Judge, makeJudge } from "./judge.ts";
import { type MixedTrial, quantizeMixed } from "./mixed.ts";
import { formatNames, formatsOf, stepsFor } from "./mixed-formats.ts";
import { layersOf } from "./mixed-layers.ts";
import { measureEffects } from "./mixed-sensitivity.ts";
import { bindPlan } from "./plans.ts";
import { run } from "./run.ts";
import { splitData } from "./split.ts";

const onnx = await runtime({ threads: 1 });

/** The first layer's outputs are mostly ignored, so that it bears fewer bits than the others. */
const graph: Graph = makeGraph({
  nodes: [
    makeNode("MatMul", ["x", "w1"], ["h"], {}, "idle"),
    makeNode("MatMul", ["x", "w2"], ["g"], {}, "busy"),
    makeNode("Mul", ["h", "little"], ["i"], {}, "hush"),
    makeNode("Add", ["i", "g"], ["s"], {}, "sum"),
    makeNode("Relu", ["s"], ["a"], {}, "relu"),
    makeNode("MatMul", ["a", "w3"], ["y"], {}, "head"),
  ],
  weights: new Map([
    ["w1", normal([64, 64])],
    ["w2", normal([64, 64], 2)],
    ["w3", normal([64, 32], 3)],
    ["little", float32([], [1e-3])],
  ]),
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 64] } }],
  outputs: [{ name: "y" }],
});

function noise(count: number): Dataset {
  const read = async (indices: readonly number[]) => {
    const rows = indices.map((i) => {
      const stream = random(i);
      return Array.from({ length: 64 }, () => stream.normal());
    });
    return { inputs: { x: float32([indices.length, 64], rows.flat()) }, size: indices.length };
  };
  return datasetOf("noise", new Map([["all", { count, read }]]));
}

const parts = await splitData(noise(300), { seed: 1 });
const context: Context = { ...testContext(onnx), data: parts.calibration };
const signal = new AbortController().signal;
const judge = (): Promise<Judge> => makeJudge(graph, { runtime: onnx, parts, seed: 1, signal, seconds: 0.01 });
const formats = ["weights8", "weights4", "weights2"];

test("layers that matter less get fewer bits, and the file gets as small as asked for", async () => {
  const trials: MixedTrial[] = [];
  const result = await quantizeMixed(graph, context, await judge(), {
    formats,
    target: parseSizeTarget("bytes=25%"),
    onTrial: (trial) => void trials.push(trial),
  });
  expect(result.layers.map(({ nodes }) => nodes)).toEqual([["idle"], ["busy"], ["head"]]);
  expect(result.reached).toBe(true);
  expect(result.trials).toEqual(trials);
  expect(onnxSize(result.graph!)).toBeLessThanOrEqual(0.25 * onnxSize(graph));
  const bits = result.chosen!.formats.map((format) => Number(/\d+/.exec(format)?.[0] ?? 32));
  expect(bits[0]).toBe(2);
  expect(bits[1]).toBeGreaterThan(2);
  const [exhibit] = result.ledger.at(-1)!.exhibits.filter(({ kind }) => kind === "formats");
  if (exhibit?.kind !== "formats") throw new Error("the formats are not shown");
  expect(exhibit.layers.map(({ chosen }) => chosen)).toEqual(result.chosen!.formats);
  for (const { options } of exhibit.layers) {
    const of = (format: string): number => options.find((each) => each.format === format)!.damage;
    expect(of("float")).toBe(0);
    expect(of("weights4")).toBeGreaterThan(of("weights8"));
    expect(of("weights2")).toBeGreaterThan(of("weights4"));
  }
});

test("within a budget the largest saving that keeps it is found and confirmed, and its plan gives it again", async () => {
  const result = await quantizeMixed(graph, context, await judge(), { formats, maxDrop: 0.05, damage: "noise" });
  expect(result.confirmed!.drop).toBeLessThanOrEqual(0.05);
  expect(result.chosen!.verdict!.drop).toBeLessThanOrEqual(0.05);
  const smaller = result.trials.filter(({ measured }) => measured!.bytes < result.chosen!.measured!.bytes);
  expect(smaller.length).toBeGreaterThan(0);
  for (const { verdict } of smaller) expect(verdict!.drop).toBeGreaterThan(0.05);
  const steps = bindPlan({ name: "again", steps: [["simplify", {}], ...result.chosen!.steps] });
  const replayed = await run(graph, steps, context, { measure: async () => ({ bytes: 0, scores: [] }) });
  for (const [name, weight] of result.graph!.weights) {
    expect(toFloat32(replayed.graph.weights.get(name)!)).toEqual(toFloat32(weight));
  }
});

test("integers of 8 and of 4 bits are one step, which holds the bits and gives the model again", async () => {
  const result = await quantizeMixed(graph, context, await judge(), {
    formats: ["w4a8", "int8"],
    target: parseSizeTarget("bytes=28%"),
  });
  expect(result.reached).toBe(true);
  expect(onnxSize(result.graph!)).toBeLessThanOrEqual(0.28 * onnxSize(graph));
  const { formats: chosen, steps, meanBits } = result.chosen!;
  expect(chosen[0]).toBe("w4a8");
  expect(new Set(chosen)).toEqual(new Set(["int8", "w4a8"]));
  expect(meanBits).toBeGreaterThan(4);
  expect(meanBits).toBeLessThan(8);
  const few = ["idle", "busy", "head"].filter((_, i) => chosen[i] === "w4a8");
  const layerBits = Object.fromEntries(few.map((name) => [name, 4]));
  expect(steps).toEqual([["quantize-static", { protect: false, target: "size", packed: true, layerBits }]]);
  for (const options of result.effects) {
    const [float, int8, w4a8] = ["float", "int8", "w4a8"].map((name) => options.find(({ format }) => format === name)!);
    expect([float!.bytes > int8!.bytes, int8!.bytes > w4a8!.bytes]).toEqual([true, true]);
    expect(w4a8!.damage).toBeGreaterThan(int8!.damage);
  }
  const again = bindPlan({ name: "again", steps: [["simplify", {}], ...steps] });
  const replayed = await run(graph, again, context, { measure: async () => ({ bytes: 0, scores: [] }) });
  const weights = (made: Graph): unknown => [...made.weights].map(([name, t]) => [name, t.dtype, [...toFloat32(t)]]);
  expect(weights(replayed.graph)).toEqual(weights(result.graph!));
});

test("estimates of the damage are near what is measured, in every format", async () => {
  const clean = await simplify().apply(graph, context);
  const { layers } = layersOf(clean, 1024);
  const every = formatsOf(formatNames);
  const found = (damage: "kl" | "noise", estimated: boolean): ReturnType<typeof measureEffects> =>
    measureEffects(clean, layers, every, context, { damage, estimated, samples: 32, times: false });
  for (const by of ["noise", "kl"] as const) {
    const [measured, estimated] = [await found(by, false), await found(by, true)];
    for (const [at, { nodes }] of layers.entries()) {
      expect(estimated[at]!.map(({ format, bytes }) => [format, bytes])).toEqual(
        measured[at]!.map(({ format, bytes }) => [format, bytes]),
      );
      expect(estimated[at]!.map(({ format }) => format)).toEqual(["float", ...formatNames]);
      for (const [i, { format, damage }] of estimated[at]!.entries()) {
        const wanted = measured[at]![i]!.damage;
        // what a hushed layer does drowns in float32; kernels of packed weights round activations too
        if (format === "float" || wanted < 1e-7) continue;
        expect(damage / wanted, `${by} of ${nodes[0]} in ${format}`).toBeGreaterThan(0.3);
        expect(damage / wanted, `${by} of ${nodes[0]} in ${format}`).toBeLessThan(3);
      }
    }
  }
});

test("layers without names are estimated as they are with names", async () => {
  const clean = await simplify().apply(graph, context);
  const nameless = { ...clean, nodes: clean.nodes.map((node) => ({ ...node, name: "" })) };
  const options = { damage: "noise", estimated: true, samples: 2, times: false } as const;
  const damages = async (of: Graph): Promise<unknown> => {
    const { layers } = layersOf(of, 1024);
    const effects = await measureEffects(of, layers, formatsOf(["int8", "weights4"]), context, options);
    return effects.map((own) => own.map(({ format, damage }) => [format, damage]));
  };
  expect(await damages(nameless)).toEqual(await damages(clean));
});

test("a choice by estimates is one by whole models all the same", async () => {
  const result = await quantizeMixed(graph, context, await judge(), {
    formats,
    target: parseSizeTarget("bytes=25%"),
    damage: "fisher",
  });
  expect(result.reached).toBe(true);
  const [exhibit] = result.ledger.at(-1)!.exhibits.filter(({ kind }) => kind === "formats");
  expect(exhibit).toMatchObject({ damage: { name: "divergence of the outputs (nats), estimated" } });
  expect(result.chosen!.formats[0]).toBe("weights2");
});

test("a layer that can't be estimated is measured, an operator without a gradient told", async () => {
  const graphWith = (weight: Tensor, last: string): Graph =>
    makeGraph({
      nodes: [
        makeNode("MatMul", ["x", "w"], ["h"], {}, "product"),
        makeNode("Cast", ["h"], ["c"], { to: 1 }, "cast"),
        makeNode(last, ["c"], ["y"], {}, "last"),
      ],
      weights: new Map([["w", weight]]),
      inputs: [{ name: "x", type: { kind: "tensor", dtype: weight.dtype, shape: [32, 32] } }],
      outputs: [{ name: "y" }],
    });
  const half = tensor("float16", [32, 32], floatToHalf(toFloat32(normal([32, 32])), "float16"));
  const feeds = (dtype: "float16" | "float32"): Dataset => {
    const values = toFloat32(normal([32, 32], 9));
    const x = dtype === "float32" ? float32([32, 32], values) : tensor(dtype, [32, 32], floatToHalf(values, dtype));
    return datasetOf("one", new Map([["all", { count: 64, read: async () => ({ inputs: { x }, size: 32 }) }]]));
  };
  const options = { damage: "noise", estimated: true, samples: 2, times: false } as const;
  const halves = graphWith(half, "Relu");
  const { layers } = layersOf(halves, 512);
  const data = { ...context, data: feeds("float16") };
  const measured = await measureEffects(halves, layers, formatsOf(["weights4"]), data, {
    ...options,
    estimated: false,
  });
  expect(await measureEffects(halves, layers, formatsOf(["weights4"]), data, options)).toEqual(measured);
  const rough = graphWith(normal([32, 32]), "Det");
  const refused = measureEffects(
    rough,
    layers,
    formatsOf(["weights4"]),
    { ...context, data: feeds("float32") },
    options,
  );
  await expect(refused).rejects.toThrow(/fisher: last: has no gradient.*kl or noise/);
});

test("every layer is in the step of its format, and in no other", () => {
  const layers = ["a", "b", "c", "d", "e"].map((name) => ({ nodes: [name], elements: 1 }));
  const formats = ["int8", "w4a8", "weights4", "float", "dynamic8"];
  expect(stepsFor(layers, formats, "latency")).toEqual([
    [
      "quantize-static",
      { protect: false, target: "latency", packed: true, layerBits: { b: 4 }, exclude: ["c", "d", "e"] },
    ],
    ["quantize-dynamic", { include: ["e"] }],
    ["quantize-weights", { bits: 4, include: ["c"] }],
  ]);
  expect(stepsFor(layers.slice(0, 1), ["int8"], "size")).toEqual([
    ["quantize-static", { protect: false, target: "size" }],
  ]);
  expect(stepsFor(layers.slice(3, 4), ["float"], "size")).toEqual([]);
});

test("layers without names are chosen for all the same", async () => {
  const nameless = { ...graph, nodes: graph.nodes.map((node) => ({ ...node, name: "" })) };
  const result = await quantizeMixed(nameless, context, await judge(), { formats: ["int8", "weights4"], maxDrop: 1 });
  expect(result.layers.map(({ nodes }) => nodes)).toEqual([["MatMul(i)"], ["MatMul(g)"], ["MatMul(y)"]]);
  expect(result.effects.every((own) => own.some(({ format }) => format === "int8"))).toBe(true);
  expect(onnxSize(result.graph!)).toBeLessThan(0.4 * onnxSize(nameless));
});

test("nothing is handed out as faster that is not, and other targets are refused", async () => {
  const hopeless = await quantizeMixed(graph, context, await judge(), {
    formats: ["weights3"], // unpacked when it is loaded: float arithmetic
    target: parseSizeTarget("ms=50%"),
  }).catch((error: Error) => error);
  if (hopeless instanceof Error) throw hopeless;
  expect(hopeless.graph === undefined || hopeless.chosen!.gain!.latencyInterval[1] < 1).toBe(true);
  expect(hopeless.reached).toBe(false);
  const other = quantizeMixed(graph, context, await judge(), { target: parseSizeTarget("macs=50%") });
  await expect(other).rejects.toThrow("formats of layers do not change macs");
  const none = quantizeMixed(graph, context, await judge(), { minElements: 1e6 });
  await expect(none).rejects.toThrow("no layer can take any of the formats");
});

test.each([
  [1.5, undefined],
  [0.5, 0.5],
])("a final timing of %d times the original's decides what is handed out as faster", async (ratio, handedOut) => {
  const wide = makeGraph({
    nodes: [
      makeNode("MatMul", ["x", "w1"], ["h"], {}, "first"),
      makeNode("Relu", ["h"], ["r"], {}, "relu"),
      makeNode("MatMul", ["r", "w2"], ["y"], {}, "second"),
    ],
    weights: new Map([
      ["w1", normal([64, 4096])],
      ["w2", normal([4096, 512], 2)],
    ]),
    inputs: graph.inputs,
    outputs: [{ name: "y" }],
  });
  const looked: Graph[] = [];
  const timed = await makeJudge(wide, { runtime: onnx, parts, seed: 1, signal, seconds: 0.01 });
  // what is timed in so short a while is left out
  const gain: Judge["gain"] = async (g) => ({ ...(await timed.gain(g)), latency: 0.9, latencyInterval: [0.9, 0.9] });
  const result = await quantizeMixed(
    wide,
    context,
    { ...timed, gain },
    {
      formats: ["weights4"],
      target: parseSizeTarget("ms=1%"),
      async lastLook(made) {
        looked.push(made);
        return { latency: ratio, latencyInterval: [ratio, ratio] };
      },
    },
  );
  expect(looked.length).toBeGreaterThan(0);
  expect(result.graph).toBe(handedOut === undefined ? undefined : looked[0]);
  expect(result.chosen?.gain?.latency).toBe(handedOut);
  if (handedOut !== undefined) return;
  const refused = result.trials.filter(({ reason }) => reason.startsWith("in the final timing not measurably faster"));
  expect(refused).toHaveLength(looked.length);
  expect(refused.every(({ outcome }) => outcome === "no gain")).toBe(true);
});

test("nodes that share a weight are one layer; without a name of its own none can be chosen", () => {
  const shared = makeGraph({
    nodes: [
      makeNode("MatMul", ["x", "w"], ["a"], {}, "first"),
      makeNode("MatMul", ["a", "w"], ["b"], {}, "second"),
      makeNode("MatMul", ["b", "v"], ["c"], {}, "twin"),
      makeNode("Relu", ["c"], ["d"], {}, "twin"),
      { ...makeNode("MatMul", ["d", "u"], ["y"]), name: "" },
    ],
    weights: new Map([
      ["w", normal([32, 32])],
      ["v", normal([32, 32])],
      ["u", normal([32, 32])],
    ]),
    inputs: [{ name: "x" }],
    outputs: [{ name: "y" }],
  });
  expect(layersOf(shared, 1024)).toEqual({
    layers: [
      { nodes: ["first", "second"], elements: 1024 },
      { nodes: ["MatMul(y)"], elements: 1024 },
    ],
    left: [{ node: "twin", reason: "its name would choose 'twin' (Relu) too" }],
  });
});

test("a node whose name would choose something else too is left, and what it would choose told", async () => {
  const names = ["MatMul", "MatMul1", "fc*", "fc2", "/c/", "/(/", "v6", "last"];
  const chain = makeGraph({
    nodes: names.map((name, i) => makeNode("MatMul", [`x${i}`, `v${i}`], [`x${i + 1}`], {}, name)),
    weights: new Map(names.map((_, i) => [`v${i}`, normal([64, 64], i)])),
    inputs: [{ name: "x0", type: { kind: "tensor", dtype: "float32", shape: ["n", 64] } }],
    outputs: [{ name: `x${names.length}` }],
  });
  const weights = new Map(chain.weights).set("fc2", chain.weights.get("v7")!);
  const nodes = chain.nodes.with(7, makeNode("MatMul", ["x7", "fc2"], ["x8"], {}, "last"));
  const { layers, left } = layersOf({ ...chain, nodes, weights }, 1024);
  expect(layers.map((layer) => layer.nodes)).toEqual([["MatMul1"], ["v6"], ["last"]]);
  expect(left).toEqual([
    { node: "MatMul", reason: "its name would choose 'MatMul1' (MatMul) too" },
    { node: "fc*", reason: "its name would choose 'fc2' (MatMul) too" },
    { node: "fc2", reason: "its name would choose weight 'fc2' too" },
    { node: "/c/", reason: "its name would choose 'fc*' (MatMul) too" },
    { node: "/(/", reason: "its name reads as a regular expression" },
  ]);
  // what is chosen by its name is alone then
  for (const { nodes: own } of layers) {
    const [step] = stepsFor([{ nodes: own, elements: 4096 }], ["weights4"], "size");
    const made = await techniques[step![0]]!(step![1]).apply(chain, { ...testContext(onnx), skip() {} });
    expect(made.nodes.filter(({ op }) => op === "MatMul").length).toBe(names.length - 1);
  }
});

test("layers below 1024 weights take every format where smaller ones are asked for, alone and in the plan", async () => {
  const small = makeGraph({
    nodes: [
      makeNode("MatMul", ["x", "w1"], ["h"], {}, "first"),
      makeNode("Relu", ["h"], ["r"], {}, "relu"),
      makeNode("MatMul", ["r", "w2"], ["y"], {}, "second"),
    ],
    weights: new Map([
      ["w1", normal([64, 8])],
      ["w2", normal([8, 64], 2)],
    ]),
    inputs: graph.inputs,
    outputs: [{ name: "y" }],
  });
  const { layers } = layersOf(small, 512);
  const names = formatNames.filter((name) => name.startsWith("weights") || name === "dynamic8");
  const options = { damage: "noise", estimated: false, samples: 2, times: false } as const;
  const effects = await measureEffects(small, layers, formatsOf(names, 512), context, options);
  expect(effects.map((own) => own.map(({ format }) => format))).toEqual(layers.map(() => ["float", ...names]));
  for (const name of names) {
    const [step] = stepsFor(layers, [name, name], "size", 512);
    const made = await techniques[step![0]]!(step![1]).apply(small, context);
    expect(
      [...made.weights.keys()].filter((weight) => small.weights.has(weight)),
      name,
    ).toEqual([]);
  }
  const own = await makeJudge(small, { runtime: onnx, parts, seed: 1, signal, seconds: 0.01 });
  const result = await quantizeMixed(small, context, own, { formats: ["weights4"], minElements: 512, maxDrop: 1 });
  expect(result.chosen!.formats).toContain("weights4");
  expect(onnxSize(result.graph!)).toBeLessThan(onnxSize(small));
});
