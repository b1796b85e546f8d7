import { feedsOf } from "../../data/feeds.ts";
import type { Graph } from "../../graph/graph.ts";
import { type BlockCodes, type BlockView, blocksPerRow } from "../../tensor/blockwise.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { withWeights } from "../../training/state.ts";
import { breathe } from "../breathe.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import type { Context } from "../technique.ts";
import { inputMoments, type Moments } from "../weight-matrices/input-moments.ts";
import { matrixLabel, type WeightMatrix, weightMatrix } from "../weight-matrices/matrix.ts";
import { type CodePlan, decoded, gridOf } from "./codes.ts";
import { codingError, type GptqPlan, gptq, hessianOf, type MatrixCodes, rounded } from "./gptq-matrix.ts";
import { refine } from "./gptq-refine.ts";
import { inPasses } from "./levels.ts";
import type { QuantizeWeightsOptions } from "./options.ts";
import { groupGram, importanceOf, someRows, weightRows } from "./rows.ts";
import type { WeightTarget } from "./targets.ts";
import { viewOf } from "./view.ts";

/** A weight and how it is put into codes. */
export interface Planned {
  readonly target: WeightTarget;
  readonly plan: CodePlan;
  /** Elements of a block of its codes. */
  readonly block: number;
}

type Coded = WeightMatrix & Planned;

/** What became of a layer, for the log. */
type Outcome = "compensated" | "unseen" | "worse";

/**
 * Codes for weights, those of a layer making up for each other's errors (GPTQ), layer by layer: later layers see what the
 * coded ones before them make of the data, as far as the number of passes over it allows. A layer is rounded to its blocks'
 * grids instead where its inputs can't be seen, or where that errs less on samples held out, as it does where there are
 * too few of them for the layer's inputs.
 *
 * @throws PareError where there is no data, or a weight is not finite
 */
export async function compensatedCodes(
  graph: Graph,
  planned: readonly Planned[],
  options: QuantizeWeightsOptions,
  context: Context,
): Promise<ReadonlyMap<string, BlockCodes>> {
  const layers = planned.map((one): Coded => ({ ...weightMatrix(one.target), ...one }));
  const stream = feedsOf(calibrationBatches(graph, context, options.samples, 1, "quantize-weights"));
  const found = new Map<string, BlockCodes>();
  const outcomes = new Map<Coded, Outcome>();
  let current = graph;
  for (const part of inPasses(graph, layers, options.passes)) {
    const moments = await inputMoments(current, part, "products", stream, context, true);
    const values = new Map<string, Tensor>();
    for (const layer of part) {
      context.progress(outcomes.size, layers.length, "weights");
      await breathe(context);
      const { codes, outcome } = codesOf(layer, moments.get(layer), options);
      outcomes.set(layer, outcome);
      found.set(layer.target.name, codes);
      values.set(layer.target.name, decoded(layer.target, layer.block, codes));
    }
    current = withWeights(current, values);
  }
  report(outcomes, context);
  return found;
}

function report(outcomes: ReadonlyMap<Coded, Outcome>, context: Context): void {
  const tell = (which: Outcome, why: string): void => {
    const labels = [...outcomes].flatMap(([layer, outcome]) => (outcome === which ? [`'${matrixLabel(layer)}'`] : []));
    if (labels.length === 0) return;
    const more = labels.length > 5 ? ` and ${labels.length - 5} more` : "";
    context.log(`rounded without compensation, ${why}: ${labels.slice(0, 5).join(", ")}${more}`);
  };
  tell("unseen", "since their inputs can't be seen");
  tell("worse", "since that errs less on samples held out");
}

/** @throws PareError naming the weight if it holds NaN or infinity */
function codesOf(
  layer: Coded,
  moments: Moments | undefined,
  options: QuantizeWeightsOptions,
): { codes: BlockCodes; outcome: Outcome } {
  const { target, plan, block } = layer;
  const view = viewOf(target.layout, block);
  const rows = view.outer * view.inner;
  const values = weightRows(target, view);
  const groups = moments?.groups ?? 1;
  const share = rows / groups;
  // of a lookup's inputs there is nothing to make up for
  let outcome: Outcome = moments || layer.use.kind === "gather" ? "compensated" : "unseen";
  const grid = gridOf(target, plan);
  const parts = Array.from({ length: groups }, (_, g) => {
    const part = values.subarray(g * share * view.length, (g + 1) * share * view.length);
    const gram = moments && groupGram(layer, moments.sums, g);
    const gptqPlan = { grid, block, importance: importanceOf(gram, view.length) };
    const heldOut = moments?.heldOut && groupGram(layer, moments.heldOut, g);
    const made = gram && compensated(part, gram, heldOut, gptqPlan, options);
    if (gram && !made) outcome = "worse";
    return made ?? rounded(part, gptqPlan);
  });
  return { codes: inOrder(parts, view), outcome };
}

/** Codes by GPTQ, refined, unless rounding errs less on what was held out. */
function compensated(
  weights: Float32Array,
  gram: Float64Array,
  heldOut: Float64Array | undefined,
  plan: GptqPlan,
  { damping, actOrder }: QuantizeWeightsOptions,
): MatrixCodes | undefined {
  const hessian = hessianOf(gram, plan.importance.length, damping, actOrder);
  const code = (matrix: Float32Array): MatrixCodes => {
    const coded = gptq(matrix.slice(), hessian, plan);
    refine(matrix, coded, gram, plan, damping);
    return coded;
  };
  if (heldOut) {
    const some = someRows(weights, plan.importance.length);
    const error = codingError(some, code(some), heldOut, plan.block);
    if (error > codingError(some, rounded(some, plan), heldOut, plan.block)) return undefined;
  }
  return code(weights);
}

/** Codes of rows, those of groups one after the other, in the order of a view. */
function inOrder(parts: readonly MatrixCodes[], view: BlockView): BlockCodes {
  const blocks = blocksPerRow(view);
  const codes = new Uint8Array(view.outer * view.length * view.inner);
  const scales = new Float32Array(view.outer * blocks * view.inner);
  const zeros = new Float32Array(scales.length);
  let row = 0;
  for (const part of parts) {
    const rows = part.codes.length / view.length;
    for (let r = 0; r < rows; r++, row++) {
      const [o, i] = [Math.floor(row / view.inner), row % view.inner];
      for (let k = 0; k < view.length; k++) {
        codes[(o * view.length + k) * view.inner + i] = part.codes[r * view.length + k]!;
      }
      for (let b = 0; b < blocks; b++) {
        scales[(o * blocks + b) * view.inner + i] = part.scales[r * blocks + b]!;
        zeros[(o * blocks + b) * view.inner + i] = part.zeros[r * blocks + b]!;
      }
    }
  }
  return { codes, scales, zeros };
}
