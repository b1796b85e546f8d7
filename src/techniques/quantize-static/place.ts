import { type Draft, edit, renameReads } from "../../graph/edit.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { integerOnly, type Plan } from "./plan.ts";

/** A value that is rounded, and between which names. */
export interface Rounding {
  /** The value, as the graph calls it. */
  readonly name: string;
  /** The value whose scale it has. */
  readonly source: string;
  /** What is rounded, and what that gives. */
  readonly before: string;
  readonly after: string;
}

/** How a plan is written: as integers, or as what simulates them. */
export interface Placer {
  /** Writes what rounds a value, and gives the result's name: `after`, which it has to be where the value is an output. */
  round(rounding: Rounding): string;
  /** A node that computes on rounded values: with its inputs renamed already, and as it is in the graph. */
  inside(changed: Node, original: Node): Node;
}

/** A graph with a plan in it. */
export interface Placed {
  readonly graph: Graph;
  /** What readers of a value of the graph before read in its place, where that has another name. */
  readonly rounded: ReadonlyMap<string, string>;
  /** Compute nodes as they were in the graph before, by what became of them. */
  readonly origins: ReadonlyMap<Node, Node>;
}

/**
 * Writes a plan into a graph: every quantized value is rounded once, and once more where layers read it on a coarser grid;
 * those that compute on integers read what is rounded, and so does whatever reads a value of which no float is left;
 * absorbed clamps go.
 */
export function place(graph: Graph, plan: Plan, placerOf: (draft: Draft) => Placer): Placed {
  const rounded = new Map<string, string>(); // value -> what it is once rounded
  const origins = new Map<Node, Node>();
  const placed = edit(graph, (draft) => {
    const placer = placerOf(draft);
    const real = new Map<string, string>(); // value -> what its integer kernel writes
    const { producer, outputs } = links(graph);
    for (const [name, source] of plan.values) {
      const maker = producer.get(name);
      const hidden = maker !== undefined && integerOnly(maker, plan) && outputs.has(name);
      const before = hidden ? draft.fresh(`${name}_float`) : name;
      const after = hidden ? name : draft.fresh(`${name}_dequantized`);
      real.set(name, before);
      rounded.set(name, placer.round({ name, source, before, after }));
    }
    const coarse = new Map<string, string>(); // value -> what it is once rounded to the grid that layers read
    for (const [name, source] of plan.coarse ?? []) {
      const after = draft.fresh(`${source}_dequantized`);
      coarse.set(name, placer.round({ name: source, source, before: rounded.get(name)!, after }));
    }
    for (const node of graph.nodes) {
      if (plan.absorbed.has(node)) {
        draft.replace(node);
        continue;
      }
      let changed = renameReads(node, (name) => {
        if (plan.compute.has(node) && coarse.has(name)) return coarse.get(name)!;
        const maker = producer.get(name);
        const readsInteger = plan.integer.has(node) || (maker !== undefined && integerOnly(maker, plan));
        return readsInteger ? (rounded.get(name) ?? name) : name;
      });
      if (plan.integer.has(node)) changed = placer.inside(changed, node);
      const made = changed.outputs.map((name) => {
        const last = clampedAs(name, graph, plan);
        return real.get(last) ?? last;
      });
      if (made.some((name, i) => name !== changed.outputs[i])) changed = { ...changed, outputs: made };
      if (changed !== node) draft.replace(node, changed);
      if (plan.compute.has(node)) origins.set(changed, node);
    }
  });
  return { graph: placed, rounded, origins };
}

/** The name under which a value leaves the absorbed clamps behind it. */
export function clampedAs(name: string, graph: Graph, plan: Plan): string {
  let at = name;
  for (;;) {
    const next = (links(graph).consumers.get(at) ?? []).find(
      (node) => plan.absorbed.has(node) && node.inputs[0] === at,
    );
    if (!next) return at;
    at = next.outputs[0]!;
  }
}
