import { edit, renameReads } from "../../graph/edit.ts";
import { type Graph, isNode, makeNode, type Node, type Subgraph } from "../../graph/graph.ts";
import { toNumbers } from "../../tensor/tensor.ts";
import { constant, type Pass } from "./pass.ts";

/** `If(constant)` => the branch that is taken. */
export const constantBranches: Pass = {
  name: "constant-branches",
  summary: "If nodes with a constant condition are replaced by the branch they take.",
  run(graph, facts) {
    const found = graph.nodes.flatMap((node) => {
      const condition = isNode(node, "If") && facts.selected(node) ? constant(graph, node.inputs[0]) : undefined;
      if (condition?.size !== 1) return [];
      const branch = node.attributes[toNumbers(condition)[0] ? "then_branch" : "else_branch"];
      return branch?.type === "graph" && branch.value.sparse.size === 0 ? [{ node, branch: branch.value }] : [];
    });
    return found.reduce((at, { node, branch }) => inline(at, node, branch), graph);
  },
};

function inline(graph: Graph, node: Node, branch: Subgraph): Graph {
  return edit(graph, (draft) => {
    const renamed = new Map<string, string>();
    const made = new Set(branch.nodes.flatMap((inner) => inner.outputs));
    const copies: Node[] = [];
    branch.outputs.forEach(({ name }, i) => {
      const target = node.outputs[i] ?? "";
      if (target === "") return;
      if (made.has(name) && !renamed.has(name)) renamed.set(name, target);
      else copies.push(makeNode("Identity", [name], [target]));
    });
    for (const [name, weight] of branch.weights) renamed.set(name, draft.constant(name, weight));
    for (const name of made) if (name !== "" && !renamed.has(name)) renamed.set(name, draft.fresh(name));
    const name = (old: string): string => renamed.get(old) ?? old;
    const moved = [...branch.nodes, ...copies].map((inner) => renameReads(inner, name));
    draft.replace(node, ...moved.map((inner) => ({ ...inner, outputs: inner.outputs.map(name) })));
  });
}
