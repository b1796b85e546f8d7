import { type SaturatingLayer, saturatingLayers } from "../../analysis/saturating-layers.ts";
import { largestSum } from "../../analysis/saturation.ts";
import type { Node } from "../../graph/graph.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { weightOf } from "./rules.ts";
import type { Choice } from "./search.ts";
import { type Setup, write, writeQdq } from "./setup.ts";

/** Samples that sums of pairs are computed on. */
export const portableSamples = 8;
/** A pair seen must stay below this: other data reaches further. */
const margin = 0.75 * largestSum;
/** Reduced weights change what later layers read: so often the sums are computed again. */
const mostRounds = 4;

/**
 * A choice whose weights have 7 bits where processors without VNNI would clip sums of pairs, or nearly so, and 8 where the
 * data stays clear of it. Measured, unlike 7 bits for all weights, which no data can overflow.
 */
export async function reduceSaturating(choice: Choice, feeds: AsyncIterable<Tensors>): Promise<Choice> {
  let setup: Setup = choice.setup;
  for (let round = 0; round < mostRounds; round++) {
    const near = (await pairsOf({ ...choice, setup }, feeds)).filter(isNear);
    const names = near.map(({ node }) => weightOf(node, setup.graph)!.name).filter((name) => !setup.reduced.has(name));
    if (names.length === 0) break;
    setup = { ...setup, reduced: new Set([...setup.reduced, ...names]) };
  }
  const { compute } = choice.plan;
  const all = new Set([...compute].flatMap((node) => weightOf(node, setup.graph)?.name ?? []));
  setup.context.log(`${setup.reduced.size} of ${all.size} weights have 7 bits`);
  if (setup.reduced.size === 0) return choice;
  const { quality: _, ...rest } = choice;
  return { ...rest, setup, graph: write(setup, choice.plan, choice) };
}

/** Whether the data comes near to what is clipped; not where the weights alone exclude it. */
function isNear({ largest, possible }: SaturatingLayer): boolean {
  return possible > largestSum && largest > margin;
}

/** Says how many sums of pairs a processor without VNNI would clip, on data. */
export async function reportSaturation(choice: Choice, feeds: AsyncIterable<Tensors>): Promise<void> {
  const layers = await pairsOf(choice, feeds);
  const sum = (of: "pairs" | "clipped"): number => layers.reduce((total, layer) => total + layer[of], 0);
  const largest = layers.reduce((most, layer) => Math.max(most, layer.largest), 0);
  choice.setup.context.log(
    `without VNNI ${sum("clipped")} of ${sum("pairs")} sums of two products are clipped; the largest is ${largest}, ${largestSum} fits`,
  );
}

/** Sums of pairs of each layer, by the node as it is in the float graph. */
async function pairsOf(
  { setup, plan, ...writing }: Choice,
  feeds: AsyncIterable<Tensors>,
): Promise<readonly SaturatingLayer[]> {
  const { runtime, signal } = setup.context;
  const { graph, origins } = writeQdq(setup, plan, writing);
  const layers = await saturatingLayers(graph, runtime, feeds, signal);
  return layers.flatMap((layer) => {
    const node: Node | undefined = origins.get(layer.node);
    return node ? [{ ...layer, node }] : [];
  });
}
