import { expect, test } from "vitest";
import { type Graph, makeNode } from "../../graph/graph.ts";
import { float32, int64, toFloat32, toNumbers } from "../../tensor/tensor.ts";
import { options } from "./options.ts";
import { divideSamples } from "./samples.ts";
import { setUp, write } from "./setup.ts";
import { contextOf, dataset, network, noise, samples } from "./testing.ts";

/** With a mean: bias correction is about nothing else. */
const bright = samples.map(({ x }) => ({
  x: float32(
    x!.shape,
    toFloat32(x!).map((v) => 2 + v),
  ),
}));

async function corrected(graph: Graph): Promise<Graph> {
  const context = contextOf(dataset(bright));
  const settings = options.parse({ target: "size", weightBits: 4, keepEnds: false });
  const setup = await setUp(graph, await divideSamples(graph, 16, 0, context), settings, context);
  return write(setup, setup.plan, { method: "min-max", corrected: true });
}

test("layers that read one value along different axes are corrected by their own channels' means", async () => {
  const weights = { rows: int64([-1, 27, 16]), w: noise([8, 27, 3]), m: noise([16, 8]), b: noise([8]) };
  const reshape = makeNode("Reshape", ["x", "rows"], ["r"]);
  const convolution = makeNode("Conv", ["r", "w", "b"], ["c"], {});
  const product = makeNode("MatMul", ["r", "m"], ["p"]);
  const alone = await corrected(network({ nodes: [reshape, convolution], weights, outputs: ["c"] }));
  const beside = await corrected(network({ nodes: [reshape, convolution, product], weights, outputs: ["c", "p"] }));
  const bias = (graph: Graph): number[] => toNumbers(graph.weights.get("b_quantized")!);
  expect(bias(alone).every((b) => b !== 0)).toBe(true);
  expect(bias(beside)).toEqual(bias(alone));
});
