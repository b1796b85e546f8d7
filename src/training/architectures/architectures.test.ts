import { expect, test } from "vitest";
import { syntheticFeeds } from "../../data/synthetic.ts";
import { encodeOnnx } from "../../formats/onnx/index.ts";
import { runtime } from "../../platform/node.ts";
import { random } from "../../random.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { parametersOf } from "../parameters.ts";
import { architectures } from "./index.ts";

const onnx = await runtime({ threads: 1 });
const build = (name: string, options: object, seed = 1) => {
  const { options: schema, build } = architectures[name]!;
  return build(schema.parse(options), random(seed));
};

test.each([
  ["lenet-300-100", { inputChannels: 1, size: 28 }, 266_610],
  ["lenet-5", { inputChannels: 1, size: 28 }, 431_080],
  ["resnet20", {}, 269_722],
  ["resnet32", {}, 464_154],
  ["resnet56", {}, 853_018],
  ["mobilenet-v2", { size: 224, classes: 1000 }, 3_504_872],
  // MLPerf Tiny's count less the biases of its 9 convolutions, which batch normalization makes void
  ["ds-cnn", {}, 23_756 - 9 * 64],
])("%s %j has its published number of parameters", (name, options, expected) => {
  const graph = build(name, options);
  const learned = parametersOf(graph).reduce((sum, parameter) => sum + graph.weights.get(parameter.name)!.size, 0);
  expect(learned).toBe(expected);
});

test.each(Object.keys(architectures))("%s runs, and is the same for the same seed", async (name) => {
  const graph = build(name, {});
  const session = await onnx.open(graph);
  const outputs = await session.run(syntheticFeeds(graph, random(2), { batch: 2 }));
  await session.release();
  const [output] = Object.values(outputs);
  expect(output!.shape[0]).toBe(2);
  expect(toFloat32(output!).every(Number.isFinite)).toBe(true);
  // a byte comparison by the library walks millions of elements one by one
  const same = (seed: number): boolean => Buffer.compare(encodeOnnx(graph), encodeOnnx(build(name, {}, seed))) === 0;
  expect([same(1), same(2)]).toEqual([true, false]);
});
