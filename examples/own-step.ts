/*
 * A step of one's own between two techniques: rounds every bias to float16's precision, as a function from graph to graph.
 * `npx tsx examples/own-step.ts`. Outside this repository the imports are "pare", "pare/node", "pare/graph", ...
 */
import { fileURLToPath } from "node:url";
import { edit, type Graph } from "../src/graph/index.ts";
import { load, runtime, save } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { parseRecipe } from "../src/recipe/recipe.ts";
import { run } from "../src/recipe/run.ts";
import { float32, floatToHalf, halfToFloat, toFloat32 } from "../src/tensor/index.ts";

function roundBiases(graph: Graph): Graph {
  return edit(graph, (draft) => {
    for (const [name, weight] of draft.weights) {
      if (weight.dtype !== "float32" || weight.shape.length !== 1) continue;
      const rounded = halfToFloat(floatToHalf(toFloat32(weight), "float16"), "float16");
      draft.weights.set(name, float32(weight.shape, rounded));
    }
  });
}

const graph = await load(fileURLToPath(new URL("digits/model.onnx", import.meta.url)));
const { steps } = parseRecipe(["simplify", roundBiases, { "quantize-weights": { bits: 8 } }], "own-step");
const result = await run(
  graph,
  steps,
  {
    runtime: await runtime(),
    random: random(0),
    log: console.error,
    progress() {},
    skip() {},
    show() {},
    signal: new AbortController().signal,
  },
  {
    measure: async ({ weights }) => ({
      bytes: [...weights.values()].reduce((sum, w) => sum + w.byteLength, 0),
      scores: [],
    }),
  },
);
for (const { step, before, after } of result.ledger) console.log(`${step}: ${before.bytes} -> ${after.bytes} bytes`);
await save(result.graph, process.argv[2] ?? "own-step.onnx");
