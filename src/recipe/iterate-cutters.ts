import type { z } from "zod";
import { didYouMean, fail } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import { parseOptions } from "../options.ts";
import { calibrationBatches } from "../techniques/calibration-batches.ts";
import { pruneChannels } from "../techniques/prune-channels/index.ts";
import { chosenBlocks } from "../techniques/prune-layers/blocks.ts";
import { pruneLayers } from "../techniques/prune-layers/index.ts";
import { pruneWeights } from "../techniques/prune-weights/index.ts";
import { zerosThere } from "../techniques/prune-weights/zeros.ts";
import type { Context, Step, Technique } from "../techniques/technique.ts";
import type { SizeQuantity } from "./iterate-size.ts";

/** A way to make a model smaller, a share of what is left at a time. */
export interface Cutter {
  /** For people: "channels". */
  readonly name: string;
  /** What it makes less of. */
  readonly reduces: readonly SizeQuantity[];
  /**
   * The step that takes this share of what is left away; undefined where nothing is left.
   *
   * @param last the step of this cutter that was kept last
   */
  cut(share: number, graph: Graph, context: Context, last?: Step): Step | undefined | Promise<Step | undefined>;
}

type Options = Readonly<Record<string, unknown>>;

/** A technique as a cutter: which options a share turns into. */
interface CutterRow {
  readonly technique: Technique;
  readonly reduces: readonly SizeQuantity[];
  /** Options that the rounds set. */
  readonly amount: readonly string[];
  amountOf(
    share: number,
    graph: Graph,
    context: Context,
    last: Step | undefined,
    options: Options,
  ): Options | undefined | Promise<Options | undefined>;
}

const structure = ["macs", "parameters", "bytes", "ms"] as const;

const rows = {
  channels: {
    technique: pruneChannels as Technique,
    reduces: structure,
    amount: ["ratio"],
    amountOf: (ratio) => ({ ratio }),
  },
  weights: {
    technique: pruneWeights as Technique,
    reduces: ["sparsity"],
    amount: ["sparsity"],
    amountOf: (share, graph, _context, last, options) => {
      const before = last ? Number(last.options.sparsity) : zerosThere(graph, pruneWeights.options.parse(options));
      return { sparsity: 1 - (1 - before) * (1 - share) };
    },
  },
  layers: {
    technique: pruneLayers as Technique,
    reduces: structure,
    amount: ["count"],
    async amountOf(share, graph, context, _last, options) {
      const given = pruneLayers.options.parse(options);
      for await (const { inputs } of calibrationBatches(graph, context, 1, 1, pruneLayers.name)) {
        const blocks = await chosenBlocks(graph, given, context.runtime, inputs);
        const left = blocks.filter(({ kept }) => kept === undefined).length;
        return left === 0 ? undefined : { count: Math.max(1, Math.round(share * left)) };
      }
      // without a sample of its batch size the step refuses, and says so
      return { count: 1 };
    },
  },
} as const satisfies Readonly<Record<string, CutterRow>>;

/** What {@link iterate} can cut, by name. */
export type CutterName = keyof typeof rows;

/** Every name, the default first. */
export const cutterNames = Object.keys(rows) as readonly CutterName[];

/** The technique behind a cutter. */
export function cutterTechnique(name: CutterName): Technique {
  return rows[name].technique;
}

/**
 * A cutter made of a technique: channels (a share of the MACs left each time, or of what `of` says), weights (of those
 * that are not zero), layers (of the residual branches, one at least).
 *
 * @param options of the technique, but for the amount
 * @throws PareError for an unknown name or wrong options
 */
export function cutter(name: CutterName, options: Options = {}): Cutter {
  if (!Object.hasOwn(rows, name)) {
    fail("prune", `can't cut '${name}'`, didYouMean(name, cutterNames) || `There are ${cutterNames.join(", ")}`);
  }
  const { technique, reduces, amount, amountOf }: CutterRow = rows[name];
  const own = amount.find((key) => key in options);
  if (own !== undefined) fail(technique.name, `'${own}' is what the rounds choose`, "Give a step, or a target");
  parseOptions(technique.options, options, technique.name);
  return {
    name,
    reduces,
    async cut(share, graph, context, last) {
      const found = await amountOf(share, graph, context, last, options);
      return found && technique({ ...options, ...found } as z.input<typeof technique.options>);
    },
  };
}
