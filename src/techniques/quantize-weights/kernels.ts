import type { Draft } from "../../graph/edit.ts";
import {
  floatAttribute,
  type Graph,
  intAttribute,
  makeNode,
  type Node,
  type PlainAttribute,
} from "../../graph/graph.ts";
import { codePlanes, packedCodes, promoted, putCodes } from "../../tensor/code-planes.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { float32, int64, type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";
import { type CodePlan, encodeTarget } from "./codes.ts";
import type { WeightTarget, WeightUse } from "./targets.ts";
import { viewOf } from "./view.ts";

/** Why the packed kernels can't take a weight; undefined if they can. */
export function kernelRefusal(graph: Graph, { weight, layout, uses }: WeightTarget): string | undefined {
  if (weight.shape.length !== 2) return `MatMulNBits takes a matrix, not ${weight.shape.length} axes`;
  for (const { kind, node, transpose } of uses) {
    if (kind !== "matmul" && kind !== "gemm" && kind !== "gather")
      return `no kernel takes packed weights for ${node.op}`;
    if (kind === "gather" && (layout.axis !== 1 || intAttribute(node, "axis", 0) !== 0)) {
      return "GatherBlockQuantized looks up rows of a table that products read transposed, or none";
    }
    const axis = kind === "matmul" ? (transpose ? 1 : 0) : kind === "gemm" ? intAttribute(node, "transB", 0) : 1;
    if (axis !== layout.axis) return "its readers sum over different axes";
    const declared = graph.inputs.find(({ name }) => name === node.inputs[0]) ?? graph.declared.get(node.inputs[0]!);
    const type = declared?.type;
    if (kind === "matmul" && type?.kind === "tensor" && type.shape?.length === 1) return "MatMulNBits takes no vector";
  }
  const columns = layout.shape[layout.axis]!;
  if (uses.some(({ kind }) => kind === "gather") && columns % 16 !== 0) {
    return `GatherBlockQuantized takes rows of whole blocks, not ${columns} elements`;
  }
  return undefined;
}

/** Elements of a block of the codes that {@link kernelForm} stores: one of the kernels', or a whole row. */
export function kernelCodeBlock({ layout, uses }: WeightTarget, plan: CodePlan): number {
  const columns = layout.shape[layout.axis]!;
  const lookup = uses.some(({ kind }) => kind === "gather");
  return plan.block >= columns ? columns : kernelBlock(plan, columns, lookup);
}

/** Block of the kernels: a power of two from 16; whole blocks where there is a lookup. */
function kernelBlock(plan: CodePlan, length: number, lookup: boolean): number {
  const sizes = [256, 128, 64, 32, 16];
  if (plan.block < length || sizes.includes(plan.block)) {
    const fitting = sizes.filter((size) => size <= plan.block && (!lookup || length % size === 0));
    return fitting.find((size) => size < length * 2) ?? 16;
  }
  // one scale a row, repeated for each block: the largest block that pads least
  const padding = (size: number): number => Math.ceil(length / size) * size - length;
  return sizes.slice(1).reduce((best, size) => (padding(size) < padding(best) ? size : best));
}

/**
 * Packs a weight for the kernels of ONNX Runtime that compute on packed weights, `[N, blocks, block * bits / 8]` with
 * low bits first, and lets its readers be those kernels:
 *
 *     MatMul, Gemm -> MatMulNBits (-> Mul alpha) (-> Add)        Gather -> GatherBlockQuantized
 *
 * A table that is also the output layer is stored once. The weight is encoded at once, the nodes are changed by the
 * function returned.
 */
export function kernelForm(target: WeightTarget, plan: CodePlan, accuracyLevel: number): (draft: Draft) => void {
  const place = packRows(target, plan);
  return (draft) => {
    const packed = place(draft);
    for (const use of target.uses) {
      if (use.kind === "gather") replaceGather(draft, use.node, packed);
      else replaceProduct(draft, use, packed, accuracyLevel);
      if (use.transpose) draft.replace(use.transpose);
    }
  };
}

interface Packed {
  readonly rows: number;
  readonly columns: number;
  readonly bits: number;
  readonly block: number;
  /** Names of constants. `codes` is `[N, blocks, bytes]`, or the table `[N, bytes]` where there is a lookup. */
  readonly codes: string;
  readonly table: string;
  readonly scale: string;
  readonly zero: string | undefined;
  readonly half: boolean;
}

/** Encodes a weight; the function returned adds the constants. */
function packRows(target: WeightTarget, plan: CodePlan): (draft: Draft) => Packed {
  const { name, layout, uses, weight } = target;
  const lookup = uses.some(({ kind }) => kind === "gather");
  const { length: columns, inner, outer } = viewOf(layout, plan.block);
  const rows = outer * inner;
  const { bits, factor, offset } = promoted(plan.grid.width);
  const block = kernelBlock(plan, columns, lookup);
  const perRow = plan.block >= columns;
  const blocks = Math.ceil(columns / block);
  const codePlane = codePlanes(bits, rows * blocks * block)[0]!;
  const zeroWidth = blocks + ((8 / bits - (blocks % (8 / bits))) % (8 / bits));
  const zeros = plan.grid.symmetric ? undefined : new Uint8Array(rows * zeroWidth);
  const scales = new Float32Array(rows * blocks);
  encodeTarget(target, { ...plan, block: kernelCodeBlock(target, plan) }, (run) => {
    if (offset) for (let j = 0; j < run.blocks * run.pitch; j++) run.codes[j] = run.codes[j]! * factor + offset;
    const { scales: steps, zeros: points } = run;
    const row = run.outer * inner + run.inner;
    putCodes(codePlane, run, (row * blocks + run.block) * block, blocks * block, 1);
    for (let at = run.block; at < (perRow ? blocks : run.block + 1); at++) {
      for (let k = 0; k < run.blocks; k++) {
        scales[(row + k) * blocks + at] = steps[k]! / factor;
        if (zeros) zeros[(row + k) * zeroWidth + at] = points[k]!;
      }
    }
  });
  const packedZeros = zeros && packedCodes(bits, zeros);
  const half = weight.dtype === "float16";
  const blob = (block * bits) / 8;
  const products = uses.some(({ kind }) => kind !== "gather");
  const scaleData = half ? floatToHalf(scales, "float16") : scales;
  const zeroShape = [rows, (zeroWidth * bits) / 8];
  return (draft) => {
    const shape = [rows, blocks, blob];
    const stored = tensor("uint8", lookup ? [rows, blocks * blob] : shape, codePlane.bytes);
    const table = draft.constant(`${name}_q${bits}`, stored);
    const codes =
      lookup && products
        ? draft.emit("Reshape", [table, draft.constant("shape", int64(shape))], {}, 1, `${table}_blocks`)
        : table;
    const scale = draft.constant(`${name}_scale`, tensor(half ? "float16" : "float32", [rows, blocks], scaleData));
    const zero = packedZeros && draft.constant(`${name}_zero`, tensor("uint8", zeroShape, packedZeros));
    draft.opsets["com.microsoft"] ??= 1;
    return { rows, columns, bits, block, codes, table, scale, zero, half };
  };
}

function replaceGather(draft: Draft, node: Node, packed: Packed): void {
  const inputs = [packed.table, node.inputs[1]!, packed.scale, ...(packed.zero ? [packed.zero] : [])];
  const attributes = { gather_axis: 0, quantize_axis: 1, block_size: packed.block, bits: packed.bits };
  draft.replace(node, makeNode("com.microsoft:GatherBlockQuantized", inputs, node.outputs, attributes, node.name));
}

function replaceProduct(draft: Draft, { node, kind }: WeightUse, packed: Packed, accuracyLevel: number): void {
  const nodes: Node[] = [];
  const emit = (op: string, inputs: readonly string[], attributes: Record<string, PlainAttribute> = {}): string => {
    const output = draft.fresh(`${node.outputs[0]}_${op.slice(op.lastIndexOf(":") + 1).toLowerCase()}`);
    nodes.push(makeNode(op, inputs, [output], attributes, draft.fresh(`${node.name || node.outputs[0]}_${op}`)));
    return output;
  };
  const gemm = kind === "gemm";
  const alpha = gemm ? floatAttribute(node, "alpha", 1) : 1;
  const beta = gemm ? floatAttribute(node, "beta", 1) : 1;
  const bias = gemm && beta !== 0 ? node.inputs[2] || undefined : undefined;
  const fused = bias !== undefined && alpha === 1 ? biasVector(draft, bias, beta, packed) : undefined;
  const a =
    gemm && intAttribute(node, "transA", 0) ? emit("Transpose", [node.inputs[0]!], { perm: [1, 0] }) : node.inputs[0]!;
  const inputs = [a, packed.codes, packed.scale, ...optionals(packed.zero, fused)];
  const attributes = {
    K: packed.columns,
    N: packed.rows,
    bits: packed.bits,
    block_size: packed.block,
    ...(accuracyLevel > 0 && { accuracy_level: accuracyLevel }),
  };
  let y = emit("com.microsoft:MatMulNBits", inputs, attributes);
  const scalar = (value: number): string => draft.constant(`${node.outputs[0]}_factor`, scalarOf(value, packed.half));
  if (alpha !== 1) y = emit("Mul", [y, scalar(alpha)]);
  if (bias !== undefined && !fused) y = emit("Add", [y, beta === 1 ? bias : emit("Mul", [bias, scalar(beta)])]);
  const last = nodes.pop()!;
  nodes.push({ ...last, outputs: node.outputs, name: node.name || last.name });
  draft.replace(node, ...nodes);
}

/** The trailing inputs zero_points, g_idx and bias, as far as they are needed. */
function optionals(zero: string | undefined, bias: string | undefined): string[] {
  if (bias) return [zero ?? "", "", bias];
  return zero ? [zero] : [];
}

/** A Gemm's constant C as a vector `[N]`, scaled by beta, if it is one. */
function biasVector(draft: Draft, bias: string, beta: number, packed: Packed): string | undefined {
  const value = draft.weights.get(bias);
  if (!value || value.size !== packed.rows || value.shape.at(-1) !== packed.rows || packed.half) return undefined;
  if (beta === 1 && value.shape.length === 1) return bias;
  return draft.constant(
    `${bias}_scaled`,
    float32(
      [packed.rows],
      toFloat32(value).map((v) => v * beta),
    ),
  );
}

function scalarOf(value: number, half: boolean): Tensor {
  return half ? tensor("float16", [], floatToHalf(Float32Array.of(value), "float16")) : float32([], [value]);
}
