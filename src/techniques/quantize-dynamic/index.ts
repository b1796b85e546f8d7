import { type Draft, edit } from "../../graph/edit.ts";
import type { Graph } from "../../graph/graph.ts";
import { intAttribute, type Node, nodeLabel } from "../../graph/graph.ts";
import { convertOpset, withIrVersion } from "../../ops/convert.ts";
import { hoistConstants } from "../hoist-constants.ts";
import { withFoldedWeights } from "../quantize-weights/folded.ts";
import { storageForm } from "../quantize-weights/storage.ts";
import { nodeVerdicts, surveyWeights, type WeightSurvey, type WeightTarget } from "../quantize-weights/targets.ts";
import { selector } from "../selection.ts";
import { type Context, technique } from "../technique.ts";
import { integerConvolution } from "./convolutions.ts";
import { feedsLogarithm } from "./logarithms.ts";
import { type QuantizeDynamicOptions, quantizeDynamicOptions } from "./options.ts";
import { type DynamicInput, dynamicInputs, integerProducts } from "./products.ts";
import { type RecurrentNames, recurrentRefusal, recurrentWeight, replaceLstm } from "./recurrent.ts";

const defaults = quantizeDynamicOptions.parse({});

/**
 * Computes matrix products in 8-bit integers, weights rounded beforehand and activations when the model runs.
 *
 *     MatMul, Gemm -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul (-> Add)      LSTM -> DynamicQuantizeLSTM
 *     x = s_x (q_x - z_x) with s_x = (max - min) / 255 of each run,  w = s_w q_w,  y = s_x s_w (q_x - z_x) q_w
 *
 * Needs no data. One scale serves a whole activation tensor, so samples of a batch change each other's rounding: results
 * depend a little on what else is in the batch. Jacob et al. 2018.
 *
 * Defaults put the outputs first. The logits of a tied output layer gain 0.9 dB of SQNR in float on a language model of
 * 260 K parameters and 0.3 dB on a network of GPT-2's size, where they cost 1.4 to 1.7 times the session's time of
 * `tied: integer` (on a busy machine). Convolutions stay exact; `conv: storage` takes ResNet-50 from 96 to 26 MB and ResNet-20 from 1.1 to 0.3
 * MB within 3 % of float's time, and SqueezeNet from 5.0 to 1.3 MB, at the cost of its rounding.
 */
export const quantizeDynamic = technique({
  name: "quantize-dynamic",
  summary: "Compute matrix products in 8-bit integers, activations rounded at run time; needs no data.",
  options: quantizeDynamicOptions,
  data: "unused",
  identity: { exclude: ["*"] },
  applies: nodeVerdicts(
    (graph) => survey(graph, defaults),
    (target) => {
      const decision = decide(target, defaults);
      return typeof decision === "string" ? true : decision.reason;
    },
  ),
  async apply(graph, options, context) {
    const seen = hoistConstants(graph, Math.max(1, options.minElements));
    const hoisted = options.simplify ? await withFoldedWeights(seen, context) : seen;
    const { targets, skipped } = survey(hoisted, options);
    for (const { node, reason } of skipped) context.skip(nodeLabel(node), reason);
    const source = targets.length === 0 ? hoisted : withIrVersion(convertOpset(hoisted, 11), 4);
    const current = source === hoisted ? targets : survey(source, options).targets;
    const changes = await plan(current, options, context);
    if (changes.length === 0) return graph;
    return edit(source, (draft) => {
      const replaced = new Set(changes.flatMap(({ weights }) => weights));
      draft.inputs = draft.inputs.filter(({ name }) => !replaced.has(name));
      const input = dynamicInputs(draft);
      for (const { apply } of changes) apply(draft, input);
    });
  },
});

function survey(graph: Graph, options: QuantizeDynamicOptions): WeightSurvey {
  const select = selector(options);
  const { targets, skipped } = surveyWeights(graph, {
    minElements: options.minElements,
    select: (node) => select(node) && (options.embeddings || node.op !== "Gather"),
  });
  const isLoud = (target: WeightTarget): boolean => target.uses.some(({ node }) => feedsLogarithm(graph, node));
  const reason = "a logarithm follows, and integers keep no relative precision";
  const loud = targets.filter(isLoud).flatMap(({ uses }) => uses.map(({ node }) => ({ node, reason })));
  return { targets: targets.filter((target) => !isLoud(target)), skipped: [...skipped, ...loud] };
}

interface Change {
  /** Names of the weights that it replaces. */
  readonly weights: readonly string[];
  apply(draft: Draft, input: (activation: string) => DynamicInput): void;
}

async function plan(
  targets: readonly WeightTarget[],
  options: QuantizeDynamicOptions,
  context: Context,
): Promise<Change[]> {
  const changes: Change[] = [];
  const recurrent = new Map<string, WeightTarget>();
  for (const [done, target] of targets.entries()) {
    context.progress(done, targets.length, "weights");
    await new Promise((resolve) => setTimeout(resolve, 0));
    context.signal.throwIfAborted();
    const decision = decide(target, options);
    if (decision === "recurrent") recurrent.set(target.name, target);
    else if (decision === "product") changes.push({ weights: [target.name], apply: integerProducts(target, options) });
    else if (decision === "conv") changes.push({ weights: [target.name], apply: integerConvolution(target, options) });
    else if (decision === "storage") changes.push(stored(target));
    else for (const { node } of target.uses) context.skip(nodeLabel(node), decision.reason);
  }
  context.progress(targets.length, targets.length, "weights");
  return [...changes, ...recurrentChanges(recurrent, options, context)];
}

type Decision = "product" | "conv" | "recurrent" | "storage" | { readonly reason: string };

function decide(target: WeightTarget, options: QuantizeDynamicOptions): Decision {
  const { weight, uses, layout } = target;
  if (weight.dtype !== "float32") return { reason: `DynamicQuantizeLinear takes float32, not ${weight.dtype}` };
  const kinds = new Set(uses.map(({ kind }) => (kind === "gemm" ? "matmul" : kind)));
  if (kinds.has("matmul") || kinds.has("gather")) return decideProduct(target, kinds, layout.axis);
  if (kinds.size > 1) return { reason: `weight '${target.name}' is shared by layers of different kinds` };
  const { node, kind } = uses[0]!;
  if (kind === "conv" || kind === "convTranspose") {
    if (options.conv === "storage") return "storage";
    if (kind === "convTranspose") return { reason: "ConvTranspose has no integer kernel" };
    if (options.conv === "float")
      return {
        reason: "integer convolution is rarely faster than float (conv: storage keeps float's speed in a smaller file)",
      };
    return uses.some((use) => isDepthwise(use.node, weight.shape))
      ? { reason: "a depthwise convolution is faster in float" }
      : "conv";
  }
  if (kind === "left") return { reason: "its weight is the left operand" };
  if (options.recurrent === "storage") return "storage";
  const refusal = recurrentRefusal(node);
  if (refusal) return { reason: refusal };
  return options.recurrent === "float" ? { reason: "recurrent layers stay in float (recurrent: float)" } : "recurrent";
}

function decideProduct(target: WeightTarget, kinds: ReadonlySet<string>, axis: number): Decision {
  const { uses, weight, name } = target;
  if ([...kinds].some((kind) => kind !== "matmul" && kind !== "gather")) {
    return { reason: `weight '${name}' is shared by layers of different kinds` };
  }
  const rank = weight.shape.length;
  for (const { node, kind, transpose } of uses) {
    if (kind === "gather" && (rank !== 2 || intAttribute(node, "axis", 0) !== 0 || axis !== 1)) {
      return { reason: "only lookups of rows of a table of their own, or of a transposed output layer, are quantized" };
    }
    const summed = kind === "gemm" ? intAttribute(node, "transB", 0) : transpose ? 1 : rank - 2;
    if (kind !== "gather" && summed !== axis)
      return { reason: `the readers of weight '${name}' sum over different axes` };
  }
  return "product";
}

function isDepthwise(node: Node, shape: readonly number[]): boolean {
  return intAttribute(node, "group", 1) > 1 && shape[1] === 1;
}

function stored(target: WeightTarget): Change {
  const length = target.layout.shape[target.layout.axis]!;
  const grid = { width: 8, symmetric: true, method: "search" } as const;
  const apply = storageForm(target, { grid, block: length, whole: false, importance: undefined });
  return { weights: [target.name], apply };
}

/** LSTM layers whose two weights are both at hand. */
function recurrentChanges(
  targets: ReadonlyMap<string, WeightTarget>,
  options: QuantizeDynamicOptions,
  context: Context,
): Change[] {
  const nodes = new Set([...targets.values()].flatMap(({ uses }) => uses.map(({ node }) => node)));
  const weights = new Map<string, (draft: Draft) => RecurrentNames>();
  const named = (name: string): ((draft: Draft) => RecurrentNames) => {
    const known = weights.get(name);
    if (known) return known;
    const { codes, scale, zero } = recurrentWeight(targets.get(name)!.weight, name, options);
    let names: RecurrentNames | undefined;
    const place = (draft: Draft): RecurrentNames => {
      names ??= {
        codes: draft.constant(`${name}_quantized`, codes),
        scale: draft.constant(`${name}_scale`, scale),
        zero: draft.constant(`${name}_zero_point`, zero),
      };
      return names;
    };
    weights.set(name, place);
    return place;
  };
  return [...nodes].flatMap((node): Change[] => {
    const [, w = "", r = ""] = node.inputs;
    const refusal = recurrentRefusal(node);
    if (refusal || !targets.has(w) || !targets.has(r)) {
      context.skip(
        nodeLabel(node),
        refusal ?? "DynamicQuantizeLSTM takes both weights in 8 bits; one of them can't be",
      );
      return [];
    }
    const [input, recurrence] = [named(w), named(r)];
    return [{ weights: [w, r], apply: (draft) => replaceLstm(draft, node, input(draft), recurrence(draft)) }];
  });
}
