import { fail } from "../errors.ts";
import type { Tensor } from "../tensor/tensor.ts";
import {
  type Attribute,
  type Graph,
  makeNode,
  type Node,
  type PlainAttribute,
  type Subgraph,
  type Value,
} from "./graph.ts";
import { reads, topological, valueNames } from "./walk.ts";

/** A graph being changed, inside {@link edit}. All changes take effect together when the function returns. */
export interface Draft {
  /** The graph as it was. */
  readonly before: Graph;
  /** Constants; set and delete freely. Those that nothing reads any more are dropped at the end. */
  readonly weights: Map<string, Tensor>;
  inputs: Value[];
  outputs: Value[];
  opsets: Record<string, number>;
  irVersion: number;
  metadata: Record<string, string>;
  /** A name no value or node has, beginning with `stem`. */
  fresh(stem: string): string;
  /** Adds a node (its place is found at the end) and returns it. */
  add(node: Node): Node;
  /**
   * Adds a node with fresh output names and returns the first of them: the short way to write arithmetic.
   * `outputs` is their number, or the names themselves.
   */
  emit(
    op: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, PlainAttribute>>,
    outputs?: number | readonly string[],
    stem?: string,
  ): string;
  /** Adds a constant under a fresh name beginning with `stem`, and returns the name. */
  constant(stem: string, value: Tensor): string;
  /** Replaces a node, which may be one of `before` or one added since, with others (none: removes it). */
  replace(node: Node, ...replacements: Node[]): void;
  /**
   * Makes every reader of `from` read `to`, but for the nodes in `except`. A graph output named `from` keeps its name:
   * the node that makes `to` then makes `from` instead, or an Identity is added where it can't.
   */
  rewire(from: string, to: string, except?: readonly Node[]): void;
}

/**
 * A changed copy of a graph: untouched nodes and weights are the same objects as before. Afterwards nodes are in
 * topological order, and weights and declared types of values that no longer exist are dropped.
 *
 * @throws PareError if the changes make a cycle
 */
export function edit(graph: Graph, change: (draft: Draft) => void): Graph {
  const taken = valueNames(graph);
  for (const { name } of graph.nodes) taken.add(name);
  // the next number to try for each stem: names are never given back
  const counts = new Map<string, number>();
  const replaced = new Map<Node, Node[]>();
  const added: Node[] = [];
  const rewired = new Map<string, { to: string; except: Set<Node> }>();
  const draft: Draft = {
    before: graph,
    weights: new Map(graph.weights),
    inputs: [...graph.inputs],
    outputs: [...graph.outputs],
    opsets: { ...graph.opsets },
    irVersion: graph.irVersion,
    metadata: { ...graph.metadata },
    fresh(stem) {
      let name = stem;
      let count = counts.get(stem) ?? 1;
      while (taken.has(name)) name = `${stem}_${count++}`;
      counts.set(stem, count);
      taken.add(name);
      return name;
    },
    add(node) {
      added.push(node);
      for (const output of node.outputs) taken.add(output);
      return node;
    },
    emit(op, inputs, attributes = {}, outputs = 1, stem = op.slice(op.lastIndexOf(":") + 1).toLowerCase()) {
      const names =
        typeof outputs === "number" ? Array.from({ length: outputs }, () => draft.fresh(stem)) : [...outputs];
      draft.add(makeNode(op, inputs, names, attributes));
      return names[0]!;
    },
    constant(stem, value) {
      const name = draft.fresh(stem);
      draft.weights.set(name, value);
      return name;
    },
    replace(node, ...replacements) {
      replaced.set(node, replacements);
      for (const { outputs } of replacements) for (const output of outputs) taken.add(output);
    },
    rewire(from, to, except = []) {
      if (from === to) fail("rewire", `'${from}' onto itself`);
      rewired.set(from, { to, except: new Set(except) });
    },
  };
  change(draft);
  let nodes = expand([...graph.nodes, ...added], replaced);
  if (rewired.size > 0) nodes = applyRewiring(nodes, rewired, replaced, draft);
  return finish(graph, draft, topological(namedApart(graph, draft, nodes)));
}

/** The nodes, new ones renamed that have another's name. */
function namedApart(graph: Graph, draft: Draft, nodes: readonly Node[]): Node[] {
  const before = new Set(graph.nodes);
  const names = new Set(nodes.filter((node) => before.has(node)).map(({ name }) => name));
  return nodes.map((node) => {
    if (before.has(node) || node.name === "") return node;
    if (names.has(node.name)) return { ...node, name: draft.fresh(node.name) };
    names.add(node.name);
    return node;
  });
}

function expand(nodes: readonly Node[], replaced: ReadonlyMap<Node, Node[]>): Node[] {
  if (replaced.size === 0) return [...nodes];
  return nodes.flatMap((node) => {
    const replacements = replaced.get(node);
    if (!replacements) return [node];
    return expand(
      replacements.filter((replacement) => replacement !== node),
      replaced,
    ).concat(replacements.includes(node) ? [node] : []);
  });
}

function applyRewiring(
  nodes: Node[],
  rewired: ReadonlyMap<string, { to: string; except: Set<Node> }>,
  replaced: ReadonlyMap<Node, Node[]>,
  draft: Draft,
): Node[] {
  const spared = new Map<string, Set<Node>>();
  for (const [from, { except }] of rewired) {
    spared.set(from, new Set([...except].flatMap((node) => [node, ...expand([node], replaced)])));
  }
  const resolve = (name: string, node?: Node): string => {
    const seen = new Set<string>();
    let at = name;
    for (let rule = rewired.get(at); rule && !(node && spared.get(at)!.has(node)); rule = rewired.get(at)) {
      if (seen.has(at)) fail("rewire", `'${name}' is rewired in a circle`);
      seen.add(at);
      at = rule.to;
    }
    return at;
  };
  const out = nodes.map((node) => renameReads(node, (name) => resolve(name, node)));
  // values that already took the name of an output
  const carried = new Map<string, string>();
  for (const { name } of draft.outputs) {
    const target = resolve(name);
    if (target === name) continue;
    carried.set(target, keepOutputName(out, name, carried.get(target) ?? target, draft));
  }
  return out;
}

/** Lets the value `target` carry the graph output's name `name`; returns the name that `target` has afterwards. */
function keepOutputName(nodes: Node[], name: string, target: string, draft: Draft): string {
  const border = draft.outputs.some((o) => o.name === target) || draft.inputs.some((i) => i.name === target);
  const made = nodes.findIndex(({ outputs }) => outputs.includes(target));
  const old = nodes.findIndex(({ outputs }) => outputs.includes(name));
  if (old >= 0) {
    // whoever made the output before now makes a value under another name
    const spare = draft.fresh(`${name}_before`);
    nodes[old] = { ...nodes[old]!, outputs: nodes[old]!.outputs.map((o) => (o === name ? spare : o)) };
    for (let i = 0; i < nodes.length; i++) nodes[i] = renameReads(nodes[i]!, (n) => (n === name ? spare : n));
  }
  if (border || made < 0) {
    nodes.push(makeNode("Identity", [target], [name]));
    return target;
  }
  nodes[made] = { ...nodes[made]!, outputs: nodes[made]!.outputs.map((o) => (o === target ? name : o)) };
  for (let i = 0; i < nodes.length; i++) nodes[i] = renameReads(nodes[i]!, (n) => (n === target ? name : n));
  return name;
}

/** The node with the values it reads renamed, in nested subgraphs too; the same object where nothing changes. */
export function renameReads(node: Node, rename: (name: string) => string): Node {
  let changed = false;
  for (const name of reads(node)) changed ||= rename(name) !== name;
  if (!changed) return node;
  const inputs = node.inputs.map((name) => (name === "" ? name : rename(name)));
  const attributes = Object.entries(node.attributes).map(([key, value]): [string, Attribute] => {
    if (value.type === "graph") return [key, { type: "graph", value: renameCaptures(value.value, rename) }];
    if (value.type !== "graphs") return [key, value];
    return [key, { type: "graphs", value: value.value.map((g) => renameCaptures(g, rename)) }];
  });
  return { ...node, inputs, attributes: Object.fromEntries(attributes) };
}

function renameCaptures(subgraph: Subgraph, rename: (name: string) => string): Subgraph {
  const own = new Set<string>([
    ...subgraph.inputs.map(({ name }) => name),
    ...subgraph.weights.keys(),
    ...subgraph.sparse.keys(),
    ...subgraph.nodes.flatMap(({ outputs }) => outputs),
  ]);
  const outer = (name: string): string => (own.has(name) ? name : rename(name));
  return {
    ...subgraph,
    nodes: subgraph.nodes.map((node) => renameReads(node, outer)),
    outputs: subgraph.outputs.map((value) => ({ ...value, name: outer(value.name) })),
  };
}

function finish(graph: Graph, draft: Draft, nodes: readonly Node[]): Graph {
  const used = new Set<string>(draft.outputs.map(({ name }) => name));
  const made = new Set<string>();
  for (const node of nodes) {
    for (const name of reads(node)) used.add(name);
    for (const name of node.outputs) made.add(name);
  }
  const optional = new Set(draft.inputs.map(({ name }) => name));
  const wasRead = new Set<string>(graph.outputs.map(({ name }) => name));
  for (const node of graph.nodes) for (const name of reads(node)) wasRead.add(name);
  const keep = (name: string): boolean =>
    used.has(name) || optional.has(name) || (graph.weights.has(name) && !wasRead.has(name));
  return {
    ...graph,
    nodes,
    weights: new Map([...draft.weights].filter(([name]) => keep(name))),
    sparse: new Map([...graph.sparse].filter(([name]) => used.has(name) || !wasRead.has(name))),
    inputs: draft.inputs,
    outputs: draft.outputs,
    declared: new Map([...graph.declared].filter(([name]) => made.has(name) || !wasRead.has(name))),
    opsets: draft.opsets,
    irVersion: draft.irVersion,
    metadata: draft.metadata,
  };
}
