import { fail } from "../errors.ts";
import { withoutDefaultInputs } from "../graph/defaults.ts";
import { type Draft, edit } from "../graph/edit.ts";
import { type Graph, type Node, opKey } from "../graph/graph.ts";
import { consumersOf } from "../graph/walk.ts";
import { dtypes } from "../tensor/dtype.ts";
import { floatToHalf } from "../tensor/half.ts";
import { float32, type Tensor, tensor } from "../tensor/tensor.ts";
import type { Couplings } from "./couplings.ts";
import { nodeView } from "./couplings-relate.ts";
import { type Cuts, type KeptIndices, keptIndices } from "./cut.ts";
import { zeroed } from "./cut-weights.ts";
import { couplingRule } from "./rules/index.ts";
import type { Contraction, Masking } from "./rules/rule.ts";

/** What an index that is left out adds to a sum, a maximum, ... */
const neutral: Readonly<Record<Contraction, number>> = {
  sum: 0,
  mean: 0,
  max: Number.NEGATIVE_INFINITY,
  min: Number.POSITIVE_INFINITY,
  product: 1,
};

/**
 * The graph as it was, but with nothing coming from the units that are cut: their weights are zero where zero does no
 * harm (a divisor stays), and a sum over activations, or a mean, or a normalization, leaves them out. It computes what
 * {@link cutUnits} computes: what a mask during training stands for, and what cutting is tested against.
 *
 * @throws PareError as {@link keptIndices} does
 */
export function maskUnits(found: Couplings, cuts: Cuts): Graph {
  const { graph, structure } = found;
  const kept = keptIndices(found, cuts);
  const zeros = new Set<string>();
  for (const [name, weight] of graph.weights) {
    if (kept.all(name) && weight.shape.length > 0 && mayBeZero(graph, name, weight)) zeros.add(name);
  }
  return edit(withoutDefaultInputs(graph), (draft) => {
    for (const name of zeros) draft.weights.set(name, zeroed(graph.weights.get(name)!, kept.all(name)!));
    const constants = new Map<string, string>();
    const context: MaskContext = { found, kept, draft, zeros, constants };
    const replaced = new Map<Node, Node>();
    for (const contraction of structure.contractions) {
      const { node, input } = contraction;
      const before = replaced.get(node) ?? node;
      const [masked, ratio] = maskedInput(context, contraction);
      if (masked === undefined) continue;
      const inputs = before.inputs.map((name, i) => (i === input ? masked : name));
      replaced.set(node, { ...before, inputs });
      if (ratio !== 1) rescale(draft, node, inputs, ratio, structure.types.get(node.inputs[0]!)!.dtype, replaced);
    }
    for (const [node, masked] of replaced) draft.replace(node, masked);
    for (const node of graph.nodes) couplingRule(opKey(node)).mask?.(masking(context, node));
  });
}

interface MaskContext {
  readonly found: Couplings;
  readonly kept: KeptIndices;
  readonly draft: Draft;
  readonly zeros: ReadonlySet<string>;
  /** Names of masks made, by what they mask. */
  readonly constants: Map<string, string>;
}

/** Inputs of a node where an element of zero takes the element out of the result, or changes nothing. */
const harmless: Readonly<Record<string, readonly number[]>> = {
  Conv: [1, 2],
  ConvTranspose: [1, 2],
  Gemm: [1, 2],
  MatMul: [1],
  Einsum: [1],
  LSTM: [1, 2, 3],
  GRU: [1, 2, 3],
  RNN: [1, 2, 3],
  "com.microsoft:Attention": [1, 2],
  "com.microsoft:FusedMatMul": [1],
  "com.microsoft:MultiHeadAttention": [3],
  BatchNormalization: [1, 2],
  InstanceNormalization: [1, 2],
  LayerNormalization: [1, 2],
  GroupNormalization: [1, 2],
  RMSNormalization: [1],
  SimplifiedLayerNormalization: [1],
  PRelu: [1],
  Add: [0, 1],
  Sub: [0, 1],
  Mul: [0, 1],
  Gather: [0],
  Identity: [0],
  Transpose: [0],
};

function mayBeZero(graph: Graph, name: string, weight: Tensor): boolean {
  if (dtypes[weight.dtype].kind !== "float" || dtypes[weight.dtype].bits < 16) return false;
  return consumersOf(graph, name).every((node) =>
    node.inputs.every((input, i) => input !== name || harmless[opKey(node)]?.includes(i)),
  );
}

/** The contracted input with the cut indices neutral, and what the result must be multiplied with. */
function maskedInput(
  context: MaskContext,
  { node, input, axes, how }: Couplings["structure"]["contractions"][number],
): [masked: string | undefined, ratio: number] {
  const { kept, zeros, found } = context;
  const name = node.inputs[input]!;
  const cut = axes.filter((axis) => kept.of(name, axis));
  const other = node.inputs[1];
  // a product with weights that are zero there needs no mask
  if (cut.length === 0 || (how === "sum" && input === 0 && other !== undefined && zeros.has(other))) {
    return [undefined, 1];
  }
  const { dtype, shape } = found.structure.types.get(name)!;
  const masked = maskedValue(context, name, cut, dtype, neutral[how]);
  const ratio = how === "mean" ? cut.reduce((r, axis) => (r * shape[axis]!) / kept.of(name, axis)!.length, 1) : 1;
  return [masked, ratio];
}

/** A value with another in place of the indices that are cut. */
function maskedValue(
  context: MaskContext,
  name: string,
  axes: readonly number[],
  dtype: Tensor["dtype"],
  value: number,
): string {
  const { draft, found } = context;
  const keep = keepMask(context, name, axes);
  if ((found.graph.opsets[""] ?? 1) >= 9) {
    return draft.emit("Where", [keep, name, draft.constant("neutral", scalarOf(dtype, value))]);
  }
  if (value !== 0) fail("mask", `'${name}' needs operator set 9`, "Convert the model first");
  return draft.emit("Mul", [name, draft.emit("Cast", [keep], { to: dtypes[dtype].code })]);
}

/** A mean over all indices, the cut ones zero, times their number over that of the kept ones. */
function rescale(
  draft: Draft,
  node: Node,
  inputs: readonly string[],
  ratio: number,
  dtype: Tensor["dtype"],
  replaced: Map<Node, Node>,
): void {
  const mean = draft.fresh(`${node.outputs[0]}_all`);
  replaced.set(node, { ...node, inputs, outputs: [mean] });
  draft.emit("Mul", [mean, draft.constant("ratio", scalarOf(dtype, ratio))], {}, [node.outputs[0]!]);
}

function scalarOf(dtype: Tensor["dtype"], value: number): Tensor {
  if (dtype === "float32") return float32([], [value]);
  if (dtype === "float64") return tensor("float64", [], Float64Array.of(value));
  if (dtype === "int32") return tensor("int32", [], Int32Array.of(value));
  if (dtype === "int64") return tensor("int64", [], BigInt64Array.of(BigInt(value)));
  return tensor(dtype, [], floatToHalf(Float32Array.of(value), dtype as "float16"));
}

/** A boolean constant over the axes of a value that are given, true where their indices stay. */
function keepMask({ found, kept, draft, constants }: MaskContext, name: string, axes: readonly number[]): string {
  const key = `${name} ${axes}`;
  const known = constants.get(key);
  if (known) return known;
  const { shape } = found.structure.types.get(name)!;
  const sizes = shape.map((size, axis) => (axes.includes(axis) ? size : 1));
  const ones = tensor("bool", sizes, new Uint8Array(sizes.reduce((a, b) => a * b, 1)).fill(1));
  const made = draft.constant(
    "keep",
    zeroed(
      ones,
      shape.map((_, axis) => (axes.includes(axis) ? kept.of(name, axis) : undefined)),
    ),
  );
  constants.set(key, made);
  return made;
}

function masking(context: MaskContext, node: Node): Masking {
  const { found, kept, draft } = context;
  const { graph, structure } = found;
  const keptIn = (i: number, axis: number) => kept.of(node.inputs[i]!, axis);
  return {
    ...nodeView(graph, node, structure.types, structure.sizes.constantOf),
    draft,
    keptIn,
    scalar: (value) => draft.constant("scalar", scalarOf(structure.types.get(node.inputs[0]!)!.dtype, value)),
    keep: (input, axes) => keepMask(context, node.inputs[input]!, axes),
    ratio: (input, axes) =>
      axes.reduce((ratio, axis) => {
        const size = structure.types.get(node.inputs[input]!)!.shape[axis]!;
        return (ratio * size) / (keptIn(input, axis)?.length ?? size);
      }, 1),
    replaced: () => draft.replace(node),
  };
}
