/**
 * Does cutting equal masking for every operator? Usage: npx tsx bench/coupling-operators.ts FOLDER...
 *
 * Each .onnx file below the folders (ONNX's backend tests) becomes a graph without inputs: what its test feeds are
 * weights, and its float outputs are weighed and summed up, so that any axis of any operand may be cut. Random units of 30
 * and 60 % are cut, and the result is compared with that of the graph in which they are masked.
 */
import { messageOf } from "../src/errors.ts";
import { edit } from "../src/graph/edit.ts";
import type { Graph } from "../src/graph/graph.ts";
import { load, runtime } from "../src/platform/node.ts";
import { observeTypes } from "../src/platform/observe.ts";
import type { Runtime, Tensors } from "../src/platform/runtime.ts";
import { type Couplings, couplings } from "../src/pruning/couplings.ts";
import { cutUnits } from "../src/pruning/cut.ts";
import { maskUnits } from "../src/pruning/cut-mask.ts";
import { random } from "../src/random.ts";
import { float32 } from "../src/tensor/tensor.ts";
import { randomCuts } from "../test/cutting.ts";
import { difference } from "./cutting.ts";
import { record } from "./document.ts";
import { feedsOf, modelFiles, outputsOf } from "./models.ts";

const ratios = [0.3, 0.6];
const tolerance = 1e-4;

interface Tally {
  equal: number;
  /** Models of which nothing can be cut. */
  frozen: number;
  readonly wrong: { path: string; ratio: number; why: string }[];
}

/** The model with its feeds as weights and one number as its output; undefined where it has no float output. */
async function closed(path: string, ort: Runtime): Promise<Graph | undefined> {
  const graph = await load(path);
  if ((graph.opsets[""] ?? 0) < 7) return undefined;
  const feeds: Tensors = feedsOf(path, graph);
  const types = await observeTypes(graph, ort, feeds);
  const floats = graph.outputs.filter(({ name }) => types.get(name)?.dtype === "float32");
  if (floats.length === 0) return undefined;
  return edit(graph, (draft) => {
    for (const [name, value] of Object.entries(feeds)) draft.weights.set(name, value);
    draft.inputs = [];
    draft.outputs = floats.map(({ name }, i) => {
      const { shape } = types.get(name)!;
      const source = random(11 + i);
      const size = shape.reduce((a, b) => a * b, 1);
      const weights = Float32Array.from({ length: size }, () => source.normal());
      const weighed = draft.emit("Mul", [name, draft.constant("weights", float32(shape, weights))]);
      const sum = draft.emit("ReduceSumSquare", [weighed], { keepdims: 0 });
      return { name: sum, type: { kind: "tensor", dtype: "float32" } };
    });
  });
}

async function compare(found: Couplings, path: string, ort: Runtime, tally: Tally): Promise<void> {
  for (const ratio of ratios) {
    const cuts = randomCuts(found, ratio, random(3));
    try {
      const cut = await outputsOf(ort, cutUnits(found, cuts), {});
      const masked = await outputsOf(ort, maskUnits(found, cuts), {});
      const whole = await outputsOf(ort, found.graph, {});
      const far =
        typeof cut === "string" || typeof masked === "string" || typeof whole === "string"
          ? [cut, masked].find((outputs) => typeof outputs === "string")
          : difference(whole, masked, cut);
      if (typeof far === "number" && far <= tolerance) tally.equal += 1;
      else tally.wrong.push({ path, ratio, why: `${far}` });
    } catch (error) {
      tally.wrong.push({ path, ratio, why: messageOf(error) });
    }
  }
}

async function main(folders: readonly string[]): Promise<void> {
  const ort = await runtime({ threads: 1 });
  const tally: Tally = { equal: 0, frozen: 0, wrong: [] };
  for (const path of modelFiles(folders)) {
    let graph: Graph | undefined;
    let found: Couplings;
    try {
      graph = await closed(path, ort);
      if (!graph) continue;
      found = couplings(graph, await observeTypes(graph, ort, {}));
    } catch {
      continue; // the runtime does not run this model
    }
    if (found.groups.every(({ frozen }) => frozen !== undefined)) tally.frozen += 1;
    else await compare(found, path, ort, tally);
  }
  const { equal, frozen, wrong } = tally;
  console.log(JSON.stringify({ bench: "coupling-operators", equal, frozen, wrong }));
  const body = `ONNX's backend tests with their inputs as weights: ${equal} random cuts give what the mask gives to ${tolerance}, ${wrong.length} do not; of ${frozen} models nothing can be cut.`;
  record("coupling-operators", "Cutting, operator by operator", "npx tsx bench/coupling-operators.ts FOLDER...", body);
  process.exitCode = wrong.length > 0 ? 1 : 0;
}

if (process.argv.length < 3) {
  console.error("coupling-operators: name at least one folder of .onnx files");
  process.exitCode = 1;
} else await main(process.argv.slice(2));
