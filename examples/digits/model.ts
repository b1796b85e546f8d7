import { type Graph, makeGraph, makeNode, type Node, type Value } from "../../src/graph/graph.ts";
import type { Runtime } from "../../src/platform/runtime.ts";
import type { Random } from "../../src/random.ts";
import { float32, type Tensor, toFloat32 } from "../../src/tensor/tensor.ts";
import { gram, solve } from "./linear.ts";
import { side } from "./render.ts";

/** Labelled pictures. */
export interface Pictures {
  /** `count` pictures of 28x28 bytes. */
  readonly pixels: Uint8Array;
  readonly labels: Uint8Array;
}

/** What the sidecar says: the network sees `(x / 255 - mean) / std`. */
export const normalization = { mean: 0.1, std: 0.25 };

/** Output channels and kernel size of each convolution, and the window of the pooling (stride 2) that ends its block. */
const layers = [
  { channels: 32, kernel: 5, pool: 2 },
  { channels: 64, kernel: 3, pool: 2 },
  { channels: 160, kernel: 3, pool: 3 },
];
const classes = 10;

/**
 * A small convolutional network for the digits that takes no gradient: each convolution's filters are patches of its
 * own input, whitened (a patch p becomes the filter Σ⁻¹(p - μ), so that its response is the inner product of whitened
 * patches; Coates and Ng 2012, "Learning feature representations with k-means"), batch normalization carries the
 * statistics of the responses, and the last layer is a ridge regression on one-hot targets, in float64.
 */
export async function fitModel(train: Pictures, runtime: Runtime, random: Random): Promise<Graph> {
  const weights = new Map<string, Tensor>();
  const nodes: Node[] = [];
  const sample = pictures(train, 0, 500);
  let from = "image";
  for (const [i, layer] of layers.entries()) {
    const seen = (await features(network(nodes, weights, from), sample, runtime))!;
    const stream = random.fork(`layer ${i}`);
    weights.set(`conv${i}.weight`, patchFilters(seen, layer, stream));
    weights.set(`conv${i}.bias`, float32([layer.channels], new Float32Array(layer.channels)));
    const pads = Array<number>(4).fill((layer.kernel - 1) / 2);
    const inputs = [from, `conv${i}.weight`, `conv${i}.bias`];
    nodes.push(
      makeNode("Conv", inputs, [`conv${i}`], { kernel_shape: [layer.kernel, layer.kernel], pads }, `conv${i}`),
    );
    const responses = await features(network(nodes, weights, `conv${i}`), sample, runtime);
    for (const [name, value] of normalizationOf(responses, i, stream)) weights.set(name, value);
    const statistics = ["scale", "shift", "mean", "var"].map((name) => `norm${i}.${name}`);
    nodes.push(makeNode("BatchNormalization", [`conv${i}`, ...statistics], [`norm${i}`], {}, `norm${i}`));
    nodes.push(makeNode("Relu", [`norm${i}`], [`relu${i}`], {}, `relu${i}`));
    const window = { kernel_shape: [layer.pool, layer.pool], strides: [2, 2] };
    const pool = i === layers.length - 1 ? "AveragePool" : "MaxPool";
    nodes.push(makeNode(pool, [`relu${i}`], [`pool${i}`], window, `pool${i}`));
    from = `pool${i}`;
  }
  nodes.push(makeNode("Flatten", [from], ["flat"], { axis: 1 }, "flatten"));
  nodes.push(makeNode("Dropout", ["flat"], ["features"], {}, "dropout"));
  const { weight, bias } = await fitLast(network(nodes, weights, "features"), train, runtime);
  weights.set("fc.weight", weight);
  weights.set("fc.bias", bias);
  nodes.push(makeNode("Gemm", ["features", "fc.weight", "fc.bias"], ["scores"], { transB: 1 }, "fc"));
  nodes.push(makeNode("Identity", ["scores"], ["logits"], {}, "output"));
  const graph = network(nodes, weights, "logits");
  return { ...graph, outputs: [value("logits", [null, classes])], metadata: { task: "classification" } };
}

function network(nodes: readonly Node[], weights: ReadonlyMap<string, Tensor>, output: string): Graph {
  // a graph may not hand out its input unchanged
  const whole = output === "image" ? [makeNode("Identity", ["image"], ["same"])] : nodes;
  return makeGraph({
    name: "digits",
    nodes: [...whole],
    weights: new Map(weights),
    inputs: [value("image", ["N", 1, side, side])],
    outputs: [{ name: output === "image" ? "same" : output, type: { kind: "tensor", dtype: "float32" } }],
    opsets: { "": 17 },
    irVersion: 8,
  });
}

function value(name: string, shape: (number | string | null)[]): Value {
  return { name, type: { kind: "tensor", dtype: "float32", shape } };
}

/** Pictures `from` up to `to` as the network takes them: `[n, 1, 28, 28]`. */
export function pictures(set: Pictures, from: number, to: number): Tensor {
  const pixels = set.pixels.subarray(from * side * side, to * side * side);
  const { mean, std } = normalization;
  return float32(
    [to - from, 1, side, side],
    Float32Array.from(pixels, (x) => (x / 255 - mean) / std),
  );
}

async function features(graph: Graph, image: Tensor, runtime: Runtime): Promise<Tensor> {
  const session = await runtime.open(graph);
  const output = await session.run({ image });
  await session.release();
  return Object.values(output)[0]!;
}

/** Whitened random patches of `x` `[n, c, h, w]` as filters `[channels, c, k, k]` that respond with variance near 1. */
function patchFilters(x: Tensor, layer: { channels: number; kernel: number }, random: Random): Tensor {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const k = layer.kernel;
  const size = c * k * k;
  const data = toFloat32(x);
  const count = 20_000;
  const patches = new Float64Array(count * size);
  for (let p = 0; p < count; p++) {
    const [image, top, left] = [random.int(n), random.int(h - k + 1), random.int(w - k + 1)];
    for (let i = 0; i < size; i++) {
      const [channel, dy, dx] = [Math.floor(i / (k * k)), Math.floor(i / k) % k, i % k];
      patches[p * size + i] = data[((image * c + channel) * h + top + dy) * w + left + dx]!;
    }
  }
  const mean = new Float64Array(size);
  for (let i = 0; i < patches.length; i++) mean[i % size]! += patches[i]! / count;
  for (let i = 0; i < patches.length; i++) patches[i]! -= mean[i % size]!;
  const covariance = gram(patches, count, size);
  let trace = 0;
  for (let i = 0; i < size; i++) trace += covariance.data[i * size + i]!;
  // one column a filter: patches with some ink, so that no filter answers to blank paper
  const chosen = mostVaried(patches, size, layer.channels, random);
  const columns = new Float64Array(size * layer.channels);
  for (const [f, p] of chosen.entries()) {
    for (let i = 0; i < size; i++) columns[i * layer.channels + f] = patches[p * size + i]!;
  }
  const whitened = solve(covariance, { rows: size, columns: layer.channels, data: columns }, (0.1 * trace) / size).data;
  const out = new Float32Array(layer.channels * size);
  for (let f = 0; f < layer.channels; f++) {
    let norm = 0;
    for (let i = 0; i < size; i++) norm += whitened[i * layer.channels + f]! ** 2;
    for (let i = 0; i < size; i++) out[f * size + i] = whitened[i * layer.channels + f]! / Math.sqrt(norm);
  }
  return float32([layer.channels, c, k, k], out);
}

/** Indices of random patches, each the most energetic of four candidates. */
function mostVaried(patches: Float64Array, size: number, count: number, random: Random): number[] {
  const energy = (p: number): number => {
    let sum = 0;
    for (let i = p * size; i < (p + 1) * size; i++) sum += patches[i]! ** 2;
    return sum;
  };
  return Array.from({ length: count }, () => {
    const candidates = Array.from({ length: 4 }, () => random.int(patches.length / size));
    return candidates.reduce((best, p) => (energy(p) > energy(best) ? p : best));
  });
}

/** Batch normalization's four vectors for layer `i`: the responses' own statistics, a varied scale, a threshold. */
function normalizationOf(x: Tensor, i: number, random: Random): Map<string, Tensor> {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const data = toFloat32(x);
  const plane = h * w;
  const moments = Array.from({ length: c }, (_, channel) => {
    let [sum, squares] = [0, 0];
    for (let image = 0; image < n; image++) {
      const at = (image * c + channel) * plane;
      for (let p = at; p < at + plane; p++) {
        sum += data[p]!;
        squares += data[p]! ** 2;
      }
    }
    const mean = sum / (n * plane);
    return { mean, variance: squares / (n * plane) - mean ** 2 };
  });
  const vector = (make: (channel: number) => number): Tensor =>
    float32(
      [c],
      Float32Array.from({ length: c }, (_, k) => make(k)),
    );
  return new Map([
    [`norm${i}.scale`, vector(() => 0.7 + 0.6 * random.next())],
    [`norm${i}.shift`, vector(() => -0.1 - 0.2 * random.next())],
    [`norm${i}.mean`, vector((k) => moments[k]!.mean)],
    [`norm${i}.var`, vector((k) => moments[k]!.variance)],
  ]);
}

/** Ridge regression of the classes (+1 and -1) on the features, all in float64. */
async function fitLast(body: Graph, train: Pictures, runtime: Runtime): Promise<{ weight: Tensor; bias: Tensor }> {
  const count = train.labels.length;
  const x = await allFeatures(body, train, runtime);
  const size = x.length / count;
  const width = size + 1;
  const extended = new Float64Array(count * width);
  for (let i = 0; i < count; i++) {
    extended.set(x.subarray(i * size, (i + 1) * size), i * width);
    extended[i * width + size] = 1;
  }
  const targets = new Float64Array(width * classes);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < classes; c++) {
      const y = train.labels[i] === c ? 1 : -1;
      for (let j = 0; j < width; j++) targets[j * classes + c]! += y * extended[i * width + j]!;
    }
  }
  const solution = solve(
    gram(extended, count, width),
    { rows: width, columns: classes, data: targets },
    0.005 * count,
  ).data;
  // one-hot targets make scores in -1..1; this temperature makes their softmax a sensible probability
  const temperature = 6;
  const at = (c: number, j: number): number => temperature * solution[j * classes + c]!;
  return {
    weight: float32(
      [classes, size],
      Float32Array.from({ length: classes * size }, (_, k) => at(Math.floor(k / size), k % size)),
    ),
    bias: float32(
      [classes],
      Float32Array.from({ length: classes }, (_, c) => at(c, size)),
    ),
  };
}

async function allFeatures(body: Graph, set: Pictures, runtime: Runtime): Promise<Float32Array> {
  const session = await runtime.open(body);
  const parts: Float32Array[] = [];
  for (let from = 0; from < set.labels.length; from += 250) {
    const output = await session.run({ image: pictures(set, from, Math.min(from + 250, set.labels.length)) });
    parts.push(toFloat32(Object.values(output)[0]!));
  }
  await session.release();
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Share of pictures that the model labels right. */
export async function accuracy(graph: Graph, set: Pictures, runtime: Runtime): Promise<number> {
  const scores = await allFeatures(graph, set, runtime);
  let right = 0;
  for (let i = 0; i < set.labels.length; i++) {
    const row = scores.subarray(i * classes, (i + 1) * classes);
    if (row.indexOf(Math.max(...row)) === set.labels[i]) right++;
  }
  return right / set.labels.length;
}
