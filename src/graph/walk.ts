import { fail } from "../errors.ts";
import { type Node, nodeLabel, type Subgraph, subgraphsOf } from "./graph.ts";

/** Who makes and who reads each value of a graph. */
export interface Links {
  /** The node whose output a value is; absent for inputs and weights. */
  readonly producer: ReadonlyMap<string, Node>;
  /** The nodes that read a value, each once, nested subgraphs counted as reads of the node that holds them. */
  readonly consumers: ReadonlyMap<string, readonly Node[]>;
  /** Names of the graph's outputs. */
  readonly outputs: ReadonlySet<string>;
}

const cache = new WeakMap<Subgraph, Links>();

/** Producers and consumers of a graph's values, computed once per graph. */
export function links(graph: Subgraph): Links {
  const known = cache.get(graph);
  if (known) return known;
  const producer = new Map<string, Node>();
  const consumers = new Map<string, Node[]>();
  for (const node of graph.nodes) {
    for (const output of node.outputs) if (output !== "") producer.set(output, node);
    for (const input of reads(node)) {
      const readers = consumers.get(input);
      if (readers) readers.push(node);
      else consumers.set(input, [node]);
    }
  }
  const made: Links = { producer, consumers, outputs: new Set(graph.outputs.map(({ name }) => name)) };
  cache.set(graph, made);
  return made;
}

/** The nodes that read a value (empty if none). */
export function consumersOf(graph: Subgraph, value: string): readonly Node[] {
  return links(graph).consumers.get(value) ?? [];
}

/**
 * The single reader of a value that is neither a graph output nor read elsewhere; undefined otherwise. What a fusion
 * may swallow.
 */
export function soleConsumer(graph: Subgraph, value: string): Node | undefined {
  const { consumers, outputs } = links(graph);
  const readers = consumers.get(value) ?? [];
  return readers.length === 1 && !outputs.has(value) ? readers[0] : undefined;
}

/**
 * Whether a way from some nodes to others of them leads over nodes that are not among them: such nodes can't become one.
 *
 * @param joined the nodes that are one with a node outside (it alone, if not given)
 */
export function leadsBack(
  graph: Subgraph,
  nodes: ReadonlySet<Node>,
  joined: (node: Node) => Iterable<Node> = (node) => [node],
): boolean {
  const readers = (node: Node): readonly Node[] => node.outputs.flatMap((name) => consumersOf(graph, name));
  const outside = new Set<Node>();
  const reach = (reader: Node): void => {
    for (const node of joined(reader)) outside.add(node);
  };
  for (const node of nodes) for (const reader of readers(node)) if (!nodes.has(reader)) reach(reader);
  for (const node of outside) {
    for (const reader of readers(node)) {
      if (nodes.has(reader)) return true;
      reach(reader);
    }
  }
  return false;
}

const readsCache = new WeakMap<Node, ReadonlySet<string>>();

/** Every value a node reads from the graph around it: its inputs, and what its nested subgraphs capture. */
export function reads(node: Node): ReadonlySet<string> {
  const known = readsCache.get(node);
  if (known) return known;
  const found = new Set(node.inputs.filter((input) => input !== ""));
  for (const subgraph of subgraphsOf(node)) for (const name of captures(subgraph)) found.add(name);
  readsCache.set(node, found);
  return found;
}

/** The values a subgraph takes from the graphs around it. */
export function captures(subgraph: Subgraph): ReadonlySet<string> {
  const own = new Set<string>([
    ...subgraph.inputs.map(({ name }) => name),
    ...subgraph.weights.keys(),
    ...subgraph.sparse.keys(),
    ...subgraph.nodes.flatMap(({ outputs }) => outputs),
  ]);
  const outer = new Set<string>();
  for (const node of subgraph.nodes) for (const name of reads(node)) if (!own.has(name)) outer.add(name);
  for (const { name } of subgraph.outputs) if (!own.has(name)) outer.add(name);
  return outer;
}

/**
 * Nodes in topological order; nodes already in order keep their places (Kahn's algorithm, first come first served).
 *
 * @throws PareError naming a node on a cycle
 */
export function topological(nodes: readonly Node[]): Node[] {
  const producer = new Map<string, Node>();
  for (const node of nodes) for (const output of node.outputs) if (output !== "") producer.set(output, node);
  const done = new Set<Node>();
  const open = new Set<Node>();
  const sorted: Node[] = [];
  const pending: { node: Node; inputs: Iterator<string> }[] = [];
  const enter = (node: Node): void => {
    open.add(node);
    pending.push({ node, inputs: reads(node).values() });
  };
  for (const root of nodes) {
    if (done.has(root)) continue;
    enter(root);
    for (let top = pending.at(-1); top; top = pending.at(-1)) {
      const step = top.inputs.next();
      if (step.done) {
        pending.pop();
        open.delete(top.node);
        done.add(top.node);
        sorted.push(top.node);
        continue;
      }
      const source = producer.get(step.value);
      if (!source || done.has(source)) continue;
      if (open.has(source)) fail("graph", `node '${nodeLabel(source)}' depends on its own output (a cycle)`);
      enter(source);
    }
  }
  return sorted;
}

/** Visits every node of a graph and of its nested subgraphs, outer first. */
export function* allNodes(graph: Subgraph): Generator<Node> {
  for (const node of graph.nodes) {
    yield node;
    for (const subgraph of subgraphsOf(node)) yield* allNodes(subgraph);
  }
}

/** Every name a graph uses for a value, nested subgraphs included. */
export function valueNames(graph: Subgraph): Set<string> {
  const names = new Set<string>([
    ...graph.weights.keys(),
    ...graph.sparse.keys(),
    ...graph.inputs.map(({ name }) => name),
    ...graph.outputs.map(({ name }) => name),
  ]);
  for (const node of graph.nodes) {
    for (const name of node.inputs) names.add(name);
    for (const name of node.outputs) names.add(name);
    for (const subgraph of subgraphsOf(node)) for (const name of valueNames(subgraph)) names.add(name);
  }
  return names;
}
