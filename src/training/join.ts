import { fail } from "../errors.ts";
import type { Attribute, Graph, Subgraph } from "../graph/graph.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** What the names of a teacher's nodes and values begin with. */
export const teacherPrefix = "teacher/";

/** What the names of a loss graph's nodes and values begin with. */
export const lossPrefix = "loss_graph/";

/** The input of a step that takes the labels. */
export const targetName = "pare_target";

/**
 * Teacher and student in one graph, fed by the same inputs; the teacher's values and nodes are prefixed.
 *
 * @throws PareError where the teacher takes inputs the student does not have
 */
export function withTeacher(student: Graph, teacher: Graph): Graph {
  const free = teacher.inputs.filter(({ name }) => !teacher.weights.has(name));
  const shared = free.map(({ name }): [string, string] => {
    const same =
      student.inputs.find((input) => input.name === name) ?? (free.length === 1 ? student.inputs[0] : undefined);
    if (!same)
      fail("teacher", `takes the input '${name}', which the student does not have`, "Rename the teacher's inputs");
    return [name, same!.name];
  });
  return withGuest(student, teacher, teacherPrefix, new Map(shared));
}

/**
 * A model with the graph of its loss behind it.
 *
 * @throws PareError where the loss takes what neither the model nor the data has
 */
export function withLoss(
  model: Graph,
  loss: Graph,
  { output, labels }: { readonly output: string; readonly labels: Tensor | undefined },
): Graph {
  const free = loss.inputs.filter(({ name }) => !loss.weights.has(name));
  const known = new Set([...model.outputs, ...model.inputs].map(({ name }) => name));
  const others = free.filter(({ name }) => name !== "labels" && !known.has(name));
  if (others.length > 1) {
    const names = others.map(({ name }) => `'${name}'`).join(", ");
    fail("loss", `its graph takes ${names}, which the model does not have`, "Name them as the model's outputs");
  }
  const wantsLabels = free.some(({ name }) => name === "labels") && !known.has("labels");
  if (wantsLabels && !labels) fail("loss", "its graph takes labels, and the data has none", "Give data with labels");
  const shared = new Map(free.map(({ name }) => [name, known.has(name) ? name : output]));
  if (wantsLabels) shared.set("labels", targetName);
  const joined = withGuest(model, loss, lossPrefix, shared);
  return wantsLabels ? { ...joined, inputs: [...joined.inputs, { name: targetName }] } : joined;
}

/** A graph with another's nodes behind its own: the guest's names are prefixed, but for values that both share. */
function withGuest(graph: Graph, guest: Graph, prefix: string, shared: ReadonlyMap<string, string>): Graph {
  const rename = (name: string): string => (name === "" ? "" : (shared.get(name) ?? `${prefix}${name}`));
  return {
    ...graph,
    nodes: [...graph.nodes, ...renamed(guest, prefix, rename).nodes],
    weights: new Map([...graph.weights, ...[...guest.weights].map(([name, w]) => [rename(name), w] as const)]),
    sparse: new Map([...graph.sparse, ...[...guest.sparse].map(([name, s]) => [rename(name), s] as const)]),
    outputs: [...graph.outputs, ...guest.outputs.map((value) => ({ ...value, name: rename(value.name) }))],
    opsets: { ...guest.opsets, ...graph.opsets },
    functions: [...graph.functions, ...guest.functions],
  };
}

function renamed(graph: Subgraph, prefix: string, rename: (name: string) => string): Subgraph {
  const attribute = (value: Attribute): Attribute => {
    if (value.type === "graph") return { type: "graph", value: renamed(value.value, prefix, rename) };
    return value.type === "graphs"
      ? { type: "graphs", value: value.value.map((g) => renamed(g, prefix, rename)) }
      : value;
  };
  return {
    ...graph,
    nodes: graph.nodes.map((node) => ({
      ...node,
      name: node.name && `${prefix}${node.name}`,
      inputs: node.inputs.map(rename),
      outputs: node.outputs.map(rename),
      attributes: Object.fromEntries(Object.entries(node.attributes).map(([key, value]) => [key, attribute(value)])),
    })),
    weights: new Map([...graph.weights].map(([name, w]) => [rename(name), w])),
    sparse: new Map([...graph.sparse].map(([name, s]) => [rename(name), s])),
    inputs: graph.inputs.map((value) => ({ ...value, name: rename(value.name) })),
    outputs: graph.outputs.map((value) => ({ ...value, name: rename(value.name) })),
    declared: new Map(),
  };
}
