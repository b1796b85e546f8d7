import { expect, test } from "vitest";
import { makeNode } from "../../graph/graph.ts";
import { options as staticOptions } from "../quantize-static/options.ts";
import { divideSamples } from "../quantize-static/samples.ts";
import { setUp } from "../quantize-static/setup.ts";
import { contextOf, dataset, network, noise } from "../quantize-static/testing.ts";
import { activationGrids, bitsFor } from "./activation-grids.ts";
import { options } from "./options.ts";

test("zero points learn where no Relu was left to the grid, of a value or of those that a Concat joins", async () => {
  const graph = network({
    nodes: [
      makeNode("Conv", ["x", "w1"], ["a"], {}),
      makeNode("Conv", ["x", "w1"], ["b"], {}),
      makeNode("Relu", ["a"], ["ra"]),
      makeNode("Relu", ["b"], ["rb"]),
      makeNode("Concat", ["ra", "rb"], ["joined"], { axis: 1 }),
      makeNode("Conv", ["joined", "w2"], ["c"], {}),
      makeNode("Relu", ["c"], ["r"]),
      makeNode("Conv", ["r", "w3"], ["y"], {}),
    ],
    weights: { w1: noise([8, 3, 3, 3]), w2: noise([8, 16, 3, 3]), w3: noise([8, 8, 3, 3]) },
  });
  const context = contextOf(dataset());
  const planned = staticOptions.parse({ target: "size", biasCorrection: false, equalize: false, method: "mse" });
  const setup = await setUp(graph, await divideSamples(graph, 16, 0, context), planned, context);
  const learned = options.parse({ steps: "lsq+" });
  const grids = activationGrids(setup, bitsFor(graph, setup.plan, learned), learned);
  expect(Object.fromEntries([...grids].map(([name, { shifts }]) => [name, shifts]))).toEqual({
    x: true,
    joined: false,
    r: false,
    y: true,
  });
});
