import type { Draft } from "../../graph/edit.ts";
import { middleOf, type Width } from "../../tensor/block-grid.ts";
import { blocksPerRow } from "../../tensor/blockwise.ts";
import { type CodePlane, codePlanes, planeTable, putCodes } from "../../tensor/code-planes.ts";
import { dtypes } from "../../tensor/dtype.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { float32, int64, tensor } from "../../tensor/tensor.ts";
import { type CodePlan, encodeTarget } from "./codes.ts";
import type { WeightTarget } from "./targets.ts";
import { restored, viewOf } from "./view.ts";

/**
 * Stores a weight as packed codes and the arithmetic that unpacks them, which ONNX Runtime folds into a float constant
 * when it loads the model:
 *
 *     bytes -> Cast -> Gather(table of what each byte stands for) -> Reshape -> (Sub zero) -> Mul scale -> Reshape
 *
 * 8-bit codes need no table. The weight is encoded at once, the nodes are added by the function returned. Works at every opset from 7 on and on every provider.
 */
export function storageForm(target: WeightTarget, plan: CodePlan): (draft: Draft) => void {
  const { width, symmetric, halfScales = false } = plan.grid;
  const { name, weight } = target;
  const even = { ...plan, block: storageCodeBlock(target, plan) };
  const shape = viewOf(target.layout, even.block);
  const { outer, length, inner, block } = shape;
  const blocks = blocksPerRow(shape);
  const padded = blocks * block;
  const planes = codePlanes(width, outer * padded * inner);
  const scales = new Float32Array(plan.whole ? 1 : outer * blocks * inner);
  const zeros = symmetric ? undefined : new Uint8Array(scales.length);
  encodeTarget(target, even, (run) => {
    const at = plan.whole ? 0 : (run.outer * blocks + run.block) * inner + run.inner;
    const next = plan.whole ? 0 : inner === 1 ? blocks : 1;
    for (let k = 0; k < run.blocks; k++) {
      scales[at + k * next] = width === "binary" ? run.scales[k]! / 2 : run.scales[k]!;
      if (zeros) zeros[at + k * next] = run.zeros[k]!;
    }
    const start = (run.outer * padded + run.block * block) * inner + run.inner;
    for (const plane of planes) putCodes(plane, run, start, inner === 1 ? padded : 1, inner);
  });
  const full = [outer, blocks, block, inner];
  const perBlock = plan.whole ? [1] : [outer, blocks, 1, inner];
  return (draft) => {
    let value = width === 8 ? bytes(draft, name, planes[0]!, full, symmetric) : digits(draft, name, planes, full, plan);
    if (zeros) {
      const stored = draft.constant(`${name}_zero`, tensor("uint8", perBlock, zeros));
      value = draft.emit("Sub", [value, draft.emit("Cast", [stored], { to: dtypes.float32.code })]);
    }
    value = draft.emit("Mul", [value, scaleConstant(draft, name, perBlock, scales, halfScales)]);
    let at: readonly number[] = full;
    if (padded !== length) {
      value = sliced(draft, reshaped(draft, value, [outer, padded, inner]), 1, length);
      at = [outer, length, inner];
    }
    value = restored(draft, value, target, at);
    if (weight.dtype !== "float32") value = draft.emit("Cast", [value], { to: dtypes[weight.dtype].code });
    draft.rewire(name, value);
  };
}

/**
 * Elements of a block of the codes that {@link storageForm} stores: blocks are of equal length and no longer than asked
 * for, or the last one would be padded with waste.
 */
export function storageCodeBlock({ layout }: WeightTarget, plan: CodePlan): number {
  const length = layout.shape[layout.axis]!;
  const blocks = Math.max(1, Math.ceil(length / plan.block));
  return Math.max(1, Math.ceil(length / blocks));
}

function bytes(
  draft: Draft,
  name: string,
  { bytes: data }: CodePlane,
  shape: readonly number[],
  symmetric: boolean,
): string {
  // code - 128 in two's complement is the code with its top bit flipped
  if (symmetric) for (let i = 0; i < data.length; i++) data[i]! ^= 128;
  const stored = draft.constant(`${name}_codes`, tensor(symmetric ? "int8" : "uint8", shape, data));
  return draft.emit("Cast", [stored], { to: dtypes.float32.code });
}

function digits(
  draft: Draft,
  name: string,
  planes: readonly CodePlane[],
  shape: readonly number[],
  plan: CodePlan,
): string {
  const count = shape.reduce((a, b) => a * b, 1);
  const centred = plan.grid.symmetric || middleOf(plan.grid.width) < 2;
  const parts = planes.map((plane) => {
    const stored = draft.constant(`${name}_codes`, tensor("uint8", [plane.bytes.length], plane.bytes));
    const index = draft.emit("Cast", [stored], { to: dtypes.int32.code });
    const integers = draft.emit("Gather", [tableConstant(draft, plane, plan.grid.width, centred), index], { axis: 0 });
    const rows = draft.emit("Cast", [integers], { to: dtypes.float32.code });
    if (plane.bytes.length * plane.perByte === count) return reshaped(draft, rows, shape);
    return reshaped(draft, sliced(draft, reshaped(draft, rows, [-1]), 0, count), shape);
  });
  return parts.reduce((a, b) => draft.emit("Add", [a, b]));
}

/** A table of what bytes stand for, one for all the weights of a graph. */
function tableConstant(draft: Draft, plane: CodePlane, width: Width, centred: boolean): string {
  const name = `pare_table_${width}${planeSuffix(plane)}${centred ? "" : "_plain"}`;
  if (!draft.weights.has(name)) {
    const rows = plane.radix ** plane.perByte;
    draft.weights.set(draft.fresh(name), tensor("int8", [rows, plane.perByte], planeTable(plane, width, centred)));
  }
  return name;
}

function planeSuffix(plane: CodePlane): string {
  return plane.shift > 0 ? "_high" : "";
}

function scaleConstant(
  draft: Draft,
  name: string,
  shape: readonly number[],
  scales: Float32Array,
  half: boolean,
): string {
  if (!half) return draft.constant(`${name}_scale`, float32(shape, scales));
  const stored = draft.constant(`${name}_scale`, tensor("float16", shape, floatToHalf(scales, "float16")));
  return draft.emit("Cast", [stored], { to: dtypes.float32.code });
}

function reshaped(draft: Draft, value: string, shape: readonly number[]): string {
  return draft.emit("Reshape", [value, draft.constant("shape", int64(shape))]);
}

/** The first `length` elements along an axis; Slice took its bounds as attributes before opset 10. */
function sliced(draft: Draft, value: string, axis: number, length: number): string {
  if ((draft.opsets[""] ?? 1) < 10) return draft.emit("Slice", [value], { starts: [0], ends: [length], axes: [axis] });
  const vector = (stem: string, v: number): string => draft.constant(stem, int64([v]));
  return draft.emit("Slice", [value, vector("starts", 0), vector("ends", length), vector("axes", axis)]);
}
