import { type Draft, edit } from "../graph/edit.ts";
import { float, floatAttribute, type Graph, isNode, makeNode } from "../graph/graph.ts";
import { links, soleConsumer } from "../graph/walk.ts";
import type { ResidualBlock } from "./residual-blocks.ts";
import { isSkipNormalization, operandsOf } from "./residual-sums.ts";

/** The graph without a residual block: y = x + f(x) becomes y = x. The inputs and outputs of its cache go too. */
export function withoutBlock(graph: Graph, block: ResidualBlock): Graph {
  const { branch, cache } = block;
  const gone = new Set([...cache.inputs, ...cache.outputs]);
  return edit(graph, (draft) => {
    for (const member of branch) draft.replace(member);
    draft.inputs = draft.inputs.filter(({ name }) => !gone.has(name));
    draft.outputs = draft.outputs.filter(({ name }) => !gone.has(name));
    withoutTerm(draft, block);
  });
}

function withoutTerm(draft: Draft, { node, term }: ResidualBlock): void {
  const others = operandsOf(node).filter((name) => name !== term);
  if (isSkipNormalization(node)) {
    const [x, simplified] = [others[0]!, isNode(node, "com.microsoft:SkipSimplifiedLayerNormalization")];
    // a bias behind these is that of f's last layer
    const [, , gamma, beta] = node.inputs;
    const inputs = [x, gamma!, ...(beta && !simplified ? [beta] : [])];
    const op = simplified ? "SimplifiedLayerNormalization" : "LayerNormalization";
    const epsilon = float(floatAttribute(node, "epsilon", 1e-12));
    draft.replace(node, makeNode(op, inputs, node.outputs.slice(0, 1), { axis: -1, epsilon }, node.name));
    if (node.outputs[3]) draft.rewire(node.outputs[3], x);
  } else if (others.length > 1) {
    draft.replace(node, { ...node, inputs: others });
  } else {
    draft.replace(node);
    draft.rewire(node.outputs[0]!, others[0]!);
    dropSecondRelu(draft, node.outputs[0]!, others[0]!);
  }
}

/** Where x was rectified already, Relu behind the sum does nothing any more. */
function dropSecondRelu({ before, replace, rewire }: Draft, y: string, x: string): void {
  const made = links(before).producer.get(x);
  const reader = soleConsumer(before, y);
  if (!made || !reader || !isNode(made, "Relu") || !isNode(reader, "Relu")) return;
  replace(reader);
  rewire(reader.outputs[0]!, y);
}
