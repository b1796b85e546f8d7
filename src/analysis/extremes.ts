import { type Graph, makeNode, type Node } from "../graph/graph.ts";
import { observeValues } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { type Tensor, toFloat32 } from "../tensor/tensor.ts";

/**
 * Runs a graph over samples with the smallest and largest element of each named tensor found inside it, so that only
 * these leave the runtime. A sum stands beside them: the reductions of the extremes pass over NaN, a sum keeps it.
 *
 * @param visit gets a tensor's extremes on a sample, in the order of `names`
 * @returns whether no tensor can have been NaN; where false, what `visit` got may leave it out
 * @throws PareError for an unknown name, an empty stream, or where the runtime refuses to reduce a tensor
 */
export async function observeExtremes(
  graph: Graph,
  runtime: Runtime,
  names: readonly string[],
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
  visit: (name: string, min: number, max: number, index: number) => void,
  signal?: AbortSignal,
): Promise<boolean> {
  const places = new Map(names.map((name, i) => [name, i]));
  const reductions = (name: string): Node[] => {
    const i = places.get(name);
    if (i === undefined) return [];
    return figures.map(({ op, prefix }) => makeNode(op, [name], [`${prefix}${i}`], { keepdims: 0 }));
  };
  // each reduction right behind its tensor, so that the tensor is freed as early as ever
  const nodes = [
    ...graph.inputs.flatMap(({ name }) => reductions(name)),
    ...graph.nodes.flatMap((node) => [node, ...node.outputs.flatMap(reductions)]),
  ];
  const outputs = names.flatMap((_, i) => figures.map(({ prefix }) => `${prefix}${i}`));
  const read: number[] = [];
  let certain = true;
  const take = (_: string, value: Tensor, index: number): void => {
    if (read.push(toFloat32(value)[0]!) < outputs.length) return;
    for (const [i, name] of names.entries()) {
      const [min, max, sum] = read.slice(figures.length * i) as [number, number, number];
      const opposite = min === Number.NEGATIVE_INFINITY && max === Number.POSITIVE_INFINITY;
      if (Number.isNaN(min) || Number.isNaN(max) || (Number.isNaN(sum) && !opposite)) certain = false;
      else visit(name, min, max, index);
    }
    read.length = 0;
  };
  await observeValues({ ...graph, nodes }, runtime, outputs, feeds, take, {
    budget: Number.POSITIVE_INFINITY,
    ...(signal && { signal }),
  });
  return certain;
}

const figures = [
  { op: "ReduceMin", prefix: "pare_min_" },
  { op: "ReduceMax", prefix: "pare_max_" },
  { op: "ReduceSum", prefix: "pare_sum_" },
] as const;
