import { type Draft, edit } from "../../graph/edit.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { convertOpset, withIrVersion } from "../../ops/convert.ts";
import { middleOf, type Width } from "../../tensor/block-grid.ts";
import type { BlockCodes } from "../../tensor/blockwise.ts";
import { integerRange } from "../../tensor/dtype.ts";
import { sizeOf } from "../../tensor/tensor.ts";
import type { CodePlan } from "../quantize-weights/codes.ts";
import { dequantizeForm, dequantizeOpset } from "../quantize-weights/dequantize.ts";
import { kernelForm, kernelRefusal } from "../quantize-weights/kernels.ts";
import { storageForm } from "../quantize-weights/storage.ts";
import { surveyWeights, type WeightSurvey, type WeightTarget } from "../quantize-weights/targets.ts";
import { selector } from "../selection.ts";
import type { Context } from "../technique.ts";
import type { Coded, Settled } from "./export.ts";
import type { Options } from "./options.ts";

/** Tensors with fewer elements than this stay in float: a scale for each channel is what they could save. */
const fewest = 64;

/** The weights that are rounded where activations stay in float; those of transposed convolutions lie otherwise. */
export function surveyTargets(graph: Graph, options: Options): WeightSurvey {
  const { targets, skipped } = surveyWeights(graph, { minElements: fewest, select: selector(options) });
  const [plain, permuted] = [targets.filter(lies), targets.filter((target) => !lies(target))];
  const reason = "its channels do not lie one behind the other: use quantize-weights";
  return {
    targets: plain,
    skipped: [...skipped, ...permuted.flatMap(({ uses }) => uses.map(({ node }) => ({ node, reason })))],
  };
}

const lies = ({ layout }: WeightTarget): boolean => layout.permutation === undefined;

/** Writes weights in a form of quantize-weights, with the integers that training found. */
export function writeWeights({ graph, coded }: Settled, options: Options, context: Context): Graph {
  const plans = surveyTargets(graph, options).targets.flatMap((target) => {
    const known = coded.get(target.name);
    return known
      ? [{ target, plan: codePlan(target, known, options), form: formOf(graph, target, options, context) }]
      : [];
  });
  const opsets = plans.flatMap(({ target, plan, form }) =>
    form === dequantizeForm ? [dequantizeOpset(target, plan)] : [],
  );
  const raised = withIrVersion(convertOpset(graph, Math.max(graph.opsets[""] ?? 1, ...opsets)), 4);
  const current = new Map(surveyTargets(raised, options).targets.map((target) => [target.name, target]));
  const changes = plans.map(({ target, plan, form }) => form(current.get(target.name) ?? target, plan));
  return edit(raised, (draft) => {
    for (const change of changes) change(draft);
  });
}

type Form = (target: WeightTarget, plan: CodePlan) => (draft: Draft) => void;

/** Activations stay as exact as they were trained: in float32. */
const exactActivations = 1;
const kernels: Form = (target, plan) => kernelForm(target, plan, exactActivations);

function formOf(graph: Graph, target: WeightTarget, { format }: Options, context: Context): Form {
  if (format === "dequantize") return dequantizeForm;
  if (format !== "matmulnbits") return storageForm;
  const refusal = kernelRefusal(graph, target);
  if (refusal) for (const { node } of target.uses) context.skip(nodeLabel(node), `stored, not computed on: ${refusal}`);
  return refusal ? storageForm : kernels;
}

function codePlan({ layout }: WeightTarget, { codes, steps, grid }: Coded, { format }: Options): CodePlan {
  const width = widthOf(codes, grid.width, format === "storage" || format === "auto");
  return {
    grid: { width, symmetric: true, method: "rtn" },
    block: layout.shape[layout.axis]!,
    whole: steps.length === 1,
    importance: undefined,
    codes: blockCodes(codes, steps, layout.shape, layout.axis, width),
  };
}

/** Signed integers as codes from 0 on; the two codes of "binary" are two steps apart. */
function blockCodes(
  integers: Int8Array,
  steps: Float32Array,
  shape: readonly number[],
  axis: number,
  width: Width,
): BlockCodes {
  const [zero, apart] = [middleOf(width), width === "binary" ? 2 : 1];
  const rows = sizeOf(shape) / shape[axis]!;
  return {
    codes: Uint8Array.from(integers, (q) => q / apart + zero),
    scales: Float32Array.from({ length: rows }, (_, row) => apart * steps[steps.length === 1 ? 0 : row]!),
    zeros: new Float32Array(rows).fill(zero),
  };
}

/** The narrowest width that holds some integers; three levels and three bits only where they can be stored. */
export function widthOf(codes: Int8Array, wanted: Options["weightBits"], stored: boolean): Width {
  let [least, most] = [0, 0];
  let zeros = 0;
  for (const code of codes) {
    [least, most] = [Math.min(least, code), Math.max(most, code)];
    if (code === 0) zeros++;
  }
  if (wanted === "binary" && least >= -1 && most <= 1 && zeros === 0) return "binary";
  if (wanted === "ternary" && least >= -1 && most <= 1) return "ternary";
  if (stored && wanted !== 4 && wanted !== 8 && least >= -4 && most <= 3 && !(least >= -2 && most <= 1)) return 3;
  for (const [width, dtype] of [
    [2, "int2"],
    [4, "int4"],
  ] as const) {
    const [low, high] = integerRange(dtype);
    if (least >= low && most <= high) return width;
  }
  return 8;
}
