import { describe, expect, test } from "vitest";
import { makeGraph } from "../../graph/graph.ts";
import { float32, stringTensor } from "../../tensor/tensor.ts";
import { memorySource } from "../source.ts";
import { planExternal } from "./external.ts";
import { readOnnx } from "./read.ts";
import { encodeOnnx } from "./write.ts";

const ramp = (size: number, from: number) =>
  float32(
    [size],
    Float32Array.from({ length: size }, (_, i) => i + from),
  );

function sample() {
  const tied = ramp(300, 1);
  const weights = new Map([
    ["small", ramp(4, 0)],
    ["tied", tied],
    ["large", ramp(20_000, 2)],
    ["alias", tied],
    ["text", stringTensor([1], ["x".repeat(5000)])],
    ["empty", float32([0], [])],
  ]);
  return makeGraph({ nodes: [], inputs: [], outputs: [], weights });
}

describe("planExternal", () => {
  test("places large weights on pages, ties once, and leaves small ones and strings inside", () => {
    const graph = sample();
    const plan = planExternal(graph, "model.data", 1000);
    const offset = (name: string) => plan.placed(name, graph.weights.get(name)!)?.offset;
    expect(["small", "tied", "large", "alias", "text", "empty"].map(offset)).toEqual([
      undefined,
      0,
      4096,
      0,
      undefined,
      undefined,
    ]);
    expect(plan.byteLength).toBe(4096 + 80_000);
  });

  test("what it writes reads back to the same weights", () => {
    const graph = sample();
    const plan = planExternal(graph, "model.data", 1000);
    const data = Buffer.concat([...plan.chunks()]);
    expect(data.length).toBe(plan.byteLength);
    const model = encodeOnnx(graph, plan.placed);
    expect(model.length).toBeLessThan(6000);
    const back = readOnnx(memorySource(model), (location) => memorySource(data, location));
    for (const [name, weight] of graph.weights) {
      const read = back.weights.get(name)!;
      if (weight.strings) expect(read.strings).toEqual(weight.strings);
      else expect(Buffer.compare(read.bytes(), weight.bytes())).toBe(0);
    }
  });

  test("a graph of small weights needs no file", () => {
    expect(planExternal(sample(), "model.data", 1e6).byteLength).toBe(0);
  });
});
