import { intAttribute, type Node } from "../../graph/graph.ts";
import { winnersOf } from "../rules/pooling.ts";
import { ints, type Writer } from "../writer.ts";
import { geometry } from "./convolution.ts";

/** dx of a max pool whose windows don't overlap, in plain layout: each winner is written once, in one pass. */
export function maxPoolGradient(g: Writer, node: Node): string {
  const [x, , dy, known] = node.inputs as [string, string, string, string | undefined];
  const { window, input } = geometry(node);
  const winners = known ?? winnersOf(g, x, window, intAttribute(node, "ceil_mode", 0));
  // the kernel matters only where the shape of the result is not given
  return g.op("MaxUnpool", [dy, winners, ints(g, input)], { kernel_shape: window.kernel.map(() => 1) });
}
