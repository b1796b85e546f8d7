import type { Graph } from "../../graph/graph.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { divideSamples } from "../quantize-static/samples.ts";
import type { Context } from "../technique.ts";
import { type Agreement, agreement, outputSteps } from "./check.ts";
import { gridsExhibit, storedBits } from "./exhibits.ts";
import type { Options } from "./options.ts";
import type { Outcome } from "./outcome.ts";

/** Samples that the simulation and what came of it are compared on. */
const checked = 64;

/** Shows the grids, what packing would save, and how far what is handed out is from what was trained. */
export async function report(
  { job: { simulation, plan, widthOf }, settled, learned, written }: Outcome,
  options: Options,
  context: Context,
): Promise<void> {
  const tell = (text: string): void => {
    context.log(text);
    context.show({ kind: "note", text });
  };
  const width = (name: string): Options["weightBits"] => widthOf(settled.coded.get(name)!.site);
  const exhibit = gridsExhibit(settled, simulation, learned, width, storedBits(options));
  context.show(exhibit);
  if (options.epochs === 0) {
    tell("Nothing was trained: this is rounding to the calibrated grids alone. --epochs says how long to train.");
  }
  const steps = outputSteps(settled, plan, simulation, learned);
  tell(sentenceOf(await agreement(learned, written, await someFeeds(settled.graph, context), steps, context)));
  const sum = (of: "packed" | "stored"): number => exhibit.layers.reduce((total, layer) => total + layer[of], 0);
  const [packed, stored] = [sum("packed"), sum("stored")];
  if (stored <= packed) return;
  tell(
    `Integer kernels take a byte a weight: ${stored} bytes in the file for what is ${packed} packed. Compressed (gzip, brotli) it comes close to that; --format packed stores 4 bits, and computes in float.`,
  );
}

function sentenceOf({ same, samples, steps, relative }: Agreement): string {
  const largest =
    steps === undefined
      ? `${(100 * relative).toPrecision(2)} % of the largest output`
      : `${steps.toPrecision(2)} steps`;
  return `What was trained and what is handed out agree on ${(100 * same).toFixed(1)} % of the outputs' largest entries over ${samples} samples; the largest difference is ${largest}.`;
}

async function someFeeds(graph: Graph, context: Context): Promise<readonly Tensors[]> {
  const feeds: Tensors[] = [];
  const { calibration } = await divideSamples(graph, checked, 0, context);
  for await (const feed of calibration) feeds.push(feed);
  return feeds;
}
