import { zipSync } from "fflate";
import * as h5 from "h5wasm";
import { describe, expect, test } from "vitest";
import { addDataset, h5File, h5Model, kerasArchive, noise, sequential, type TestLayer } from "../../../test/keras.ts";
import { PareError } from "../../errors.ts";
import { memorySource } from "../source.ts";
import { isKeras, readKeras } from "./index.ts";

const read = (bytes: Uint8Array) => readKeras(memorySource(bytes, "model.h5"));
const dense = (weights: TestLayer["weights"] = { kernel: noise([3, 2]), bias: noise([2]) }): TestLayer => ({
  class_name: "Dense",
  config: { name: "fc" },
  ...(weights && { weights }),
});

describe("a model file", () => {
  test("is recognized by its content", async () => {
    const layers = [dense()];
    expect(isKeras(memorySource(await h5Model(sequential([3], layers), layers)))).toBe(true);
    expect(isKeras(memorySource(zipSync({ "config.json": new Uint8Array(2) })))).toBe(true);
    for (const bytes of [[], [8], [0x89, 0x48, 0x44, 0x46], [80, 75]]) {
      expect(isKeras(memorySource(Uint8Array.from(bytes)))).toBe(false);
    }
  });

  test("keeps its weights lazy, and gives them in parts", async () => {
    const layers = [dense()];
    const graph = await read(await h5Model(sequential([3], layers), layers));
    const kernel = graph.weights.get("fc/kernel")!;
    expect(Buffer.from(kernel.bytes())).toEqual(Buffer.from(layers[0]!.weights!.kernel!.bytes()));
    expect(kernel.bytes(4, 8)).toEqual(kernel.bytes().subarray(4, 12));
    expect(graph.metadata).toEqual({ "keras.version": "2.4.0" });
  });

  test("is refused wherever it is cut short", async () => {
    const layers = [dense()];
    const bytes = await h5Model(sequential([3], layers), layers);
    for (const length of [8, 60, 500, 1000, bytes.length - 1]) {
      await expect(read(bytes.slice(0, length))).rejects.toThrow(/^model.h5: .*(damaged|cut short)/);
    }
    const archive = await kerasArchive(sequential([3], layers), {});
    for (const length of [8, 60, archive.length - 1]) {
      await expect(read(archive.slice(0, length))).rejects.toThrow(/^model.h5: .*damaged/);
    }
  });
});

test("a file that can't be opened leaves nothing behind in the library", async () => {
  const { FS } = await h5.ready;
  const files = () => new Set((FS as unknown as { readdir(path: string): string[] }).readdir("/"));
  const before = files();
  const layers = [dense()];
  const bytes = await h5Model(sequential([3], layers), layers);
  await expect(read(bytes.slice(0, 60))).rejects.toThrow(/damaged/);
  expect([...files()].filter((name) => !before.has(name))).toEqual([]);
});

describe("what is wrong is said", () => {
  const layers = [dense()];
  const functional = (list: readonly object[], output: unknown) => ({
    class_name: "Functional",
    config: { name: "net", layers: list, input_layers: [["in", 0, 0]], output_layers: output },
  });
  const input = (shape: unknown) => ({
    class_name: "InputLayer",
    name: "in",
    config: { name: "in", batch_input_shape: shape },
  });
  const relu = (name: string, from: unknown) => ({
    class_name: "ReLU",
    name,
    config: { name },
    inbound_nodes: [[from]],
  });
  const good = sequential([3], layers);

  test.each([
    ["an architecture that is missing", undefined, layers, /no Keras architecture/],
    ["a subclassed model", { class_name: "MyModel", config: {} }, layers, /class 'MyModel'.*Sequential and Functional/],
    ["no layers", { class_name: "Functional", config: {} }, layers, /lists no layers/],
    ["weights that are missing", good, [dense({})], /layer 'fc' \(Dense\): its weights are missing/],
    [
      "one weight that is missing",
      good,
      [dense({ kernel: noise([3, 2]) })],
      /weight 'bias' is missing.*'fc\/kernel:0'/,
    ],
    [
      "a weight of another rank",
      good,
      [dense({ kernel: noise([3, 2, 1]), bias: noise([2]) })],
      /'kernel' has shape \[3, 2, 1\]/,
    ],
    [
      "weights for other inputs",
      good,
      [dense({ kernel: noise([4, 2]), bias: noise([2]) })],
      /for 4 channels, its input has 3/,
    ],
    [
      "a cycle",
      functional([input([null, 3]), relu("a", ["b", 0, 0]), relu("b", ["a", 0, 0])], [["b", 0, 0]]),
      [],
      /depends on its own output/,
    ],
    ["a layer that is not there", functional([input([null, 3])], [["x", 0, 0]]), [], /no layer 'x'/],
    [
      "an output that is not there",
      functional([input([null, 3]), relu("a", ["in", 0, 0])], [["a", 0, 7]]),
      [],
      /no output 7/,
    ],
    [
      "a connection that is none",
      functional([input([null, 3]), relu("a", ["in", -1, 0])], [["a", 0, 0]]),
      [],
      /one of its connections is/,
    ],
    [
      "a shape that is none",
      functional([input([null, "3"])], [["in", 0, 0]]),
      [],
      /'in' \(InputLayer\): its shape is \[null,"3"\]/,
    ],
    [
      "settings of another kind",
      sequential([3, 3, 1], [{ class_name: "MaxPooling2D", config: { name: "p", pool_size: "two" } }]),
      [],
      /'pool_size' should be 2 whole numbers, got "two"/,
    ],
  ])("%s", async (_, architecture, stored, expected) => {
    const refusal = expect(read(await h5Model(architecture, stored as TestLayer[]))).rejects;
    await refusal.toThrow(expected);
    await refusal.toBeInstanceOf(PareError);
  });

  test("an architecture nested too deeply", async () => {
    const depth = 50_000;
    const deep = `${'{"class_name":"Sequential","config":{"name":"n","layers":['.repeat(depth)}${"]}}".repeat(depth)}`;
    await expect(read(await h5Model(deep, layers))).rejects.toBeInstanceOf(PareError);
  });

  test("models that call each other twice, level upon level", async () => {
    let net = functional([input([null, 3]), relu("last", ["in", 0, 0])], [["last", 0, 0]]);
    for (let level = 0; level < 40; level++) {
      const twice = { ...net, name: "inner", inbound_nodes: [[["in", 0, 0, {}]], [["inner", 1, 0, {}]]] };
      net = functional([input([null, 3]), twice], [["inner", 2, 0]]);
    }
    await expect(read(await h5Model(net, []))).rejects.toThrow(/nested models come to more than 100000 layers/);
  });

  test("weights that are no floats, and groups in their place", async () => {
    const bytes = (write: Parameters<typeof h5File>[0]) =>
      h5File((file) => {
        file.create_attribute("model_config", JSON.stringify(good));
        const group = file.create_group("model_weights").create_group("fc");
        group.create_attribute("weight_names", ["fc/kernel:0", "fc/bias:0"]);
        addDataset(group, "fc/bias:0", noise([2]));
        write(file);
      });
    const whole = bytes((file) => {
      const data = new Int32Array(6);
      (file.get("model_weights/fc/fc") as typeof file).create_dataset({ name: "kernel:0", data, shape: [3, 2] });
    });
    await expect(read(await whole)).rejects.toThrow(/kernel:0' does not hold little-endian floats/);
    const group = bytes((file) => void (file.get("model_weights/fc/fc") as typeof file).create_group("kernel:0"));
    await expect(read(await group)).rejects.toThrow(/lacks the dataset/);
  });
});
