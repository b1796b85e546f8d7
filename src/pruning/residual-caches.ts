import { renameReads } from "../graph/edit.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { links, reads } from "../graph/walk.ts";

/** Inputs and outputs of a graph by which a branch keeps its state from run to run. */
export interface BranchCache {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/**
 * The outputs that a branch makes of inputs that it alone reads, of the same type: past and present keys and values.
 *
 * @param nodes the branch, in the graph's order
 * @param term the branch's result, which is no state even where it is an output
 */
export function branchCache(graph: Graph, nodes: readonly Node[], term: string): BranchCache {
  const { consumers } = links(graph);
  const inside = new Set(nodes);
  const made = new Set(nodes.flatMap(({ outputs }) => outputs));
  const outputs = graph.outputs.filter(({ name }) => made.has(name) && name !== term);
  const cache = { inputs: [] as string[], outputs: [] as string[] };
  for (const input of graph.inputs) {
    const readers = consumers.get(input.name) ?? [];
    if (outputs.length === 0 || readers.length === 0 || !readers.every((node) => inside.has(node))) continue;
    const reached = reachedFrom(input.name, nodes);
    const output = outputs.find(
      (value) => reached.has(value.name) && !cache.outputs.includes(value.name) && alike(input, value),
    );
    if (!output) continue;
    cache.inputs.push(input.name);
    cache.outputs.push(output.name);
  }
  return cache;
}

/** The values that nodes in their order compute from one. */
function reachedFrom(value: string, nodes: readonly Node[]): ReadonlySet<string> {
  const reached = new Set([value]);
  for (const node of nodes) {
    if ([...reads(node)].some((name) => reached.has(name))) for (const name of node.outputs) reached.add(name);
  }
  return reached;
}

/** Whether two values are tensors of one element type and as many axes. */
function alike({ type: a }: Value, { type: b }: Value): boolean {
  if (a?.kind !== "tensor" || b?.kind !== "tensor") return false;
  return a.dtype === b.dtype && a.shape?.length === b.shape?.length;
}

/**
 * Closes the gaps that caches leave in numbered names: without past.3.key, past.4.key becomes past.3.key, since those who
 * run decoders count up to the number of layers.
 *
 * @param gone names of inputs and outputs that the graph had
 */
export function renumbered(graph: Graph, gone: readonly string[]): Graph {
  const names = [...graph.inputs, ...graph.outputs].map(({ name }) => name);
  const missing = gone.map((name) =>
    numbersIn(name).find((place) => names.some((other) => numberAt(other, place) >= 0)),
  );
  const renamed = new Map(
    names.flatMap((name): [string, string][] => {
      const place = missing.find((some) => some && numberAt(name, some) >= 0);
      if (!place) return [];
      const number = numberAt(name, place);
      const below = new Set(gone.map((other) => numberAt(other, place)).filter((at) => at >= 0 && at < number));
      return below.size === 0 ? [] : [[name, `${place.stem}${number - below.size}${place.rest}`]];
    }),
  );
  return renamed.size === 0 ? graph : withNames(graph, renamed);
}

/** A name around a number. */
interface Place {
  readonly stem: string;
  readonly rest: string;
}

/** The numbers in a name, the first one first: that of the layer. */
function numbersIn(name: string): readonly Place[] {
  return [...name.matchAll(/\d+/g)].map(({ 0: digits, index }) => ({
    stem: name.slice(0, index),
    rest: name.slice(index + digits.length),
  }));
}

/** The number that a name has at a place; -1 where it is another name. */
function numberAt(name: string, { stem, rest }: Place): number {
  const digits = name.slice(stem.length, name.length - rest.length);
  return name.startsWith(stem) && name.endsWith(rest) && /^\d+$/.test(digits) ? Number(digits) : -1;
}

function withNames(graph: Graph, names: ReadonlyMap<string, string>): Graph {
  const rename = (name: string): string => names.get(name) ?? name;
  const value = (known: Value): Value => ({ ...known, name: rename(known.name) });
  return {
    ...graph,
    nodes: graph.nodes.map((node) => ({ ...renameReads(node, rename), outputs: node.outputs.map(rename) })),
    inputs: graph.inputs.map(value),
    outputs: graph.outputs.map(value),
    declared: new Map([...graph.declared].map(([name, known]) => [rename(name), value(known)])),
  };
}
