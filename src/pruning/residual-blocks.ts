import { type Graph, isNode, type Node } from "../graph/graph.ts";
import { links, reads } from "../graph/walk.ts";
import type { KnownTypes } from "../ops/lookup.ts";

/** A residual branch: y = x + f(x), of one shape. */
export interface ResidualBlock {
  /** The sum. */
  readonly node: Node;
  readonly x: string;
  readonly y: string;
  /** The nodes of f, in the graph's order. */
  readonly branch: readonly Node[];
  /** Why it can't be dropped; absent where it can. */
  readonly kept?: string;
}

/**
 * The residual blocks of a graph: sums of a value and of something computed from it by at least one layer with weights.
 * Of nested ones the innermost; shortcuts that change the shape are none.
 */
export function residualBlocks(graph: Graph, types: KnownTypes): readonly ResidualBlock[] {
  const ancestors = ancestry(graph);
  const found = graph.nodes.flatMap((node): ResidualBlock[] => {
    if (!isNode(node, "Add")) return [];
    const [a, b] = node.inputs as [string, string];
    for (const [x, fx] of [
      [a, b],
      [b, a],
    ] as const) {
      const block = ancestors.of(fx).has(x) ? blockOf(graph, node, x, fx, ancestors, types) : undefined;
      if (block) return [block];
    }
    return [];
  });
  const sums = new Map(found.map((block) => [block.node, block]));
  return found.filter((block) => !block.branch.some((node) => sums.has(node)));
}

function blockOf(
  graph: Graph,
  node: Node,
  x: string,
  fx: string,
  ancestors: Ancestry,
  types: KnownTypes,
): ResidualBlock | undefined {
  const [y] = node.outputs as [string];
  const [from, to] = [types.get(x), types.get(y)];
  if (!from || !to || from.dtype !== to.dtype || from.shape.join() !== to.shape.join()) return undefined;
  const before = ancestors.of(x);
  const needed = ancestors.of(fx);
  const branch = graph.nodes.filter(({ outputs }) =>
    outputs.some(
      (name) => name !== x && (name === fx || needed.has(name)) && !before.has(name) && ancestors.of(name).has(x),
    ),
  );
  if (!branch.some((member) => hasWeights(graph, member))) return undefined;
  const inside = new Set([...branch, node]);
  const { consumers, outputs } = links(graph);
  const outward = branch
    .flatMap((member) => member.outputs)
    .find((name) => outputs.has(name) || consumers.get(name)?.some((reader) => !inside.has(reader)));
  const kept = outward === undefined ? undefined : `'${outward}', computed in its branch, is needed elsewhere`;
  return { node, x, y, branch, ...(kept !== undefined && { kept }) };
}

function hasWeights(graph: Graph, node: Node): boolean {
  return [...reads(node)].some((name) => (graph.weights.get(name)?.shape.length ?? 0) >= 2);
}

interface Ancestry {
  /** The values that one is computed from, constants left out. */
  of(name: string): ReadonlySet<string>;
}

function ancestry(graph: Graph): Ancestry {
  const { producer } = links(graph);
  const cache = new Map<string, ReadonlySet<string>>();
  const of = (name: string): ReadonlySet<string> => {
    const known = cache.get(name);
    if (known) return known;
    const found = new Set<string>();
    const pending = [name];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const node = producer.get(next);
      for (const input of node ? reads(node) : []) {
        if (graph.weights.has(input) || found.has(input)) continue;
        found.add(input);
        pending.push(input);
      }
    }
    cache.set(name, found);
    return found;
  };
  return { of };
}
