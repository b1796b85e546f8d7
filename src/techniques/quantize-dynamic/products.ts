import type { Draft } from "../../graph/edit.ts";
import { floatAttribute, intAttribute, makeNode, type Node, type PlainAttribute } from "../../graph/graph.ts";
import { quantizeWeight } from "../../tensor/affine.ts";
import { dtypes } from "../../tensor/dtype.ts";
import { float32, type Tensor, tensor, toFloat32, typed } from "../../tensor/tensor.ts";
import type { WeightTarget, WeightUse } from "../quantize-weights/targets.ts";
import type { QuantizeDynamicOptions } from "./options.ts";

/** Values that DynamicQuantizeLinear makes of an activation. */
export interface DynamicInput {
  readonly codes: string;
  readonly scale: string;
  readonly zero: string;
}

/** Quantizes an activation at run time, once however many nodes read it. */
export function dynamicInputs(draft: Draft): (activation: string) => DynamicInput {
  const known = new Map<string, DynamicInput>();
  return (activation) => {
    const before = known.get(activation);
    if (before) return before;
    const made = {
      codes: draft.fresh(`${activation}_quantized`),
      scale: draft.fresh(`${activation}_scale`),
      zero: draft.fresh(`${activation}_zero_point`),
    };
    draft.add(makeNode("DynamicQuantizeLinear", [activation], [made.codes, made.scale, made.zero]));
    known.set(activation, made);
    return made;
  };
}

/**
 * Lets products compute in integers and lookups read 8-bit rows, in the pattern that ONNX Runtime fuses into
 * DynamicQuantizeMatMul:
 *
 *     MatMul, Gemm -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul scales (-> Add bias)
 *     Gather -> Gather codes -> Cast -> Mul Gather scales
 *
 * Products that share their weight with a lookup read `codes -> Cast -> Mul scales` instead where `tied` is "float", which
 * the runtime computes once, when it loads the model.
 *
 * The weight is quantized at once, the nodes are changed by the function returned.
 */
export function integerProducts(
  target: WeightTarget,
  options: QuantizeDynamicOptions,
): (draft: Draft, input: (activation: string) => DynamicInput) => void {
  const { name, weight, layout, uses } = target;
  const lookup = uses.some(({ kind }) => kind === "gather");
  // channels lie on the axis that is not summed over: the last one of [.., K, N], the first of [N, K]
  const rows = layout.axis === weight.shape.length - 1;
  const axis = options.perChannel ? (rows ? 0 : weight.shape.length - 1) : null;
  const { values, scale } = quantizeWeight(weight, {
    dtype: "int8",
    axis,
    symmetric: true,
    reduceRange: options.portable,
    name: `weight '${name}'`,
  });
  const stored = rows && !lookup ? transposed(values) : values;
  const float = lookup && options.tied === "float";
  return (draft, input) => {
    const codes = draft.constant(`${name}_quantized`, stored);
    const table = lookup ? rowScales(draft, name, weight.shape[0]!, scale) : "";
    for (const { node, kind } of uses) if (kind === "gather") replaceLookup(draft, node, codes, table);
    const products = uses.filter(({ kind }) => kind !== "gather");
    if (products.length === 0) return;
    if (float) {
      const real = draft.emit("Cast", [codes], { to: dtypes.float32.code }, 1, `${name}_cast`);
      draft.rewire(name, draft.emit("Mul", [real, table], {}, 1, `${name}_dequantized`));
      return;
    }
    const scaleName = draft.constant(`${name}_scale`, scale);
    const right = rows && lookup ? transposeOf(draft, codes) : () => codes;
    for (const use of products) {
      replaceProduct(draft, use, right(), scaleName, scale, input);
      if (use.transpose) draft.replace(use.transpose);
    }
  };
}

/** A Transpose of the codes, added when first asked for: the runtime folds it when it loads the model. */
function transposeOf(draft: Draft, codes: string): () => string {
  let made: string | undefined;
  return () => {
    made ??= draft.emit("Transpose", [codes], { perm: [1, 0] }, 1, `${codes}_transposed`);
    return made;
  };
}

function transposed(t: Tensor): Tensor {
  const [rows, columns] = t.shape as [number, number];
  const from = typed(t) as Int8Array;
  const to = new Int8Array(from.length);
  const tile = 64;
  for (let r0 = 0; r0 < rows; r0 += tile) {
    const r1 = Math.min(rows, r0 + tile);
    for (let c = 0; c < columns; c++) for (let r = r0; r < r1; r++) to[c * rows + r] = from[r * columns + c]!;
  }
  return tensor(t.dtype, [columns, rows], to);
}

function rowScales(draft: Draft, name: string, rows: number, scale: Tensor): string {
  const data = toFloat32(scale);
  const column = scale.size === rows ? data : new Float32Array(rows).fill(data[0]!);
  return draft.constant(`${name}_row_scale`, float32([rows, 1], column));
}

function replaceLookup(draft: Draft, node: Node, codes: string, scales: string): void {
  const indices = node.inputs[1]!;
  const stem = node.outputs[0]!;
  const rows = draft.emit("Gather", [codes, indices], { axis: 0 }, 1, `${stem}_codes`);
  const scale = draft.emit("Gather", [scales, indices], { axis: 0 }, 1, `${stem}_scale`);
  const value = draft.emit("Cast", [rows], { to: dtypes.float32.code }, 1, `${stem}_cast`);
  draft.replace(node, makeNode("Mul", [value, scale], node.outputs, {}, node.name));
}

function replaceProduct(
  draft: Draft,
  { node, kind }: WeightUse,
  codes: string,
  scaleName: string,
  scale: Tensor,
  input: (activation: string) => DynamicInput,
): void {
  const stem = node.outputs[0]!;
  const nodes: Node[] = [];
  const emit = (op: string, inputs: readonly string[], attributes: Record<string, PlainAttribute> = {}): string => {
    const output = draft.fresh(`${stem}_${op.toLowerCase()}`);
    nodes.push(makeNode(op, inputs, [output], attributes, draft.fresh(`${node.name || stem}_${op}`)));
    return output;
  };
  const gemm = kind === "gemm";
  const alpha = gemm ? floatAttribute(node, "alpha", 1) : 1;
  const beta = gemm ? floatAttribute(node, "beta", 1) : 1;
  let a = node.inputs[0]!;
  if (gemm && intAttribute(node, "transA", 0)) {
    a = draft.emit("Transpose", [a], { perm: [1, 0] }, 1, `${stem}_transposed`);
  }
  const x = input(a);
  const weightScale = alpha === 1 ? scaleName : draft.constant(scaleName, scaled(scale, alpha));
  const product = emit("MatMulInteger", [x.codes, codes, x.zero]);
  const real = emit("Cast", [product], { to: dtypes.float32.code });
  const y = emit("Mul", [real, emit("Mul", [x.scale, weightScale])]);
  const bias = gemm && beta !== 0 ? node.inputs[2] : undefined;
  if (bias) emit("Add", [y, scaledBias(draft, bias, beta)]);
  const last = nodes.pop()!;
  nodes.push({ ...last, outputs: node.outputs, name: node.name || last.name });
  draft.replace(node, ...nodes);
}

function scaledBias(draft: Draft, bias: string, beta: number): string {
  if (beta === 1) return bias;
  const value = draft.weights.get(bias);
  if (value) return draft.constant(`${bias}_scaled`, scaled(value, beta));
  return draft.emit("Mul", [bias, draft.constant("beta", float32([], [beta]))], {}, 1, `${bias}_scaled`);
}

function scaled(t: Tensor, factor: number): Tensor {
  return float32(
    t.shape,
    toFloat32(t).map((v) => v * factor),
  );
}
