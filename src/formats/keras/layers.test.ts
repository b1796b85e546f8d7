import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { addDataset, h5File, h5Model, kerasArchive, noise, sequential, type TestLayer } from "../../../test/keras.ts";
import type { Graph } from "../../graph/graph.ts";
import { assertValid } from "../../graph/validate.ts";
import { runtime } from "../../platform/node.ts";
import type { Runtime } from "../../platform/runtime.ts";
import { float32, type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";
import { memorySource } from "../source.ts";
import { readKeras } from "./index.ts";

let engine: Runtime;
const opened: { release(): Promise<void> }[] = [];
beforeAll(async () => {
  engine = await runtime({ threads: 1 });
});
afterAll(async () => {
  for (const session of opened) await session.release();
});

async function run(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Promise<readonly Tensor[]> {
  assertValid(graph);
  const session = await engine.open(graph);
  opened.push(session);
  const outputs = await session.run(feeds);
  return graph.outputs.map(({ name }) => outputs[name]!);
}

/** A chain of layers, written as HDF5, read and run. */
async function chain(layers: readonly TestLayer[], x: Tensor): Promise<{ graph: Graph; y: Tensor }> {
  const bytes = await h5Model(sequential(x.shape.slice(1), layers), layers);
  const graph = await readKeras(memorySource(bytes));
  const [y] = await run(graph, { image: x });
  return { graph, y: y! };
}

function expectClose(y: Tensor, shape: readonly number[], expected: ArrayLike<number>): void {
  expect(y.shape).toEqual(shape);
  const got = toFloat32(y);
  const scale = Math.max(...Array.from(expected, Math.abs));
  const worst = got.reduce((most, v, i) => Math.max(most, Math.abs(v - expected[i]!)), 0);
  expect(worst / scale).toBeLessThan(1e-5);
}

const layer = (
  class_name: string,
  config: Readonly<Record<string, unknown>> = {},
  weights: Readonly<Record<string, Tensor>> = {},
): TestLayer => ({ class_name, config: { name: class_name.toLowerCase(), ...config }, weights });

const ops = (graph: Graph): string[] => graph.nodes.map(({ op }) => op);

/** Convolution of [n, h, w, c] with [kh, kw, c, o], TensorFlow's "same" padding: what is left over goes to the end. */
function conv(x: Tensor, kernel: Tensor, stride: number, same: boolean): { shape: number[]; data: Float64Array } {
  const [n, h, w, channels] = x.shape as [number, number, number, number];
  const [kh, kw, , out] = kernel.shape as [number, number, number, number];
  const size = (length: number, k: number) => Math.ceil((same ? length : length - k + 1) / stride);
  const [oh, ow] = [size(h, kh), size(w, kw)];
  const start = (length: number, k: number, o: number) => (same ? Math.max(0, (o - 1) * stride + k - length) >> 1 : 0);
  const [top, left] = [start(h, kh, oh), start(w, kw, ow)];
  const [a, b] = [toFloat32(x), toFloat32(kernel)];
  const data = new Float64Array(n * oh * ow * out);
  for (let at = 0; at < data.length; at++) {
    const o = at % out;
    const column = Math.floor(at / out) % ow;
    const row = Math.floor(at / (out * ow)) % oh;
    const sample = Math.floor(at / (out * ow * oh));
    for (let i = 0; i < kh; i++) {
      for (let j = 0; j < kw; j++) {
        const [y, z] = [row * stride + i - top, column * stride + j - left];
        if (y < 0 || z < 0 || y >= h || z >= w) continue;
        for (let c = 0; c < channels; c++) {
          data[at]! += a[((sample * h + y) * w + z) * channels + c]! * b[((i * kw + j) * channels + c) * out + o]!;
        }
      }
    }
  }
  return { shape: [n, oh, ow, out], data };
}

describe("layers", () => {
  const x = noise([2, 7, 6, 3], 5);
  test.each([
    ["valid", 1],
    ["same", 1],
    ["same", 2],
    ["same", 3],
    ["valid", 2],
  ])("a convolution with padding %s and stride %i", async (padding, stride) => {
    const kernel = noise([3, 4, 3, 5]);
    const settings = { padding, strides: [stride, stride], use_bias: false };
    const { graph, y } = await chain([layer("Conv2D", settings, { kernel })], x);
    const { shape, data } = conv(x, kernel, stride, padding === "same");
    expectClose(y, shape, data);
    expect(ops(graph)).toEqual(["Transpose", "Conv", "Transpose"]);
    expect([...graph.weights.keys()]).toEqual(["conv2d/kernel"]);
    expect(graph.weights.get("conv2d/kernel")!.shape).toEqual([5, 3, 3, 4]);
  });

  test("a depthwise convolution makes `multiplier` channels of each", async () => {
    const depthwise_kernel = noise([2, 2, 3, 2]);
    const { y } = await chain([layer("DepthwiseConv2D", { use_bias: false }, { depthwise_kernel })], x);
    // the same as a dense kernel that is zero between unlike channels
    const dense = noise([2, 2, 3, 6]);
    const [from, to] = [toFloat32(depthwise_kernel), toFloat32(dense)];
    for (const at of to.keys()) {
      const [o, c, tap] = [at % 6, Math.floor(at / 6) % 3, Math.floor(at / 18)];
      to[at] = Math.floor(o / 2) === c ? from[tap * 6 + o]! : 0;
    }
    const { shape, data } = conv(x, dense, 1, false);
    expectClose(y, shape, data);
  });

  test("a Dense behind a Flatten gets its rows sorted: nothing is transposed", async () => {
    const [kernel, weights] = [noise([2, 2, 3, 4]), { kernel: noise([6 * 5 * 4, 3]), bias: noise([3]) }];
    const layers = [
      layer("Conv2D", { use_bias: false }, { kernel }),
      layer("Flatten"),
      layer("Dropout"),
      layer("Dense", {}, weights),
    ];
    const { graph, y } = await chain(layers, x);
    const { data } = conv(x, kernel, 1, false);
    const [w, b] = [toFloat32(weights.kernel), toFloat32(weights.bias)];
    const expected = Array.from({ length: 6 }, (_, at) => {
      const [sample, unit] = [Math.floor(at / 3), at % 3];
      let sum = b[unit]!;
      for (let i = 0; i < 120; i++) sum += data[sample * 120 + i]! * w[i * 3 + unit]!;
      return sum;
    });
    expectClose(y, [2, 3], expected);
    expect(ops(graph)).toEqual(["Transpose", "Conv", "Flatten", "Gemm"]);
  });

  test("what looks at every element by itself, and merges, keep the order of the axes", async () => {
    const kernel = noise([1, 1, 3, 3]);
    const vector = (seed: number) => noise([3], seed);
    const weights = { gamma: vector(1), beta: vector(2), moving_mean: vector(3) };
    const moving_variance = noise([3], 4);
    toFloat32(moving_variance).forEach((v, i, all) => {
      all[i] = Math.abs(v) + 0.5;
    });
    const layers = [
      layer("Conv2D", { use_bias: false }, { kernel }),
      layer("BatchNormalization", { axis: [3], epsilon: 0.01 }, { ...weights, moving_variance }),
      layer("ReLU", { max_value: 1 }),
      layer("GlobalAveragePooling2D"),
    ];
    const { graph, y } = await chain(layers, x);
    const { data } = conv(x, kernel, 1, false);
    const [gamma, beta, mean] = Object.values(weights).map(toFloat32);
    const variance = toFloat32(moving_variance);
    const expected = new Float64Array(6);
    for (const [at, v] of data.entries()) {
      const c = at % 3;
      const z = ((v - mean![c]!) / Math.sqrt(variance[c]! + 0.01)) * gamma![c]! + beta![c]!;
      expected[Math.floor(at / 126) * 3 + c]! += Math.min(1, Math.max(0, z)) / 42;
    }
    expectClose(y, [2, 3], expected);
    expect(ops(graph)).toEqual(["Transpose", "Conv", "BatchNormalization", "Clip", "GlobalAveragePool", "Flatten"]);
  });

  test("an LSTM's gates are put in ONNX's order", async () => {
    const [features, size, steps] = [3, 2, 4];
    const weights = {
      kernel: noise([features, 4 * size]),
      recurrent_kernel: noise([size, 4 * size], 2),
      bias: noise([8], 3),
    };
    const signal = noise([1, steps, features], 4);
    const { y } = await chain([layer("LSTM", { return_sequences: true }, weights)], signal);
    const [w, r, b, s] = [...Object.values(weights), signal].map(toFloat32) as Float32Array[];
    const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));
    let [h, c] = [new Array<number>(size).fill(0), new Array<number>(size).fill(0)];
    const expected: number[] = [];
    for (let step = 0; step < steps; step++) {
      const z = Array.from({ length: 4 * size }, (_, unit) => {
        let sum = b![unit]!;
        for (let i = 0; i < features; i++) sum += s![step * features + i]! * w![i * 4 * size + unit]!;
        for (let i = 0; i < size; i++) sum += h[i]! * r![i * 4 * size + unit]!;
        return sum;
      });
      // input, forget, cell, output
      const gate = (k: number, unit: number) => z[k * size + unit]!;
      c = c.map((v, unit) => sigmoid(gate(1, unit)) * v + sigmoid(gate(0, unit)) * Math.tanh(gate(2, unit)));
      h = c.map((v, unit) => sigmoid(gate(3, unit)) * Math.tanh(v));
      expected.push(...h);
    }
    expectClose(y, [1, steps, size], expected);
  });

  test("a transposed convolution adds each input's share", async () => {
    const [kernel, stride] = [noise([3, 3, 2, 3]), 2];
    const settings = { padding: "same", strides: [stride, stride], use_bias: false };
    const { y } = await chain([layer("Conv2DTranspose", settings, { kernel })], noise([1, 3, 3, 3], 6));
    const [a, k] = [toFloat32(noise([1, 3, 3, 3], 6)), toFloat32(kernel)];
    const expected = new Float64Array(6 * 6 * 2);
    for (let at = 0; at < 27 * 18; at++) {
      const [o, c, j, i] = [at % 2, Math.floor(at / 2) % 3, Math.floor(at / 6) % 3, Math.floor(at / 18) % 3];
      const [column, row] = [Math.floor(at / 54) % 3, Math.floor(at / 162)];
      const [p, q] = [row * stride + i, column * stride + j];
      // of the full result of 7, the first 6: the convolution pads one element, at the end
      if (p > 5 || q > 5) continue;
      expected[(p * 6 + q) * 2 + o]! += a[(row * 3 + column) * 3 + c]! * k[((i * 3 + j) * 2 + o) * 3 + c]!;
    }
    expectClose(y, [1, 6, 6, 2], expected);
  });

  test("an unknown class is named, with the nearest one", async () => {
    await expect(chain([layer("Conv2DD")], x)).rejects.toThrow(/layer 'conv2dd' \(Conv2DD\).*'Conv2D'/);
    await expect(chain([layer("Lambda")], x)).rejects.toThrow(/layer 'lambda' \(Lambda\).*Python/);
  });

  test("a mask is refused where it would matter", async () => {
    const weights = { kernel: noise([4, 8]), recurrent_kernel: noise([2, 8]), bias: noise([8]) };
    const embed = layer("Embedding", { mask_zero: true }, { embeddings: noise([5, 4]) });
    await expect(chain([embed, layer("LSTM", {}, weights)], noise([1, 3]))).rejects.toThrow(/LSTM.*masked/);
  });
});

describe("models", () => {
  const dense = (name: string, from: number, to: number, seed: number): TestLayer => ({
    class_name: "Dense",
    config: { name },
    weights: { kernel: noise([from, to], seed), bias: noise([to], seed + 1) },
  });
  const input = (name: string) => ({
    class_name: "InputLayer",
    name,
    config: { name, batch_input_shape: [null, 3] },
    inbound_nodes: [],
  });
  const apply = ({ weights }: TestLayer, x: readonly number[]): number[] => {
    const [w, b] = [toFloat32(weights!.kernel!), toFloat32(weights!.bias!)];
    return Array.from(b, (start, unit) => x.reduce((sum, v, i) => sum + v * w[i * b.length + unit]!, start));
  };
  const values = [0.5, -1, 2];
  const x = noise([1, 3], 9);
  toFloat32(x).set(values);

  test("a layer called twice shares its weights, and outputs have the names of their layers", async () => {
    const shared = dense("shared", 3, 3, 1);
    const calls = [[["in", 0, 0, {}]], [["shared", 0, 0, {}]]];
    const add = {
      class_name: "Add",
      name: "sum",
      config: { name: "sum" },
      inbound_nodes: [
        [
          ["shared", 0, 0, {}],
          ["shared", 1, 0, {}],
        ],
      ],
    };
    const architecture = {
      class_name: "Functional",
      config: {
        name: "net",
        layers: [input("in"), { ...shared, weights: undefined, name: "shared", inbound_nodes: calls }, add],
        input_layers: [["in", 0, 0]],
        output_layers: [
          ["sum", 0, 0],
          ["in", 0, 0],
        ],
      },
    };
    const graph = await readKeras(memorySource(await h5Model(architecture, [shared])));
    expect([...graph.weights.keys()]).toEqual(["shared/kernel", "shared/bias"]);
    expect(graph.nodes.map(({ name }) => name)).toEqual(["shared", "shared/call_1", "sum", expect.any(String)]);
    expect(graph.outputs.map(({ name }) => name)).toEqual(["sum", "in_1"]);
    const [sum, same] = await run(graph, { in: x });
    const first = apply(shared, values);
    expectClose(
      sum!,
      [1, 3],
      apply(shared, first).map((v, i) => v + first[i]!),
    );
    expectClose(same!, [1, 3], values);
  });

  test("nested models find their weights among those of the outer layer", async () => {
    const [inner, outer] = [dense("fc", 3, 2, 3), dense("fc_out", 2, 2, 5)];
    const nested = sequential([3], [inner]) as { config: object };
    const architecture = sequential(
      [3],
      [{ class_name: "Sequential", config: { ...nested.config, name: "inner" } }, outer],
    );
    const stored = {
      config: { name: "inner" },
      weights: Object.fromEntries(Object.entries(inner.weights!).map(([k, w]) => [`fc/${k}`, w])),
    };
    const graph = await readKeras(memorySource(await h5Model(architecture, [stored, outer])));
    expect([...graph.weights.keys()]).toContain("inner/fc/kernel");
    const [y] = await run(graph, { image: x });
    expectClose(y!, [1, 2], apply(outer, apply(inner, values)));
  });

  test("a model in a model in a model finds its weights", async () => {
    const inner = dense("fc", 3, 2, 3);
    const nest = (name: string, layer: object) => {
      const { class_name, config } = sequential([3], [layer as TestLayer]) as { class_name: string; config: object };
      return { class_name, config: { ...config, name } };
    };
    const architecture = sequential([3], [nest("middle", nest("inmost", inner))]);
    const stored = Object.entries(inner.weights!).map(([k, w]) => [`fc/${k}`, w] as const);
    const bytes = await h5File((file) => {
      file.create_attribute("model_config", JSON.stringify(architecture));
      const group = file.create_group("model_weights").create_group("middle");
      group.create_attribute(
        "weight_names",
        stored.map(([name]) => name),
      );
      for (const [name, weight] of stored) addDataset(group, name, weight);
    });
    const graph = await readKeras(memorySource(bytes));
    expect([...graph.weights.keys()]).toEqual(["middle/inmost/fc/kernel", "middle/inmost/fc/bias"]);
    const [y] = await run(graph, { image: x });
    expectClose(y!, [1, 2], apply(inner, values));
  });

  test.each([
    ["Keras 2", "Functional", 2, 1, 1],
    ["Keras 2", "Sequential", 2, 1, 1],
    ["Keras 2, built by its first call", "Sequential", 2, 0, 0],
    ["Keras 3", "Functional", 3, 0, 1],
    ["Keras 3", "Sequential", 3, 0, 0],
  ])("calls of nested models are told apart: %s, %s", async (_, class_name, keras, first, firstOutput) => {
    const history = (from: string, call: number) => ({
      class_name: "__keras_tensor__",
      config: { keras_history: [from, call, 0] },
    });
    const call = (from: string, number: number): unknown =>
      keras === 2 ? [[from, number, 0, {}]] : { args: [history(from, number)], kwargs: {} };
    const inner = dense("fc", 3, 3, 3);
    const layers = [input("inside"), { ...inner, weights: undefined, name: "fc", inbound_nodes: [call("inside", 0)] }];
    const ends = class_name === "Functional" && { input_layers: [["inside", 0, 0]], output_layers: [["fc", 0, 0]] };
    const inbound_nodes = [call("in", 0), call("base", first)];
    const base = { class_name, name: "base", config: { name: "base", layers, ...ends }, inbound_nodes };
    const architecture = {
      class_name: "Functional",
      config: {
        name: "net",
        layers: [input("in"), base],
        input_layers: [["in", 0, 0]],
        output_layers: [0, 1].map((i) => ["base", firstOutput + i, 0]),
      },
    };
    const stored = {
      config: { name: "base" },
      weights: Object.fromEntries(Object.entries(inner.weights!).map(([k, w]) => [`fc/${k}`, w])),
    };
    const graph = await readKeras(memorySource(await h5Model(architecture, [stored])));
    expect(graph.nodes.map(({ name }) => name)).toEqual(["base/fc", "base/call_1/fc"]);
    const [once, twice] = await run(graph, { in: x });
    expectClose(once!, [1, 3], apply(inner, values));
    expectClose(twice!, [1, 3], apply(inner, apply(inner, values)));
  });

  test.each([
    ["x * x", "math.multiply", (v: number) => v * v],
    ["x + x", "__operators__.add", (v: number) => v + v],
  ])("a TensorFlow function of one tensor twice, floats or integers: %s", async (_, name, expected) => {
    for (const dtype of ["float32", "int32"] as const) {
      const given = input("in");
      const inbound_nodes = [["in", 0, 0, { y: ["in", 0, 0], name: null }]];
      const op = { class_name: "TFOpLambda", name: "op", config: { name: "op", function: name }, inbound_nodes };
      const architecture = {
        class_name: "Functional",
        config: {
          name: "net",
          layers: [{ ...given, config: { ...given.config, dtype } }, op],
          input_layers: [["in", 0, 0]],
          output_layers: [["op", 0, 0]],
        },
      };
      const graph = await readKeras(memorySource(await h5Model(architecture, [])));
      const whole = [3, -2, 5];
      const feed = dtype === "int32" ? tensor("int32", [1, 3], Int32Array.from(whole)) : float32([1, 3], whole);
      const [y] = await run(graph, { in: feed });
      expectClose(y!, [1, 3], whole.map(expected));
    }
  });

  test("a .keras archive numbers its weights by class", async () => {
    const layers = [dense("a", 3, 2, 1), dense("b", 2, 2, 3)];
    const history = (from: string) => ({ class_name: "__keras_tensor__", config: { keras_history: [from, 0, 0] } });
    const architecture = {
      class_name: "Functional",
      config: {
        name: "net",
        layers: [
          input("in"),
          { ...layers[0], weights: undefined, inbound_nodes: [{ args: [history("in")], kwargs: {} }] },
          {
            class_name: "Add",
            config: { name: "plus" },
            module: "keras.src.ops.numpy",
            inbound_nodes: [{ args: [history("a"), 3], kwargs: {} }],
          },
          { ...layers[1], weights: undefined, inbound_nodes: [{ args: [history("plus")], kwargs: {} }] },
        ],
        input_layers: ["in", 0, 0],
        output_layers: [["b", 0, 0]],
      },
    };
    const stored = layers.flatMap(({ weights }, i) =>
      Object.values(weights!).map((w, k) => [`layers/dense${i === 0 ? "" : "_1"}/vars/${k}`, w] as const),
    );
    const graph = await readKeras(memorySource(await kerasArchive(architecture, Object.fromEntries(stored))));
    const [y] = await run(graph, { in: x });
    expectClose(
      y!,
      [1, 2],
      apply(
        layers[1]!,
        apply(layers[0]!, values).map((v) => v + 3),
      ),
    );
    expect(graph.metadata).toEqual({ "keras.version": "3.15.1" });
  });

  test("pictures may be given channels first, without a Transpose", async () => {
    const layers = [layer("Conv2D", { use_bias: false }, { kernel: noise([1, 1, 3, 2]) }), layer("GlobalMaxPooling2D")];
    const bytes = await h5Model(sequential([4, 5, 3], layers), layers);
    const graph = await readKeras(memorySource(bytes), { layout: "channels-first" });
    expect(graph.inputs[0]!.type).toMatchObject({ shape: ["N", 3, 4, 5] });
    expect(ops(graph)).toEqual(["Conv", "GlobalMaxPool", "Flatten"]);
  });
});
