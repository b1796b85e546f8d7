/**
 * Do models compute the same after conversion to newer operator sets? Usage: npx tsx bench/opsets.ts FOLDER...
 *
 * Each .onnx file below the folders that ONNX Runtime runs is converted to operator sets 13, 17, 21 and 26 (those above its
 * own), run on the same feeds and compared: the largest difference, relative to the largest magnitude of the output.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { messageOf } from "../src/errors.ts";
import { readOnnx } from "../src/formats/onnx/index.ts";
import { memorySource } from "../src/formats/source.ts";
import type { Graph } from "../src/graph/graph.ts";
import { assertValid } from "../src/graph/validate.ts";
import { convertOpset } from "../src/ops/convert.ts";
import { runtime } from "../src/platform/node.ts";
import type { Runtime, Tensors } from "../src/platform/runtime.ts";
import { record } from "./document.ts";
import { distance, feedsOf, modelFiles, outputsOf } from "./models.ts";

const targets = [13, 17, 21, 26];
const tolerance = 1e-5;

interface Tally {
  equal: number;
  readonly refused: { path: string; target: number; why: string }[];
  readonly wrong: { path: string; target: number; why: string }[];
}

async function check(path: string, ort: Runtime, tally: Tally): Promise<void> {
  const open = (location: string) => memorySource(readFileSync(join(dirname(path), location)), location);
  const graph = readOnnx(memorySource(readFileSync(path), path), open);
  let feeds: Tensors;
  try {
    feeds = feedsOf(path, graph);
  } catch {
    return;
  }
  const before = await outputsOf(ort, graph, feeds);
  if (typeof before === "string" || distance(before, (await outputsOf(ort, graph, feeds)) as Tensors) > 0) return;
  for (const target of targets.filter((version) => version > (graph.opsets[""] ?? version))) {
    let converted: Graph;
    try {
      converted = convertOpset(graph, target);
      assertValid(converted);
    } catch (error) {
      tally.refused.push({ path, target, why: messageOf(error) });
      continue;
    }
    const after = await outputsOf(ort, converted, feeds);
    const far = typeof after === "string" ? Number.POSITIVE_INFINITY : distance(before, after);
    if (far <= tolerance) tally.equal += 1;
    else tally.wrong.push({ path, target, why: typeof after === "string" ? after : `outputs differ by ${far}` });
  }
}

async function main(folders: readonly string[]): Promise<void> {
  const ort = await runtime({ threads: 1 });
  const tally: Tally = { equal: 0, refused: [], wrong: [] };
  for (const path of modelFiles(folders)) await check(path, ort, tally);
  const { equal, refused, wrong } = tally;
  console.log(
    JSON.stringify({ bench: "opsets", conversions: equal + refused.length + wrong.length, equal, refused, wrong }),
  );
  console.log(
    `| operator-set conversion | ${equal} equal to ${tolerance} | ${refused.length} refused | ${wrong.length} wrong |`,
  );
  const body = `${equal + refused.length + wrong.length} conversions to operator sets 13, 17, 21 and 26: ${equal} give outputs equal to ${tolerance}, ${refused.length} are refused with a reason, ${wrong.length} are wrong.`;
  record("opsets", "Operator-set conversion", "npx tsx bench/opsets.ts FOLDER...", body);
  process.exitCode = wrong.length > 0 ? 1 : 0;
}

if (process.argv.length < 3) {
  console.error("opsets: name at least one folder of .onnx files");
  process.exitCode = 1;
} else await main(process.argv.slice(2));
