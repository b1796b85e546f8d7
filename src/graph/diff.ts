import type { Tensor } from "../tensor/tensor.ts";
import { type Graph, type Node, nodeLabel, opKey, type Value } from "./graph.ts";

/** A constant that differs between two graphs. */
export interface WeightChange {
  readonly name: string;
  readonly before?: Tensor;
  readonly after?: Tensor;
}

/** What differs between two versions of a graph. */
export interface GraphDiff {
  readonly added: readonly Node[];
  readonly removed: readonly Node[];
  /** Nodes that make the same values as before in another way: other inputs, attributes or operator. */
  readonly changed: readonly { readonly before: Node; readonly after: Node }[];
  readonly weights: readonly WeightChange[];
  /** Names of inputs and outputs that came, went, or have another type. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Domains whose operator-set version differs. */
  readonly opsets: readonly string[];
  /** Bytes of all weights, before and after. */
  readonly bytes: readonly [before: number, after: number];
}

/**
 * What differs between two versions of a graph. Untouched nodes and weights are the same objects in both, so this
 * compares identities and reads no weight.
 */
export function diff(before: Graph, after: Graph): GraphDiff {
  const kept = new Set(after.nodes);
  const gone = before.nodes.filter((node) => !kept.has(node));
  const old = new Set(before.nodes);
  const come = after.nodes.filter((node) => !old.has(node));
  const successor = new Map<string, Node>();
  for (const node of come) for (const output of node.outputs) if (output !== "") successor.set(output, node);
  const changed: { before: Node; after: Node }[] = [];
  const taken = new Set<Node>();
  for (const node of gone) {
    const next = node.outputs.map((output) => successor.get(output)).find((found) => found !== undefined);
    if (!next || taken.has(next)) continue;
    taken.add(next).add(node);
    changed.push({ before: node, after: next });
  }
  return {
    added: come.filter((node) => !taken.has(node)),
    removed: gone.filter((node) => !taken.has(node)),
    changed,
    weights: weightChanges(before, after),
    inputs: valueChanges(before.inputs, after.inputs),
    outputs: valueChanges(before.outputs, after.outputs),
    opsets: keys(before.opsets, after.opsets).filter((domain) => before.opsets[domain] !== after.opsets[domain]),
    bytes: [weightBytes(before), weightBytes(after)],
  };
}

function weightChanges(before: Graph, after: Graph): WeightChange[] {
  const names = new Set([...before.weights.keys(), ...after.weights.keys()]);
  return [...names].flatMap((name) => {
    const [old, now] = [before.weights.get(name), after.weights.get(name)];
    return old === now ? [] : [{ name, ...(old && { before: old }), ...(now && { after: now }) }];
  });
}

function valueChanges(before: readonly Value[], after: readonly Value[]): string[] {
  const text = (values: readonly Value[]): Map<string, string> =>
    new Map(values.map(({ name, type }) => [name, JSON.stringify(type ?? null)]));
  const [old, now] = [text(before), text(after)];
  return [...new Set([...old.keys(), ...now.keys()])].filter((name) => old.get(name) !== now.get(name));
}

function keys(...records: Readonly<Record<string, unknown>>[]): string[] {
  return [...new Set(records.flatMap(Object.keys))];
}

/** Bytes of all weights of the main graph, a tensor used under several names counted once. */
function weightBytes(graph: Graph): number {
  return [...new Set(graph.weights.values())].reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** Whether two versions of a graph are the same. */
export function isUnchanged(d: GraphDiff): boolean {
  return [d.added, d.removed, d.changed, d.weights, d.inputs, d.outputs, d.opsets].every(({ length }) => length === 0);
}

/** A difference in one line: `12 nodes removed (BatchNormalization 12), 9 changed; 21 weights changed, 1.2 MB less`. */
export function summarize(d: GraphDiff): string {
  if (isUnchanged(d)) return "nothing changed";
  const parts: string[] = [];
  const nodes = (list: readonly Node[], what: string): void => {
    if (list.length > 0) parts.push(`${plural(list.length, "node")} ${what} (${operators(list)})`);
  };
  nodes(d.removed, "removed");
  nodes(d.added, "added");
  nodes(
    d.changed.map(({ after }) => after),
    "changed",
  );
  const [before, after] = d.bytes;
  const sign = after > before ? "more" : "less";
  if (d.weights.length > 0) {
    const size = before === after ? "" : ` (${bytesText(Math.abs(before - after))} ${sign})`;
    parts.push(`${plural(d.weights.length, "weight")} changed${size}`);
  }
  for (const [list, what] of [
    [d.inputs, "input"],
    [d.outputs, "output"],
    [d.opsets, "operator set"],
  ] as const) {
    if (list.length > 0)
      parts.push(`${plural(list.length, what)} changed (${list.map((name) => `'${name}'`).join(", ")})`);
  }
  return parts.join("; ");
}

/** The commonest operators of some nodes with their counts; the node's own label where there is one. */
function operators(list: readonly Node[]): string {
  if (list.length === 1) return nodeLabel(list[0]!);
  const counts = new Map<string, number>();
  for (const node of list) counts.set(opKey(node), (counts.get(opKey(node)) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  const shown = sorted.slice(0, 4).map(([op, count]) => (count > 1 ? `${count} ${op}` : op));
  return shown.join(", ") + (sorted.length > 4 ? ", ..." : "");
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

function bytesText(bytes: number): string {
  if (bytes < 1e3) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toPrecision(3)} kB` : `${(bytes / 1e6).toPrecision(3)} MB`;
}
