/**
 * Gradients of pare beside PyTorch's autograd, with the same weights on the same batch: networks that pare builds, batch
 * normalization by the batch, and single layers.
 * `PARE_PYTHON_TORCH=python npx tsx bench/gradients.ts [CASE ...]`
 *
 * The error of a weight is |g - g'| / |g'| in the Euclidean norm. Results are recorded when all cases run.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readNpz, writeNpz } from "../src/formats/npy.ts";
import { edit } from "../src/graph/edit.ts";
import { float, type Graph, isNode, makeGraph, makeNode, type Node } from "../src/graph/graph.ts";
import { runtime } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { float32, int64, sizeOf, type Tensor, toFloat32, toNumbers } from "../src/tensor/tensor.ts";
import { architectures } from "../src/training/architectures/index.ts";
import { objectiveFor, objectiveOptions } from "../src/training/objective.ts";
import { optimizerOptions } from "../src/training/optimizers.ts";
import { trainingStep } from "../src/training/step.ts";
import { record, table } from "./document.ts";

interface Case {
  readonly graph: Graph;
  readonly input: Tensor;
  /** Classes, or absent for values in the shape of the output. */
  readonly labels?: Tensor;
  /** Options of the network, for the other side to build it. */
  readonly options?: Readonly<Record<string, number>>;
}

const chance = random(5);
const cpu = await runtime({ threads: 1 });

function normal(shape: readonly number[], deviation = 1): Tensor {
  return float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => chance.normal() * deviation),
  );
}

function integers(shape: readonly number[], below: number): Tensor {
  return int64(
    Array.from({ length: sizeOf(shape) }, () => chance.int(below)),
    shape,
  );
}

function built(arch: string, options: Readonly<Record<string, number>>, input: Tensor, labels: Tensor): Case {
  return { graph: withNorms(architectures[arch]!.build(options, random(3))), options, input, labels };
}

/** With normalizations as they are after some training: at the start, many of their gradients vanish. */
function withNorms(graph: Graph): Graph {
  return edit(graph, (draft) => {
    for (const node of graph.nodes.filter((n) => isNode(n, "BatchNormalization"))) {
      const [, scale, bias] = node.inputs as [string, string, string];
      const shape = graph.weights.get(scale)!.shape;
      draft.weights.set(
        scale,
        float32(
          shape,
          toFloat32(normal(shape, 0.2)).map((v) => 1 + v),
        ),
      );
      draft.weights.set(bias, normal(shape, 0.2));
    }
  });
}

/** A few nodes from x to y with normal weights. */
function layer(
  x: readonly number[],
  weights: Readonly<Record<string, readonly number[]>>,
  nodes: readonly Node[],
): Case {
  const graph = makeGraph({
    nodes,
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: x } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    weights: new Map(Object.entries(weights).map(([name, shape]) => [name, normal(shape, 0.3)])),
    opsets: { "": 21, "com.microsoft": 1 },
  });
  return { graph, input: normal(x) };
}

const bidirectional = { hidden_size: 16, direction: "bidirectional" };
const channels = { num_groups: 4, epsilon: float(1e-5) };
const blurred = { pads: [1, 1, 1, 1] };

/** By the names that peers/gradients.py knows. */
const cases: Readonly<Record<string, () => Case>> = {
  resnet20: () => built("resnet20", { size: 32, classes: 10 }, normal([8, 3, 32, 32]), integers([8], 10)),
  "mobilenet-v2": () => built("mobilenet-v2", { size: 96, classes: 10 }, normal([2, 3, 96, 96]), integers([2], 10)),
  vit: () => built("vit", { size: 32, layers: 1 }, normal([8, 3, 32, 32]), integers([8], 10)),
  gpt: () => built("gpt", { length: 64, layers: 1 }, integers([4, 64], 65), integers([4, 64], 65)),
  LSTM: () =>
    layer([20, 4, 12], { w: [2, 64, 12], r: [2, 64, 16], b: [2, 128] }, [
      makeNode("LSTM", ["x", "w", "r", "b"], ["y"], bidirectional),
    ]),
  GRU: () =>
    layer([20, 4, 12], { w: [2, 48, 12], r: [2, 48, 16], b: [2, 96] }, [
      makeNode("GRU", ["x", "w", "r", "b"], ["y"], { ...bidirectional, linear_before_reset: 1 }),
    ]),
  Conv1d: () =>
    layer([4, 6, 50], { w: [8, 6, 5], b: [8] }, [
      makeNode("Conv", ["x", "w", "b"], ["y"], { strides: [2], pads: [2, 2] }),
    ]),
  "Conv2d, grouped": () =>
    layer([4, 8, 17, 15], { w: [12, 2, 3, 3], b: [12] }, [
      makeNode("Conv", ["x", "w", "b"], ["y"], { strides: [2, 2], pads: [1, 1, 1, 1], group: 4 }),
    ]),
  "Conv2d, depthwise": () =>
    layer([4, 8, 17, 15], { w: [8, 1, 3, 3], b: [8] }, [
      makeNode("Conv", ["x", "w", "b"], ["y"], { pads: [1, 1, 1, 1], group: 8 }),
    ]),
  "Conv2d, dilated": () =>
    layer([4, 6, 17, 15], { w: [8, 6, 3, 3], b: [8] }, [
      makeNode("Conv", ["x", "w", "b"], ["y"], { pads: [2, 2, 2, 2], dilations: [2, 2] }),
    ]),
  Conv3d: () =>
    layer([2, 3, 9, 8, 7], { w: [4, 3, 3, 3, 3], b: [4] }, [
      makeNode("Conv", ["x", "w", "b"], ["y"], { strides: [2, 2, 2], pads: [1, 1, 1, 1, 1, 1] }),
    ]),
  ConvTranspose2d: () =>
    layer([4, 6, 9, 7], { w: [6, 4, 3, 3], b: [8] }, [
      makeNode("ConvTranspose", ["x", "w", "b"], ["y"], {
        strides: [2, 2],
        pads: [1, 1, 1, 1],
        output_padding: [1, 1],
        group: 2,
      }),
    ]),
  GroupNorm: () =>
    layer([4, 16, 9, 7], { scale: [16], bias: [16], w: [8, 16, 3, 3], b: [8] }, [
      makeNode("GroupNormalization", ["x", "scale", "bias"], ["n"], channels),
      makeNode("Conv", ["n", "w", "b"], ["y"], blurred),
    ]),
  LayerNorm: () =>
    layer([4, 10, 32], { scale: [32], bias: [32], w: [32, 24] }, [
      makeNode("LayerNormalization", ["x", "scale", "bias"], ["n"], { axis: -1, epsilon: float(1e-5) }),
      makeNode("MatMul", ["n", "w"], ["y"]),
    ]),
  Attention: () =>
    layer([4, 10, 32], { wq: [32, 32], wk: [32, 32], wv: [32, 32], wo: [32, 32] }, [
      ...["q", "k", "v"].map((name) => makeNode("MatMul", ["x", `w${name}`], [name])),
      makeNode("com.microsoft:MultiHeadAttention", ["q", "k", "v"], ["mixed"], { num_heads: 4 }),
      makeNode("MatMul", ["mixed", "wo"], ["y"]),
    ]),
};

/** Loss and gradients of one step: after the first, the velocity of SGD is the gradient. */
async function ours({ graph, input }: Case, labels: Tensor): Promise<ReadonlyMap<string, Tensor>> {
  const batch = { inputs: { [graph.inputs[0]!.name]: input }, labels, size: input.shape[0]! };
  const { model, objective, feeds, extraInputs } = await objectiveFor(graph, cpu, batch, objectiveOptions.parse({}));
  const fed = feeds(batch);
  const step = await trainingStep(model, cpu, fed, {
    objective,
    optimizer: optimizerOptions.parse({ optimizer: "sgd", nesterov: false, decay: 0 }),
    extraInputs,
  });
  const session = await cpu.open(step.graph);
  try {
    const outputs = await session.run({ ...fed, ...step.hyper(0, 0.1), ...Object.fromEntries(step.state) });
    const found = step.parameters.map(({ name }) => [name, outputs[step.next.get(`${name}/velocity`)!]!] as const);
    return new Map([["loss", outputs[step.loss]!], ...found]);
  } finally {
    await session.release();
  }
}

async function theirs(name: string, { graph, input, options = {} }: Case, labels: Tensor) {
  const [from, to] = [join(folder, "from.npz"), join(folder, "to.npz")];
  const weights = [...graph.weights].map(([weight, t]) => [`weight/${weight}`, t] as const);
  writeFileSync(from, writeNpz(new Map([["input", input], ["labels", labels], ...weights]), 0));
  const script = fileURLToPath(new URL("peers/gradients.py", import.meta.url));
  execFileSync(python, [script, name, JSON.stringify(options), from, to], { stdio: "inherit" });
  return readNpz(readFileSync(to), async () => Promise.reject(new Error("stored, not deflated")));
}

/** |a - b| and |b|. */
function norms(a: Tensor, b: Tensor): { readonly difference: number; readonly size: number } {
  const [left, right] = [toNumbers(a), toNumbers(b)];
  let [difference, size] = [0, 0];
  for (const [i, v] of right.entries()) {
    difference += (left[i]! - v) ** 2;
    size += v * v;
  }
  return { difference: Math.sqrt(difference), size: Math.sqrt(size) };
}

type Gradients = (weight: string) => Tensor;

/**
 * The largest relative error of any of the weights. A gradient that vanishes, as that of a bias which a
 * normalization takes away again, is compared with the gradient of all weights together.
 */
function worst(names: readonly string[], a: Gradients, b: Gradients, truth: Gradients): number {
  const sizes = names.map((name) => norms(truth(name), truth(name)).size);
  const whole = Math.hypot(...sizes);
  const errors = names.map((name, i) => {
    const scale = sizes[i]! < 1e-9 * whole ? whole : sizes[i]!;
    return norms(a(name), b(name)).difference / scale;
  });
  return Math.max(...errors);
}

interface Comparison {
  readonly weights: number;
  /** Weights that only one of the two trains. */
  readonly mistaken: readonly string[];
  /** Of the loss; of pare against PyTorch, both in float32; and of either against PyTorch in float64. */
  readonly errors: readonly [loss: number, both: number, pare: number, torch: number];
}

async function compare(name: string, made: Case): Promise<Comparison> {
  const labels = made.labels ?? normal(await outputShape(made));
  const reference = await theirs(name, made, labels);
  const mine = await ours(made, labels);
  const pare = (weight: string): Tensor => mine.get(weight)!;
  const float64 = (weight: string): Tensor => reference.get(`float64/${weight}`)!;
  const single = (weight: string): Tensor => reference.get(`float32/${weight}`)!;
  const known = [...reference.keys()].filter((key) => key.startsWith("float64/")).map((key) => key.slice(8));
  const both = known.filter((key) => mine.has(key) && key !== "loss");
  const mistaken = [
    ...known.filter((key) => !mine.has(key)),
    ...[...mine.keys()].filter((key) => !known.includes(key)),
  ];
  const errors = [
    worst(["loss"], pare, float64, float64),
    worst(both, pare, single, float64),
    worst(both, pare, float64, float64),
    worst(both, single, float64, float64),
  ] as const;
  return { weights: both.length, mistaken, errors };
}

const bar = 1e-4;

/**
 * Compares on new batches until the bar is met, twenty times at most: an activation within rounding of a kink of Relu
 * falls on either side, which changes gradients by thousandths, while a wrong rule is wrong on every batch.
 */
async function row(name: string): Promise<(string | number)[]> {
  const make = cases[name] ?? fault(`no case '${name}'; there are ${Object.keys(cases).join(", ")}`);
  for (let batches = 1; ; batches++) {
    const { weights, mistaken, errors } = await compare(name, make());
    if (batches < 20 && Math.max(...errors) >= bar) continue;
    if (mistaken.length > 0) console.error(`${name}: only one side trains ${mistaken.join(", ")}`);
    return [name, weights, mistaken.length, batches, ...errors.map((error) => error.toExponential(1))];
  }
}

async function outputShape({ graph, input }: Case): Promise<readonly number[]> {
  const session = await cpu.open(graph);
  const { y } = await session.run({ x: input });
  await session.release();
  return y!.shape;
}

function fault(message: string): never {
  throw new Error(message);
}

const python = process.env.PARE_PYTHON_TORCH ?? fault("PARE_PYTHON_TORCH must name a Python with torch");
const folder = mkdtempSync(join(tmpdir(), "pare-gradients-"));
const wanted = process.argv.slice(2);
const rows: (string | number)[][] = [];
try {
  for (const name of wanted.length > 0 ? wanted : Object.keys(cases)) {
    rows.push(await row(name));
    console.log(rows.at(-1)!.join("  "));
  }
} finally {
  rmSync(folder, { recursive: true });
}
const body = [
  "The largest relative error of any weight's gradient: of pare against PyTorch, both in float32, and of either against",
  "PyTorch in float64. Mistaken: weights that only one of the two trains. Batches: how many were drawn until all errors",
  `were below ${bar.toExponential()}, 20 at most. An activation within rounding of a kink of Relu falls on either side, which changes`,
  "gradients by thousandths, in PyTorch as in pare; a wrong rule is wrong on every batch. A gradient that vanishes is",
  "compared with that of all weights together.",
  "",
  table(["", "weights", "mistaken", "batches", "loss", "pare - PyTorch", "pare - float64", "PyTorch - float64"], rows),
].join("\n");
if (wanted.length === 0)
  record("gradients", "Gradients beside PyTorch", "PARE_PYTHON_TORCH=python npx tsx bench/gradients.ts", body);
