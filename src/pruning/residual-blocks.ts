import type { Graph, Node } from "../graph/graph.ts";
import { links, reads } from "../graph/walk.ts";
import type { KnownTypes } from "../ops/lookup.ts";
import { type BranchCache, branchCache } from "./residual-caches.ts";
import { sumsOf, type Term, withBias } from "./residual-sums.ts";

/** A residual block: f(x) in a sum x + f(x) + ... of one shape. */
export interface ResidualBlock {
  /** The node that adds f(x). */
  readonly node: Node;
  /** The name of f(x). */
  readonly term: string;
  /** The names of the sum's other terms; x is one of them. */
  readonly rest: readonly string[];
  /** The nodes that compute f(x) and nothing else that is needed, in the graph's order. */
  readonly branch: readonly Node[];
  /** Inputs and outputs of the graph that hold the branch's state between runs (keys and values of attention). */
  readonly cache: BranchCache;
  /** Why it can't be dropped; absent where it can. */
  readonly kept?: string;
}

/**
 * The residual blocks of a graph: terms of sums that are computed from another term by at least one layer with weights.
 * Branches side by side (x + f(x) + g(x)) are blocks of their own. Sums of which no term is a plain shortcut are listed
 * with their reason, once each.
 *
 * @param types types and shapes of the values, as observed
 */
export function residualBlocks(graph: Graph, types: KnownTypes): readonly ResidualBlock[] {
  const ancestors = ancestry(graph);
  const found = sumsOf(graph, types).flatMap((terms) => {
    const blocks = terms.flatMap((term) => blockOf(graph, term, terms, ancestors));
    return blocks.length > 0 ? blocks : withoutShortcut(graph, terms, types, ancestors);
  });
  const sums = new Set(found.filter(({ branch }) => branch.length > 0).map(({ node }) => node));
  return found.map((block) =>
    block.kept === undefined && block.branch.some((node) => sums.has(node))
      ? { ...block, kept: "other residual blocks lie in its branch" }
      : block,
  );
}

function blockOf(graph: Graph, bare: Term, terms: readonly Term[], ancestors: Ancestry): readonly ResidualBlock[] {
  const others = terms.filter((other) => other !== bare).map(({ name }) => name);
  const term = withBias(graph, bare);
  const needed = ancestors(term.name);
  const x = others.find((name) => needed.has(name));
  if (x === undefined) return [];
  const own = ownNodes(graph, term.name, others, x, ancestors);
  if (!own.some((node) => hasWeights(graph, node))) return [];
  const cache = branchCache(graph, own, term.name);
  const branch = dying(graph, term, new Set(cache.outputs));
  const gone = new Set(branch);
  const base = { node: term.node, term: term.name, rest: others, branch, cache };
  if (own.every((node) => gone.has(node) || !hasWeights(graph, node))) return [base];
  return [{ ...base, branch: own, kept: reasonToStay(graph, own, term) }];
}

/** A sum of which every term is computed from the value where their ways part, at least one by layers. */
function withoutShortcut(
  graph: Graph,
  terms: readonly Term[],
  types: KnownTypes,
  ancestors: Ancestry,
): readonly ResidualBlock[] {
  const rank = terms.length > 1 ? types.get(terms[0]!.name)?.shape.length : undefined;
  const fork = graph.nodes
    .flatMap(({ outputs }) => outputs)
    .findLast(
      (name) => types.get(name)?.shape.length === rank && terms.every((term) => ancestors(term.name).has(name)),
    );
  if (rank === undefined || fork === undefined) return [];
  const parts = terms.map((term) => {
    const others = terms.filter((other) => other !== term).map(({ name }) => name);
    return ownNodes(graph, term.name, others, fork, ancestors);
  });
  if (parts.some((own) => own.length === 0) || !parts.flat().some((node) => hasWeights(graph, node))) return [];
  const { node, name } = terms.at(-1)!;
  const kept = "its shortcut is computed too (a projection, a crop), not the value itself";
  return [{ node, term: name, rest: [], branch: [], cache: { inputs: [], outputs: [] }, kept }];
}

/** The nodes on the ways from x to a term that no other term needs. */
function ownNodes(
  graph: Graph,
  term: string,
  others: readonly string[],
  x: string,
  ancestors: Ancestry,
): readonly Node[] {
  const needed = ancestors(term);
  const shared = new Set(others.flatMap((name) => [name, ...ancestors(name)]));
  const reached = new Set([x]);
  return graph.nodes.filter((node) => {
    if (![...reads(node)].some((name) => reached.has(name))) return false;
    for (const name of node.outputs) if (name !== "") reached.add(name);
    return node.outputs.some((name) => (name === term || needed.has(name)) && !shared.has(name));
  });
}

/** The nodes that nothing needs any more once a term is not added, and its cache not handed out. */
function dying(graph: Graph, { name: term, node: sum }: Term, dropped: ReadonlySet<string>): readonly Node[] {
  const { consumers, outputs } = links(graph);
  const dead = new Set<Node>();
  const stays = (name: string): boolean =>
    (outputs.has(name) && !dropped.has(name)) ||
    (consumers.get(name) ?? []).some((reader) => !dead.has(reader) && (reader !== sum || name !== term));
  const wasUsed = (name: string): boolean => outputs.has(name) || consumers.has(name);
  for (const node of graph.nodes.toReversed()) {
    if (node.outputs.some(wasUsed) && !node.outputs.some(stays)) dead.add(node);
  }
  return graph.nodes.filter((node) => dead.has(node));
}

function reasonToStay(graph: Graph, own: readonly Node[], { name: term, node: sum }: Term): string {
  const { consumers, outputs } = links(graph);
  const inside = new Set([...own, sum]);
  const elsewhere = (name: string): boolean => (consumers.get(name) ?? []).some((reader) => !inside.has(reader));
  const outward = own.flatMap((node) => node.outputs).find((name) => outputs.has(name) || elsewhere(name)) ?? term;
  return `'${outward}', computed in its branch, ${outputs.has(outward) ? "is an output" : "is needed elsewhere"}`;
}

function hasWeights(graph: Graph, node: Node): boolean {
  return [...reads(node)].some((name) => (graph.weights.get(name)?.shape.length ?? 0) >= 2);
}

/** The values that one is computed from, constants left out. */
type Ancestry = (name: string) => ReadonlySet<string>;

function ancestry(graph: Graph): Ancestry {
  const { producer } = links(graph);
  const cache = new Map<string, ReadonlySet<string>>();
  return (name) => {
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
}
