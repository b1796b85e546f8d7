import type { Draft } from "../../graph/edit.ts";
import { blocksPerRow } from "../../tensor/blockwise.ts";
import { codePlanes, packedCodes, promoted, putCodes } from "../../tensor/code-planes.ts";
import type { DType } from "../../tensor/dtype.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { tensor } from "../../tensor/tensor.ts";
import { type CodePlan, encodeTarget } from "./codes.ts";
import type { WeightTarget } from "./targets.ts";
import { restored, scaleShape, viewOf } from "./view.ts";

/** First opset whose DequantizeLinear takes the codes of a plan: blocks 21, int4 21, int2 25, per channel 13. */
export function dequantizeOpset(target: WeightTarget, plan: CodePlan): number {
  const { bits } = promoted(plan.grid.width);
  if (bits === 2) return 25;
  return bits === 4 || form(target, plan) === "blocked" ? 21 : form(target, plan) === "channel" ? 13 : 10;
}

function form(target: WeightTarget, plan: CodePlan): "tensor" | "channel" | "blocked" {
  if (plan.whole) return "tensor";
  const { outer, inner, length, block } = viewOf(target.layout, plan.block);
  return block >= length && (outer === 1 || inner === 1) && target.layout.shape.length === 2 ? "channel" : "blocked";
}

/**
 * Stores a weight as integers behind a DequantizeLinear, which ONNX Runtime fuses into a following MatMul. The weight is
 * encoded at once, the nodes are added by the function returned.
 */
export function dequantizeForm(target: WeightTarget, plan: CodePlan): (draft: Draft) => void {
  const { width, symmetric } = plan.grid;
  const { name, layout, weight } = target;
  const view = viewOf(layout, plan.block);
  const { outer, length, inner, block } = view;
  const blocks = blocksPerRow(view);
  const { bits, factor, offset } = promoted(width);
  const values = codePlanes(bits, outer * length * inner)[0]!;
  const count = plan.whole ? 1 : outer * blocks * inner;
  const scales = new Float32Array(count);
  const zeros = symmetric ? undefined : new Uint8Array(count);
  encodeTarget(target, plan, (run) => {
    const at = plan.whole ? 0 : (run.outer * blocks + run.block) * inner + run.inner;
    const next = plan.whole ? 0 : inner === 1 ? blocks : 1;
    for (let k = 0; k < run.blocks; k++) {
      scales[at + k * next] = run.scales[k]! / factor;
      if (zeros) zeros[at + k * next] = run.zeros[k]!;
    }
    if (offset) for (let j = 0; j < run.blocks * run.pitch; j++) run.codes[j] = run.codes[j]! * factor + offset;
    const start = (run.outer * length + run.block * block) * inner + run.inner;
    putCodes(values, run, start, inner === 1 ? length : 1, inner);
  });
  const packedZeros = zeros && packedCodes(bits, zeros);
  // code - middle in two's complement is the code with its top bit flipped
  if (symmetric) flip(values.bytes, bits);
  const dtype = `${symmetric ? "int" : "uint"}${bits}` as DType;
  const how = form(target, plan);
  const shape = how === "tensor" ? [] : how === "channel" ? [count] : scaleShape(layout, view);
  const kind = weight.dtype === "float16" ? "float16" : "float32";
  const scaleData = kind === "float16" ? floatToHalf(scales, "float16") : scales;
  const natural = how !== "blocked" && !layout.permutation;
  const axis = how === "blocked" ? layout.axis : outer === 1 ? 1 : 0;
  const attributes = how === "tensor" ? {} : how === "channel" ? { axis } : { axis, block_size: block };
  return (draft) => {
    const inputs = [
      draft.constant(`${name}_codes`, tensor(dtype, natural ? weight.shape : layout.shape, values.bytes)),
      draft.constant(`${name}_scale`, tensor(kind, shape, scaleData)),
    ];
    if (packedZeros) inputs.push(draft.constant(`${name}_zero`, tensor(dtype, shape, packedZeros)));
    const value = draft.emit("DequantizeLinear", inputs, attributes, 1, `${name}_dequantized`);
    draft.rewire(name, restored(draft, value, target, natural ? weight.shape : layout.shape));
  };
}

function flip(bytes: Uint8Array, bits: 8 | 4 | 2): void {
  const tops = { 8: 0x80, 4: 0x88, 2: 0xaa }[bits];
  for (let i = 0; i < bytes.length; i++) bytes[i]! ^= tops;
}
