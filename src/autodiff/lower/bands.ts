import { type Graph, isNode, type Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { sizeOf, toFloat32 } from "../../tensor/tensor.ts";
import type { Shapes } from "./slices.ts";
import { isTurn } from "./slices.ts";

/** Some rows of the scores, and the columns that these attend to; ends are exclusive. */
export interface Band {
  readonly rows: readonly [number, number];
  readonly columns: readonly [number, number];
}

/** What an axis is: one of the scores' rows or of their columns, or neither. */
export type Axis = "rows" | "columns" | undefined;

/** The last two axes of values. */
export type Axes = ReadonlyMap<string, readonly [Axis, Axis]>;

/** A mask of this or less makes the softmax zero, unless scores are as large as that. */
const masked = -1e4;
/** Fewest rows of a band, and most bands: what bands give has to be joined and added up. */
const [fewestRows, mostBands] = [128, 8];
/** Bands that keep more of the scores than this share gain too little. */
const mostKept = 0.85;

/**
 * Bands of scores [..., rows, columns] that a constant mask, added right before the softmax, leaves something of; one band
 * of everything where that saves little. Half of the scores of causal attention are masked, and more of them where a
 * token only sees those shortly before it.
 *
 * @param softmax reads scores of a known shape
 */
export function bandsOf(graph: Graph, softmax: Node, scores: readonly number[]): readonly Band[] {
  const [rows, columns] = scores.slice(-2) as [number, number];
  const count = Math.min(mostBands, Math.floor(rows / fewestRows));
  const added = links(graph).producer.get(softmax.inputs[0]!);
  if (count < 2 || !added || !isNode(added, "Add")) return [everything(scores)];
  const mask = added.inputs
    .map((name) => graph.weights.get(name))
    .find((weight) => weight?.dtype === "float32" && weight.size === rows * columns);
  if (!mask || sizeOf(mask.shape.slice(-2)) !== mask.size || mask.shape.at(-1) !== columns) return [everything(scores)];
  const values = toFloat32(mask);
  const bands = Array.from({ length: count }, (_, i): Band => {
    const band = [i, i + 1].map((end) => Math.floor((end * rows) / count)) as [number, number];
    return { rows: band, columns: columnsOf(values, band, columns) };
  });
  const kept = bands.reduce((sum, band) => sum + areaOf(band), 0);
  return kept > mostKept * rows * columns ? [everything(scores)] : bands;
}

/** The one band that has all of some scores. */
export function everything(scores: readonly number[]): Band {
  const [rows, columns] = scores.slice(-2) as [number, number];
  return { rows: [0, rows], columns: [0, columns] };
}

/** How many scores a band has, of one matrix. */
export const areaOf = ({ rows, columns }: Band): number => (rows[1] - rows[0]) * (columns[1] - columns[0]);

/** The columns that are not masked in all of the rows; all of them where a row is masked as a whole, as it then sees all. */
function columnsOf(mask: Float32Array, [from, to]: readonly [number, number], columns: number): [number, number] {
  let [first, last] = [columns, 0];
  for (let row = from; row < to; row++) {
    const open = mask.subarray(row * columns, (row + 1) * columns);
    const low = open.findIndex((value) => !(value <= masked));
    if (low < 0) return [0, columns];
    first = Math.min(first, low);
    last = Math.max(last, open.findLastIndex((value) => !(value <= masked)) + 1);
  }
  return [first, last];
}

/**
 * The axes of what some nodes read and make, if these can be computed band by band: each result has either rows, to be
 * joined, or columns, to be added up; and what is left out is zero wherever the nodes sum over it or hand it on.
 *
 * @param nodes some from the product that makes the scores to the last reader of the softmax, in order
 * @param softmax its result's name
 */
export function axesByBand(
  nodes: readonly Node[],
  softmax: string,
  results: readonly string[],
  shapes: Shapes,
): Axes | undefined {
  const axes = axesOf(nodes, softmax, shapes);
  if (!axes) return undefined;
  const of = (name: string): readonly Axis[] => axes.get(name) ?? [];
  const zero = new Set([softmax]);
  const before = nodes.slice(0, nodes.findIndex(({ outputs }) => outputs[0] === softmax) + 1);
  for (const node of nodes.filter((each) => !before.includes(each))) {
    const [name] = node.outputs as [string];
    const wide = node.inputs.filter((input) => of(input).includes("columns"));
    const both = of(name).includes("rows") && of(name).includes("columns");
    if (both && isZero(node, zero)) zero.add(name);
    if (!both && wide.length > 0 && !wide.some((input) => zero.has(input))) return undefined;
  }
  const joined = results.every((name) => of(name).filter((axis) => axis !== undefined).length === 1);
  return joined ? axes : undefined;
}

/** Whether a node's result is zero where some of its inputs are. */
function isZero(node: Node, zero: ReadonlySet<string>): boolean {
  const { inputs } = node;
  if (isNode(node, "Mul")) return inputs.some((name) => zero.has(name));
  if (isNode(node, "Add") || isNode(node, "Sub")) return inputs.every((name) => zero.has(name));
  return (isTurn(node) || isNode(node, "Neg") || isNode(node, "Div")) && zero.has(inputs[0]!);
}

/** Follows rows and columns through products, transpositions and elementwise nodes; undefined where the two meet. */
function axesOf(nodes: readonly Node[], softmax: string, shapes: Shapes): Axes | undefined {
  const axes = new Map<string, [Axis, Axis]>([[softmax, ["rows", "columns"]]]);
  let [changed, met] = [true, false];
  /** Says that two axes, each counted from the last, are the same. */
  const tie = (a: string, i: number, b: string, j: number): void => {
    const [one, other] = [axes.get(a)?.[i], axes.get(b)?.[j]];
    if (one === other) return;
    if (one !== undefined && other !== undefined) met = true;
    const [name, place] = one === undefined ? [a, i] : [b, j];
    const known = axes.get(name) ?? [undefined, undefined];
    axes.set(name, known.with(place, one ?? other) as [Axis, Axis]);
    changed = true;
  };
  while (changed && !met) {
    changed = false;
    for (const node of nodes) tieAxes(node, shapes, tie);
  }
  return met ? undefined : axes;
}

function tieAxes(node: Node, shapes: Shapes, tie: (a: string, i: number, b: string, j: number) => void): void {
  const [y, [a, b]] = [node.outputs[0]!, node.inputs as [string, string]];
  if (isNode(node, "MatMul")) {
    tie(a, 0, y, 0);
    tie(b, 1, y, 1);
    tie(a, 1, b, 0);
  } else if (isTurn(node)) {
    tie(a, 0, y, 1);
    tie(a, 1, y, 0);
  } else {
    const sizes = (name: string): readonly number[] => shapes(name)?.slice(-2) ?? [];
    for (const name of isNode(node, "ReduceSum") ? [a] : node.inputs) {
      const [own, made] = [sizes(name), sizes(y)];
      if (own.length === 2) for (const i of [0, 1]) if (own[i] !== 1 && own[i] === made[i]) tie(name, i, y, i);
    }
  }
}
