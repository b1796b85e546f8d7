/**
 * What of real models can be cut, and does a cut model compute what the masked one does?
 * `PARE_DATA=FOLDER npx tsx bench/couplings.ts [PATTERN]` takes every .onnx file below the folder and every architecture
 * that pare can build, cuts random units (10 to 70 % of each group), and compares the cut graph with the original in which
 * the same units are masked, in Node and on WASM.
 */
import { basename } from "node:path";
import { messageOf } from "../src/errors.ts";
import type { Graph } from "../src/graph/graph.ts";
import { assertValid } from "../src/graph/validate.ts";
import { load, runtime } from "../src/platform/node.ts";
import { observeTypes } from "../src/platform/observe.ts";
import type { Runtime, Tensors } from "../src/platform/runtime.ts";
import { type Couplings, couplings, type Group } from "../src/pruning/couplings.ts";
import { cutUnits } from "../src/pruning/cut.ts";
import { maskUnits } from "../src/pruning/cut-mask.ts";
import { random } from "../src/random.ts";
import { architectures } from "../src/training/architectures/index.ts";
import { randomCuts, spreadFeeds } from "../test/cutting.ts";
import { difference } from "./cutting.ts";
import { record, table } from "./document.ts";
import { modelFiles } from "./models.ts";

const ratios = [0.1, 0.3, 0.5, 0.7];

interface Row {
  readonly model: string;
  readonly found: Couplings;
  readonly node: number;
  readonly wasm: number;
  readonly parameters: readonly [before: number, after: number];
}

/** Sizes of free dimensions that are not the batch. */
const dims = { T: 8, sequence: 512 };

async function run(ort: Runtime, graph: Graph, feeds: Tensors): Promise<Tensors> {
  const session = await ort.open(graph);
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

const parameters = (graph: Graph): number => [...graph.weights.values()].reduce((sum, { size }) => sum + size, 0);

async function check(model: string, graph: Graph, node: Runtime, wasm: Runtime): Promise<Row> {
  const feeds = spreadFeeds(graph, 1, dims);
  const types = await observeTypes(graph, node, feeds);
  const found = couplings(graph, types);
  const worst = { node: 0, wasm: 0 };
  const original = await run(node, graph, feeds);
  let left = parameters(graph);
  for (const [i, ratio] of ratios.entries()) {
    const cuts = randomCuts(found, ratio, random(100 + i));
    const [cut, masked] = [cutUnits(found, cuts), maskUnits(found, cuts)];
    assertValid(cut);
    const expected = await run(node, masked, feeds);
    worst.node = Math.max(worst.node, difference(original, expected, await run(node, cut, feeds)));
    if (ratio === 0.5) {
      left = parameters(cut);
      const more = spreadFeeds(graph, 3, dims);
      const several = [await run(node, masked, more), await run(node, cut, more)] as const;
      worst.node = Math.max(worst.node, difference(await run(node, graph, more), ...several));
      worst.wasm = difference(original, await run(wasm, masked, feeds), await run(wasm, cut, feeds));
    }
  }
  return { model, found, node: worst.node, wasm: worst.wasm, parameters: [parameters(graph), left] };
}

/** Reasons with the number of groups that have them, the names of nodes and values left out. */
function reasonsOf(groups: readonly Group[]): string {
  const counts = new Map<string, number>();
  for (const { frozen } of groups) {
    const kind = frozen?.replace(/'[^']*'/g, "…");
    if (kind) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts].map(([reason, count]) => `${count} × ${reason}`).join("; ");
}

function rowOf({ model, found, node, wasm, parameters: [before, after] }: Row): (string | number)[] {
  const free = found.groups.filter(({ frozen }) => frozen === undefined);
  const units = free.reduce((sum, group) => sum + group.units, 0);
  const left = `${((100 * after) / before).toFixed(0)} %`;
  return [model, free.length, units, left, node.toExponential(1), wasm.toExponential(1), reasonsOf(found.groups)];
}

async function main(): Promise<void> {
  const folder = process.env.PARE_DATA;
  if (!folder) throw new Error("couplings: name the folder of models in PARE_DATA");
  const wanted = new RegExp(process.argv[2] ?? "");
  const [node, wasm] = [await runtime({ threads: 1 }), await runtime({ provider: "wasm", threads: 1 })];
  const models: [string, () => Promise<Graph>][] = [
    ...modelFiles([folder]).map((path): [string, () => Promise<Graph>] => [basename(path), () => load(path)]),
    ...Object.entries(architectures).map(([name, { options, build }]): [string, () => Promise<Graph>] => [
      `${name} (built)`,
      async () => build(options.parse({}), random(1)),
    ]),
  ];
  const rows: Row[] = [];
  for (const [name, open] of models.filter(([name]) => wanted.test(name))) {
    try {
      rows.push(await check(name, await open(), node, wasm));
      console.error(rowOf(rows.at(-1)!).join(" | "));
    } catch (error) {
      console.error(`${name}: ${messageOf(error)}`);
      process.exitCode = 1;
    }
  }
  const header = ["model", "groups", "units", "weights left of 50 % cut", "Node", "WASM", "frozen"];
  const body = `Groups that can be cut, their units, and the largest difference between the cut graph and the masked original over random cuts of 10, 30, 50 and 70 % of every group, relative to the largest output (masked or uncut), in Node (also with a batch of 3 where the batch is free) and on WASM.\n\n${table(header, rows.map(rowOf))}`;
  if (process.argv[2] === undefined) record("couplings", "Channel cutting", "npx tsx bench/couplings.ts", body);
  if (rows.some((row) => !(row.node < 1e-4 && row.wasm < 1e-4))) process.exitCode = 1;
}

await main();
