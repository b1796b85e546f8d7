import { fail } from "../../errors.ts";
import { type Draft, edit } from "../../graph/edit.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { convertOpset, withIrVersion } from "../../ops/convert.ts";
import { levelsOf } from "../../tensor/block-grid.ts";
import { largestMagnitude } from "../../tensor/blockwise.ts";
import { breathe } from "../breathe.ts";
import { hoistConstants } from "../hoist-constants.ts";
import { selector } from "../selection.ts";
import { type Context, technique } from "../technique.ts";
import { activationAware } from "./awq.ts";
import type { CodePlan } from "./codes.ts";
import { dequantizeForm, dequantizeOpset } from "./dequantize.ts";
import { withFoldedWeights } from "./folded.ts";
import { compensatedCodes, type Planned } from "./gptq.ts";
import { inputImportance } from "./importance.ts";
import { kernelCodeBlock, kernelForm, kernelRefusal } from "./kernels.ts";
import { type QuantizeWeightsOptions, quantizeWeightsOptions } from "./options.ts";
import { storageCodeBlock, storageForm } from "./storage.ts";
import { nodeVerdicts, surveyWeights, type WeightSurvey, type WeightTarget } from "./targets.ts";

/** Form in which a weight is stored. */
type Form = "kernels" | "dequantize" | "storage";

/**
 * Stores weights in 8 to 1 bits while activations stay in floating point.
 *
 *     w -> scale * (code - zero),  codes packed, scale and zero one a block, channel or tensor
 *
 * Three forms: kernels that compute on packed weights (MatMulNBits, GatherBlockQuantized), DequantizeLinear in front of
 * the operator, and a storage form that ONNX Runtime unpacks into float weights when it loads the model.
 * Block scales: Dettmers et al. 2022 (LLM.int8()), Frantar et al. 2022 (GPTQ's groups); least-squares scales as in
 * llama.cpp's k-quants; HQQ: Badri and Shaji 2023; errors made up for: gptq.ts; channels scaled first: awq.ts.
 */
export const quantizeWeights = technique({
  name: "quantize-weights",
  summary: "Store weights in 8, 4, 3, 2 bits, ternary or binary; activations stay in floating point.",
  options: quantizeWeightsOptions,
  data: "optional",
  identity: { exclude: ["*"] },
  applies: nodeVerdicts(
    (graph) => survey(graph, quantizeWeightsOptions.parse({})),
    () => true,
  ),
  async apply(graph, options, context) {
    checkOptions(options, context);
    const seen = hoistConstants(graph, Math.max(1, options.minElements));
    const hoisted = options.simplify ? await withFoldedWeights(seen, context) : seen;
    const { targets, skipped } = survey(hoisted, options);
    for (const { node, reason } of skipped) context.skip(nodeLabel(node), reason);
    const plans = planTargets(hoisted, targets, options, context);
    if (plans.length === 0) return graph;
    const raised = raisedVersion(hoisted, plans, options);
    const chosen = new Map(plans.map(({ target, form }) => [target.name, form]));
    const planned = (current: Graph): readonly (Planned & PlannedTarget)[] => {
      const found = current === hoisted ? targets : survey(current, options).targets;
      return found.flatMap((target) => {
        const form = chosen.get(target.name);
        if (!form) return [];
        const plan = codePlan(target, form, options);
        return [{ target, form, plan, block: codeBlock(target, form, plan) }];
      });
    };
    const scaled = options.awq ? await activationAware(raised, planned(raised), options, context) : raised;
    return write(scaled, await withCodes(scaled, planned(scaled), options, context), options, context);
  },
});

function survey(graph: Graph, options: QuantizeWeightsOptions): WeightSurvey {
  const select = selector(options);
  return surveyWeights(graph, {
    minElements: options.minElements,
    select: (node) =>
      select(node) &&
      (options.embeddings || node.op !== "Gather") &&
      (options.convolutions || (node.op !== "Conv" && node.op !== "ConvTranspose")),
  });
}

interface PlannedTarget {
  readonly target: WeightTarget;
  readonly form: Form;
}

function checkOptions({ bits, format, method, awq }: QuantizeWeightsOptions, { data }: Context): void {
  if ((method === "gptq" || awq) && !data) {
    const [what, otherwise] = method === "gptq" ? ["method gptq", "--method search"] : ["awq", "leave it out"];
    fail("quantize-weights", `${what} needs samples of what the model will see`, `Give --data, or ${otherwise}`);
  }
  if (bits !== 3 || format === "auto" || format === "storage") return;
  fail(
    "quantize-weights",
    `nothing computes on 3-bit weights, got format '${format}'`,
    "Use format storage, or 4 bits",
  );
}

/** Chooses the form of every target; tells why where the format asked for can't take one. */
function planTargets(
  graph: Graph,
  targets: readonly WeightTarget[],
  options: QuantizeWeightsOptions,
  context: Context,
): PlannedTarget[] {
  const { format, bits } = options;
  const where = options.target === "auto" ? context.runtime.provider : options.target;
  return targets.flatMap((target): PlannedTarget[] => {
    if (format === "storage" || format === "dequantize") return [{ target, form: format }];
    const refusal = kernelRefusal(graph, target);
    if (format === "matmulnbits") {
      if (!refusal) return [{ target, form: "kernels" }];
      for (const { node } of target.uses) context.skip(nodeLabel(node), refusal);
      return [];
    }
    // WASM computes MatMulNBits 20 times slower than float; no kernel has ternary's or binary's own width
    const kernels = !refusal && where !== "wasm" && (bits === 8 || bits === 4 || bits === 2);
    return [{ target, form: kernels ? "kernels" : "storage" }];
  });
}

/** Plans with what the data says: importance of the inputs, or the codes themselves. */
async function withCodes<P extends Planned>(
  graph: Graph,
  planned: readonly P[],
  options: QuantizeWeightsOptions,
  context: Context,
): Promise<readonly P[]> {
  if (options.method === "gptq") {
    const codes = await compensatedCodes(graph, planned, options, context);
    return planned.map((one) => ({ ...one, plan: { ...one.plan, codes: codes.get(one.target.name)! } }));
  }
  // rounding to the range of a block weighs nothing, but for ternary, whose step is a mean
  const weighs = options.method !== "rtn" || options.bits === "ternary";
  if (options.granularity === "tensor" || !weighs) return planned;
  const targets = planned.map(({ target }) => target);
  const importance = await inputImportance(graph, targets, options.samples, context);
  return planned.map((one) => ({ ...one, plan: { ...one.plan, importance: importance.get(one.target.name) } }));
}

async function write(
  graph: Graph,
  plans: readonly (Planned & PlannedTarget)[],
  options: QuantizeWeightsOptions,
  context: Context,
): Promise<Graph> {
  const changes: ((draft: Draft) => void)[] = [];
  for (const [done, { target, form, plan }] of plans.entries()) {
    context.progress(done, plans.length, "weights");
    await breathe(context);
    changes.push(encode(target, form, plan, options));
  }
  context.progress(plans.length, plans.length, "weights");
  const gone = new Set(plans.map(({ target }) => target.name));
  return edit(graph, (draft) => {
    draft.inputs = draft.inputs.filter(({ name }) => !gone.has(name));
    for (const change of changes) change(draft);
  });
}

/** The graph at the versions that the new nodes need; constants are no longer inputs from IR version 4 on. */
function raisedVersion(graph: Graph, plans: readonly PlannedTarget[], options: QuantizeWeightsOptions): Graph {
  const opsets = plans
    .filter(({ form }) => form === "dequantize")
    .map(({ target, form }) => dequantizeOpset(target, codePlan(target, form, options)));
  return withIrVersion(convertOpset(graph, Math.max(graph.opsets[""] ?? 1, ...opsets)), 4);
}

function codePlan(
  target: WeightTarget,
  form: Form,
  { bits, granularity, block, symmetric, method }: QuantizeWeightsOptions,
): CodePlan {
  const length = target.layout.shape[target.layout.axis]!;
  const byBlock = granularity === "block" && (form !== "storage" || block < length);
  // float16 holds these steps to 11 bits, below what 8 bits can tell; smaller weights would fall among its subnormals
  const fitsHalves = (): boolean => byBlock && halfRange(largestMagnitude(target.weight) / levelsOf(bits));
  // the other forms have scales of the weight's type
  const halves = form === "storage" ? fitsHalves() : target.weight.dtype === "float16";
  return {
    grid: {
      width: bits,
      symmetric: symmetric || levelsOf(bits) < 4,
      method: method === "gptq" ? "search" : method,
      halfScales: halves,
    },
    block: byBlock ? block : length,
    whole: granularity === "tensor",
    importance: undefined,
  };
}

/** Elements of a block of the codes that a form stores. */
function codeBlock(target: WeightTarget, form: Form, plan: CodePlan): number {
  if (form === "kernels") return kernelCodeBlock(target, plan);
  return form === "storage" ? storageCodeBlock(target, plan) : plan.block;
}

function halfRange(step: number): boolean {
  return step > 2 ** -10 && step < 2 ** 14;
}

function encode(
  target: WeightTarget,
  form: Form,
  plan: CodePlan,
  options: QuantizeWeightsOptions,
): (draft: Draft) => void {
  if (form === "kernels") return kernelForm(target, plan, options.accuracyLevel);
  return form === "dequantize" ? dequantizeForm(target, plan) : storageForm(target, plan);
}
