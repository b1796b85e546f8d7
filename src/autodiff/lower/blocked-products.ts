import { edit } from "../../graph/edit.ts";
import {
  floatAttribute,
  type Graph,
  intAttribute,
  intsAttribute,
  makeNode,
  type Node,
  opKey,
} from "../../graph/graph.ts";
import { reads, soleConsumer } from "../../graph/walk.ts";
import { sizeOf, toNumbers } from "../../tensor/tensor.ts";
import type { ValueType } from "../rule.ts";
import { sameShape } from "../rules/helpers.ts";
import { ints, recorder, type Writer } from "../writer.ts";
import { nchwc } from "./blocked.ts";

/** Which of a matrix's two axes are the channels of its image. */
type Side = "across" | "down";

/**
 * A value seen as a matrix, its leading axes merged, with the blocked images of it that there are: `across` has the
 * columns for channels and the rows for places, `down` the rows for channels and the columns for places.
 */
interface Matrix {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  across?: string;
  down?: string;
  /** It is there in blocks only. */
  unmade: boolean;
}

/** A matrix, or its transpose, as it is read. */
interface Operand {
  readonly matrix: Matrix;
  readonly transposed: boolean;
}

/** The matrices of a graph on the way through it. */
interface Matrices {
  readonly g: Writer & { readonly nodes: Node[] };
  readonly graph: Graph;
  readonly block: number;
  /** The operand under a name; undefined where it is no float matrix of known shape. */
  operand(name: string): Operand | undefined;
  shape(name: string): readonly number[] | undefined;
  /** The blocked image of an operand. */
  image(operand: Operand, side: Side): string;
  /** Makes the plain form of a value. */
  plain(name: string): string;
  /** States the image of a value, and its plain shape. */
  give(name: string, side: Side, form: string, shape: readonly number[]): void;
  /** States that a value is another's matrix, perhaps turned; the node that would make it waits until somebody asks. */
  view(node: Node, operand: Operand, shape: readonly number[]): void;
}

type Handler = (node: Node, matrices: Matrices) => boolean;

const handlers: Readonly<Record<string, Handler>> = {
  Add: (node, matrices) => addBias(node, matrices) || inBlocks(node, matrices),
  Gemm: gemm,
  MatMul: matMul,
  ReduceSum: sumOfRows,
  Reshape: reshape,
  Transpose: transpose,
  ...Object.fromEntries(
    "Abs Div Erf Exp Gelu HardSigmoid Mul Neg Relu Sigmoid Softplus Sqrt Sub Sum Tanh"
      .split(" ")
      .map((op) => [op, inBlocks]),
  ),
};

/** A graph with products in blocks, and the shapes of its values, those of images in blocks too. */
export interface InBlocks {
  readonly graph: Graph;
  readonly types: ReadonlyMap<string, ValueType>;
}

/**
 * Rewrites products of large matrices as pointwise convolutions in the blocked layout of the runtime's CPU provider, whose
 * kernels are faster than those for matrices. A convolution of the image `across` A with the image `across` B for its
 * weights gives the product `across`; of `down` B with `down` A for its weights, the product `down`. A matrix and its
 * transpose have the same two images. Elementwise operators between two products stay in blocks.
 *
 * @param types shapes of the graph's values; what has none, and is not made of what has, stays as it is
 * @param block channels in a block, as the processor wants it
 */
export function productsInBlocks(graph: Graph, types: ReadonlyMap<string, ValueType>, block: number): InBlocks {
  let products = 0;
  const forms = new Map<string, ValueType>();
  const changed = edit(graph, (draft) => {
    const g = recorder(draft, "product");
    const matrices = matricesOver(graph, types, block, g, forms);
    for (const node of graph.nodes) {
      if (handlers[opKey(node)]?.(node, matrices)) draft.replace(node);
      else for (const name of reads(node)) matrices.plain(name);
    }
    for (const { name } of graph.outputs) matrices.plain(name);
    draft.opsets[nchwc] = 1;
    for (const node of g.nodes) draft.add(node);
    products = g.nodes.filter(({ domain }) => domain === nchwc).length;
  });
  return products > 0 ? { graph: changed, types: new Map([...types, ...forms]) } : { graph, types };
}

function matricesOver(
  graph: Graph,
  types: ReadonlyMap<string, ValueType>,
  block: number,
  g: Matrices["g"],
  forms: Map<string, ValueType>,
): Matrices {
  const known = new Map<string, Operand>();
  const shapes = new Map<string, readonly number[]>();
  const waiting = new Map<string, Node>();
  const matrices: Matrices = {
    g,
    graph,
    block,
    shape: (name) => shapes.get(name) ?? types.get(name)?.shape ?? graph.weights.get(name)?.shape,
    operand(name) {
      const shape = matrices.shape(name);
      const dtype = types.get(name)?.dtype ?? graph.weights.get(name)?.dtype ?? "float32";
      if (known.has(name) || !shape || shape.length < 2 || dtype !== "float32") return known.get(name);
      const columns = shape.at(-1)!;
      const matrix = { name, rows: sizeOf(shape) / columns, columns, unmade: false };
      known.set(name, { matrix, transposed: false });
      return known.get(name);
    },
    image({ matrix, transposed }, side) {
      const own = transposed ? other(side) : side;
      const { rows, columns } = matrix;
      const known = matrix[own];
      if (known !== undefined) return known;
      const shape = own === "across" ? [1, ...plane(rows), columns] : [1, rows, ...plane(columns)];
      const image = g.op("Reshape", [matrices.plain(matrix.name), ints(g, shape)]);
      const form = g.op(`${nchwc}:ReorderInput`, [image], { channels_last: own === "across" ? 1 : 0 });
      matrix[own] = form;
      return form;
    },
    plain(name) {
      const node = waiting.get(name);
      if (node) {
        waiting.delete(name);
        for (const input of node.inputs) matrices.plain(input);
        g.nodes.push({ ...node });
        return name;
      }
      const matrix = known.get(name)?.matrix;
      if (matrix?.name !== name || !matrix.unmade) return name;
      matrix.unmade = false;
      const [form, channels, last] = matrix.across
        ? [matrix.across, matrix.columns, 1]
        : [matrix.down!, matrix.rows, 0];
      const image = g.op(`${nchwc}:ReorderOutput`, [form], { channels, channels_last: last });
      g.nodes.push(makeNode("Reshape", [image, ints(g, matrices.shape(name)!)], [name]));
      return name;
    },
    give(name, side, form, shape) {
      const columns = shape.at(-1)!;
      const matrix: Matrix = { name, rows: sizeOf(shape) / columns, columns, unmade: true };
      matrix[side] = form;
      forms.set(form, { dtype: "float32", shape: imageShape(matrix, side) });
      known.set(name, { matrix, transposed: false });
      shapes.set(name, shape);
    },
    view(node, operand, shape) {
      known.set(node.outputs[0]!, operand);
      shapes.set(node.outputs[0]!, shape);
      waiting.set(node.outputs[0]!, node);
    },
  };
  return matrices;
}

const other = (side: Side): Side => (side === "across" ? "down" : "across");

const imageShape = ({ rows, columns }: Matrix, side: Side): readonly number[] =>
  side === "across" ? [1, columns, ...plane(rows)] : [1, rows, ...plane(columns)];

/** Places as the height and width of an image: its rows are what the runtime's threads share out. */
function plane(places: number): readonly [number, number] {
  const height = [32, 16, 8, 4, 2].find((size) => places % size === 0) ?? 1;
  return [height, places / height];
}

/**
 * Whether a product saves more than the reordering of its operands and result takes: they are as many elements as it has
 * multiplications times the sum of the sides' reciprocals.
 */
function pays(sides: readonly number[], block: number): boolean {
  return sides.every((side) => side % block === 0) && sides.reduce((sum, side) => sum + 1 / side, 0) <= 1 / 150;
}

/** Writes a product if it is worth it; `sides` to choose from, by what there is to reorder. */
function product(
  a: Operand,
  b: Operand,
  result: { readonly name: string; readonly shape: readonly number[]; readonly bias?: string },
  sides: readonly Side[],
  matrices: Matrices,
): boolean {
  const rows = a.transposed ? a.matrix.columns : a.matrix.rows;
  const inner = a.transposed ? a.matrix.rows : a.matrix.columns;
  const columns = b.transposed ? b.matrix.rows : b.matrix.columns;
  if (!pays([rows, inner, columns], matrices.block)) return false;
  const missing = (side: Side): number =>
    [a, b].reduce((sum, { matrix, transposed }) => {
      const there = matrix[transposed ? other(side) : side] !== undefined;
      return there ? sum : sum + matrix.rows * matrix.columns;
    }, 0);
  const side = sides.toSorted((one, two) => missing(one) - missing(two))[0]!;
  const [image, weights, channels] = side === "across" ? [a, b, columns] : [b, a, rows];
  const { g } = matrices;
  const filter = g.op("Reshape", [matrices.image(weights, side), ints(g, [channels, inner, 1, 1])]);
  const inputs = [matrices.image(image, side), filter, ...(result.bias ? [matrices.plain(result.bias)] : [])];
  matrices.give(result.name, side, g.op(`${nchwc}:Conv`, inputs, { kernel_shape: [1, 1] }), result.shape);
  return true;
}

function matMul(node: Node, matrices: Matrices): boolean {
  const [left, right] = node.inputs as [string, string];
  const [a, b] = [matrices.operand(left), matrices.operand(right)];
  const shape = matrices.shape(right);
  if (!a || !b || shape?.length !== 2) return false;
  const result = { name: node.outputs[0]!, shape: [...matrices.shape(left)!.slice(0, -1), shape[1]!] };
  return product(a, b, result, ["across"], matrices);
}

function gemm(node: Node, matrices: Matrices): boolean {
  const [left, right, bias] = node.inputs as [string, string, string | undefined];
  const read = (name: string, turned: string): Operand | undefined => {
    const operand = matrices.operand(name);
    return operand && { ...operand, transposed: operand.transposed !== (intAttribute(node, turned, 0) === 1) };
  };
  const [a, b] = [read(left, "transA"), read(right, "transB")];
  const scaled = floatAttribute(node, "alpha", 1) !== 1 || (bias && floatAttribute(node, "beta", 1) !== 1);
  if (!a || !b || scaled || (bias && matrices.shape(bias)?.length !== 1)) return false;
  const rows = a.transposed ? a.matrix.columns : a.matrix.rows;
  const columns = b.transposed ? b.matrix.rows : b.matrix.columns;
  if (bias && matrices.shape(bias)![0] !== columns) return false;
  const result = { name: node.outputs[0]!, shape: [rows, columns], ...(bias && { bias }) };
  // of the two ways out of blocks the one from `down` runs on all threads
  return product(a, b, result, bias ? ["across"] : ["down", "across"], matrices);
}

/** A bias that the product before it adds in the same pass. */
function addBias(node: Node, { operand, graph, shape, g, plain, give }: Matrices): boolean {
  const name = node.inputs.find((input) => operand(input)?.matrix.name === input);
  const matrix = name === undefined ? undefined : operand(name)!.matrix;
  const bias = node.inputs.find((input) => input !== name);
  if (!matrix?.unmade || !matrix.across || bias === undefined || soleConsumer(graph, name!) !== node) return false;
  if (!sameShape(shape(bias) ?? [], [matrix.columns])) return false;
  const at = g.nodes.findLastIndex(({ outputs }) => outputs[0] === matrix.across);
  const conv = g.nodes[at]!;
  if (conv.op !== "Conv" || conv.inputs.length !== 2) return false;
  g.nodes[at] = { ...conv, inputs: [...conv.inputs, plain(bias)] };
  give(node.outputs[0]!, "across", matrix.across, shape(name!)!);
  return true;
}

/** Operands that are all there across, of one shape, or single numbers; one at least in blocks only. */
function inBlocks(node: Node, { operand, shape, g, plain, give }: Matrices): boolean {
  const images = node.inputs.filter((name) => sizeOf(shape(name) ?? [0]) !== 1);
  const read = images.map((name) => operand(name));
  if (!read.every((o) => o?.matrix.across && !o.transposed) || !read.some((o) => o!.matrix.unmade)) return false;
  const whole = shape(images[0]!)!;
  if (!images.every((name) => sameShape(shape(name)!, whole))) return false;
  const inputs = node.inputs.map((name) => (images.includes(name) ? operand(name)!.matrix.across! : plain(name)));
  const [form] = g.ops(node.op, inputs, node.attributes as Parameters<Writer["ops"]>[2], 1);
  give(node.outputs[0]!, "across", form!, whole);
  return true;
}

/** Σ over all axes but the last, of what is in blocks only. */
function sumOfRows(node: Node, { operand, graph, shape, g, block }: Matrices): boolean {
  const [name, over] = node.inputs as [string, string | undefined];
  const read = operand(name);
  const axes = over === undefined ? undefined : graph.weights.get(over);
  if (!read?.matrix.unmade || !read.matrix.across || read.transposed || !axes) return false;
  const leading = shape(name)!
    .slice(1)
    .map((_, axis) => axis);
  if (intAttribute(node, "keepdims", 1) === 1 || !sameShape(toNumbers(axes), leading)) return false;
  const { rows, columns, across } = read.matrix;
  const image = g.op("Reshape", [across, ints(g, [columns / block, rows, block])]);
  const sums = g.op("ReduceSum", [image, ints(g, [1])], { keepdims: 0 });
  g.nodes.push(makeNode("Reshape", [sums, ints(g, [columns])], [node.outputs[0]!]));
  return true;
}

/** A reshape that leaves the columns alone changes nothing. */
function reshape(node: Node, matrices: Matrices): boolean {
  const [name, target] = node.inputs as [string, string];
  const operand = matrices.operand(name);
  const wanted = matrices.graph.weights.get(target);
  const shape = matrices.shape(node.outputs[0]!) ?? (wanted && toNumbers(wanted));
  if (!operand || operand.transposed || !shape || shape.length < 2 || shape.some((dim) => dim < 1)) return false;
  if (shape.at(-1) !== operand.matrix.columns) return false;
  matrices.view(node, operand, shape);
  return true;
}

function transpose(node: Node, matrices: Matrices): boolean {
  const name = node.inputs[0]!;
  const operand = matrices.operand(name);
  const shape = matrices.shape(name);
  if (!operand || shape?.length !== 2 || !sameShape(intsAttribute(node, "perm") ?? [1, 0], [1, 0])) return false;
  matrices.view(node, { ...operand, transposed: !operand.transposed }, shape.toReversed());
  return true;
}
