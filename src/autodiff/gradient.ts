import { fail } from "../errors.ts";
import { edit, renameReads } from "../graph/edit.ts";
import { type Graph, isNode, type Node, nodeLabel, opKey } from "../graph/graph.ts";
import { links, reads, soleConsumer } from "../graph/walk.ts";
import { dtypes } from "../tensor/dtype.ts";
import { float32 } from "../tensor/tensor.ts";
import { gradients as table } from "./gradients.ts";
import { lowered } from "./lower/plain.ts";
import type { Backward, NoRule, Rule, ValueType } from "./rule.ts";
import { recorder } from "./writer.ts";

/** A graph with its backward pass. */
export interface Differentiated {
  /** The graph with the backward nodes added; its inputs and outputs are unchanged. */
  readonly graph: Graph;
  /** The value that holds the gradient of each of the wanted values; undefined where the loss does not depend on it. */
  readonly gradients: ReadonlyMap<string, string | undefined>;
}

/**
 * Writes the backward pass of a scalar loss as more nodes of the graph (reverse-mode differentiation, Linnainmaa 1970):
 * whatever runs the graph computes the gradients.
 *
 * @param loss a float value with one element
 * @param wrt values to differentiate with respect to: weights, inputs or intermediates
 * @param types types and concrete shapes of the graph's values: shapes are fixed in the backward pass
 * @throws PareError naming the node whose operator has no gradient rule though the loss depends on `wrt` through it,
 *   for an ONNX operator set below 18, and for unknown or non-float values
 */
export function gradient(
  graph: Graph,
  loss: string,
  wrt: readonly string[],
  types: ReadonlyMap<string, ValueType>,
): Differentiated {
  const { graph: written, gradients } = differentiate(graph, loss, wrt, types);
  return { graph: lowered(written), gradients };
}

/** A graph with its backward pass, still in pare's own operators, and what is known of its values. */
export interface Backpropagated extends Differentiated {
  readonly types: ReadonlyMap<string, ValueType>;
}

/** As {@link gradient}, but operators of pare's own are left for a lowering to write: see lower/plain.ts. */
export function differentiate(
  graph: Graph,
  loss: string,
  wrt: readonly string[],
  types: ReadonlyMap<string, ValueType>,
): Backpropagated {
  const lossType = types.get(loss) ?? fail("gradient", `the graph has no value '${loss}' to differentiate`);
  if (lossType.shape.some((dim) => dim !== 1)) {
    fail("gradient", `the loss '${loss}' has shape [${lossType.shape.join(", ")}]`, "Reduce it to one number");
  }
  if ((graph.opsets[""] ?? 0) < 18) {
    fail("gradient", `needs ONNX operator set 18, got ${graph.opsets[""]}`, "Convert the graph first");
  }
  const active = activeValues(graph, wrt, types);
  const found = new Map<string, string | undefined>(wrt.map((name) => [name, undefined]));
  const made = new Map<string, ValueType>();
  const differentiated = edit(graph, (draft) => {
    const parts = new Map<string, string[]>();
    const again = new Map<string, string>();
    const writer = recorder(draft, "grad");
    const total = (name: string): string | undefined => {
      const list = parts.get(name);
      if (!list || list.length <= 1) return list?.[0];
      const sum = writer.op(list.length === 2 ? "Add" : "Sum", list);
      parts.set(name, [sum]);
      made.set(sum, types.get(name)!);
      return sum;
    };
    parts.set(loss, [writer.constant(float32(lossType.shape, [1]))]);
    for (const node of graph.nodes.toReversed()) {
      const dys = node.outputs.map((name) => (name === "" ? undefined : total(name)));
      if (dys.every((dy) => dy === undefined)) continue;
      if (![...reads(node)].some((name) => active.has(name))) continue;
      const backward: Backward = {
        ...writer,
        node,
        dys,
        wants: (i) => active.has(node.inputs[i] ?? ""),
        type: (name) => types.get(name) ?? made.get(name) ?? fail(nodeLabel(node), `the shape of '${name}' is unknown`),
        constantInput: (i) => graph.weights.get(node.inputs[i] ?? ""),
        reader(name) {
          const reader = soleConsumer(graph, name);
          return reader && { node: reader, dy: total(reader.outputs[0]!) };
        },
        again(y) {
          again.set(node.outputs[0]!, y);
          made.set(y, types.get(node.outputs[0]!)!);
        },
      };
      for (const [i, dx] of ruleOf(node)(backward).entries()) {
        const name = node.inputs[i];
        if (dx === undefined || !name || !active.has(name)) continue;
        parts.set(name, [...(parts.get(name) ?? []), dx]);
        const type = types.get(name);
        if (type && !types.has(dx)) made.set(dx, type);
      }
    }
    for (const name of wrt) found.set(name, total(name));
    const nodes = writer.nodes.map((node) => renameReads(node, (name) => again.get(name) ?? name));
    for (const node of needed(nodes, found.values())) draft.add(node);
    // keep the gradients alive through the end of the edit even if nothing reads them yet
    for (const value of found.values()) if (value !== undefined) draft.outputs.push({ name: value });
  });
  return {
    graph: { ...differentiated, outputs: graph.outputs },
    gradients: found,
    types: new Map([...types, ...made]),
  };
}

/** Those of the nodes that values depend on: what a rule offers to compute again may have no reader. */
function needed(nodes: readonly Node[], values: Iterable<string | undefined>): readonly Node[] {
  const makers = new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node])));
  const kept = new Set<Node>();
  const open = [...values];
  for (const value of open) {
    const node = makers.get(value ?? "");
    if (!node || kept.has(node)) continue;
    kept.add(node);
    open.push(...reads(node));
  }
  return nodes.filter((node) => kept.has(node));
}

/** The rule of a node's operator, or an error that says why there is none. */
function ruleOf(node: Node): Rule {
  const row: Rule | NoRule | undefined = table[opKey(node)];
  if (typeof row === "function") return row;
  if (row?.kind === "none") return () => [];
  const reason = row?.reason ?? "no rule";
  return fail(
    nodeLabel(node),
    `has no gradient: '${opKey(node)}' is unsupported (${reason})`,
    "Freeze what lies before it",
  );
}

/** The float values that depend on any of `wrt` through operators that pass gradients. */
function activeValues(
  graph: Graph,
  wrt: readonly string[],
  types: ReadonlyMap<string, ValueType>,
): ReadonlySet<string> {
  const { producer } = links(graph);
  for (const name of wrt) {
    const type = types.get(name);
    if (!type && !producer.has(name)) fail("gradient", `the graph has no value '${name}'`);
    if (type && dtypes[type.dtype].kind !== "float") fail("gradient", `'${name}' is ${type.dtype}, not a float`);
  }
  const active = new Set(wrt);
  for (const node of graph.nodes) {
    const row = table[opKey(node)];
    if (row && typeof row !== "function" && row.kind === "none") continue;
    if (![...reads(node)].some((name) => active.has(name))) continue;
    for (const output of node.outputs) {
      const type = types.get(output);
      // a quantized value stands for the float that its DequantizeLinear gives back
      if (!type || dtypes[type.dtype].kind === "float" || isNode(node, "QuantizeLinear")) active.add(output);
    }
  }
  return active;
}
