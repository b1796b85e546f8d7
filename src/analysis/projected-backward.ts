import { gradient } from "../autodiff/gradient.ts";
import { edit } from "../graph/edit.ts";
import { type Graph, nodeLabel } from "../graph/graph.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Session, Tensors } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Arithmetic, arithmetic } from "../training/emit.ts";
import { prepare } from "../training/prepare.ts";
import { shapesOf } from "../training/weight-gradients.ts";

/** A model that gives gradients of its outputs' products with directions that it is fed. */
export interface Backward {
  readonly session: Session;
  /** Shapes of the feeds. */
  readonly shapes: string;
  /** Names of the gradients of weights. */
  readonly weights: ReadonlyMap<string, string>;
  readonly reads: ReadonlyMap<string, ReadSums>;
}

/** Names of: the sum of squared gradients where the value is not zero; its least and largest element. */
export interface ReadSums {
  readonly squares: string;
  readonly least: string;
  readonly largest: string;
}

const directionName = (at: number): string => `pare_direction_${at}`;

/** Feeds with directions of outputs, by the output's place. */
export function withDirections(feed: Tensors, directions: ReadonlyMap<number, Tensor>): Tensors {
  return { ...feed, ...Object.fromEntries([...directions].map(([at, direction]) => [directionName(at), direction])) };
}

/**
 * Gives nodes names of their own for what they read, so that a gradient is that by way of the node alone; and the nodes'
 * labels by these names.
 */
export function withOwnReads(graph: Graph, nodes: ReadonlySet<string>): [Graph, ReadonlyMap<string, string>] {
  const reads = new Map<string, string>();
  const changed = edit(graph, (draft) => {
    for (const node of graph.nodes) {
      const label = nodeLabel(node);
      if (!nodes.has(label)) continue;
      const inputs = node.inputs.map((name, at) => {
        if (at > 1 || name === "" || graph.weights.has(name)) return name;
        const read = draft.emit("Identity", [name], {}, 1, `${name}_read`);
        reads.set(read, label);
        return read;
      });
      draft.replace(node, { ...node, inputs });
    }
  });
  return [changed, reads];
}

/**
 * The backward pass of a model for feeds of some shapes.
 *
 * @param feed what the model itself takes
 * @param feeds the same with directions
 * @param weights names of weights to give gradients of; those that are rewritten for differentiation are left out
 * @param reads names of values to give sums over
 * @throws PareError where an operator on the way has no gradient
 */
export async function backwardOf(
  graph: Graph,
  feed: Tensors,
  feeds: Tensors,
  weights: readonly string[],
  reads: readonly string[],
  runtime: Runtime,
): Promise<Backward> {
  const prepared = await prepare(graph, runtime, feed, { batchStatistics: false, frozen: () => true });
  let loss = "";
  const projected = edit(prepared.graph, (draft) => {
    const a = arithmetic(draft, "projected");
    const terms = prepared.graph.outputs.flatMap(({ name }, at) => {
      if (!(directionName(at) in feeds)) return [];
      const values = a.op("Cast", [name], { to: dtypes.float32.code });
      return [a.op("ReduceSum", [a.mul(values, directionName(at))], { keepdims: 0 })];
    });
    loss = a.op("Sum", terms);
    draft.outputs = [{ name: loss }];
    draft.inputs = Object.entries(feeds).map(([name, { dtype, shape }]) => ({
      name,
      type: { kind: "tensor", dtype, shape },
    }));
  });
  const types = await observeTypes(projected, runtime, feeds);
  const own = weights.filter((name) => projected.weights.has(name));
  const wrt = [...own, ...reads].filter((name) => types.get(name)?.dtype === "float32");
  const { graph: whole, gradients } = gradient(projected, loss, wrt, types);
  const found = (names: readonly string[]): [string, string][] =>
    names.flatMap((name) => {
      const slope = gradients.get(name);
      return slope === undefined ? [] : [[name, slope]];
    });
  const byWeight = new Map(found(own));
  let byRead: ReadonlyMap<string, ReadSums> = new Map();
  const summed = edit(whole, (draft) => {
    const a = arithmetic(draft, "curvature");
    byRead = new Map(found(reads).map(([name, slope]) => [name, readSums(a, name, slope)]));
    const sums = [...byRead.values()].flatMap(({ squares, least, largest }) => [squares, least, largest]);
    draft.outputs = [...new Set([...byWeight.values(), ...sums])].map((name) => ({ name }));
  });
  return { session: await runtime.open(summed), shapes: shapesOf(feed), weights: byWeight, reads: byRead };
}

function readSums(a: Arithmetic, name: string, slope: string): ReadSums {
  const counts = a.op("Cast", [a.op("Not", [a.op("Equal", [name, a.scalar(0)])])], { to: dtypes.float32.code });
  const over = { keepdims: 0 };
  return {
    squares: a.op("ReduceSum", [a.mul(a.mul(slope, slope), counts)], over),
    least: a.op("ReduceMin", [name], over),
    largest: a.op("ReduceMax", [name], over),
  };
}
