import { describe, expect, test } from "vitest";
import { addDataset, h5File, h5Model, kerasArchive, noise, sequential, type TestLayer } from "../../../test/keras.ts";
import { expectClose, layer, ops, run } from "../../../test/keras-layers.ts";
import { float32, tensor, toFloat32 } from "../../tensor/tensor.ts";
import { memorySource } from "../source.ts";
import { readKeras } from "./index.ts";

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
