import { floatAttribute, type Graph, isNode, type Node, nodeLabel } from "../../graph/graph.ts";
import { links, soleConsumer } from "../../graph/walk.ts";
import { toNumbers } from "../../tensor/tensor.ts";
import { constant } from "../quantize-static/rules.ts";

/** A convolution and all the convolutions that read its output, over nothing but channelwise homogeneous functions. */
export interface Pair {
  readonly producer: Node;
  readonly consumers: readonly Node[];
  /** Clip nodes between them, from 0 to the bound: f(k x) = k f(x) below it only. */
  readonly clips: ReadonlyMap<Node, number>;
}

/** What {@link convolutionPairs} found. */
export interface PairSurvey {
  readonly pairs: readonly Pair[];
  /** Convolutions before which there is no pair, and why. */
  readonly refused: readonly { readonly node: Node; readonly reason: string }[];
}

/**
 * The pairs of convolutions between which channels can be multiplied and divided again: f(k x) = k f(x), k > 0, for all that
 * lies between, and nothing else sees it.
 *
 * @param isLayer whether a convolution, of constants, may be changed
 */
export function convolutionPairs(graph: Graph, isLayer: (node: Node) => boolean): PairSurvey {
  const own = (node: Node): boolean => soleConsumer(graph, node.inputs[1]!) === node;
  const pairs: Pair[] = [];
  const refused: { node: Node; reason: string }[] = [];
  for (const producer of graph.nodes) {
    if (!isNode(producer, "Conv") || !isLayer(producer)) continue;
    const found = { readers: [] as Node[], clips: new Map<Node, number>() };
    const dead = walk(producer.outputs[0]!, graph, isLayer, found);
    const shared = [producer, ...found.readers].find((node) => !own(node));
    const reason =
      dead ??
      (shared && `the weight of '${nodeLabel(shared)}' is read elsewhere too`) ??
      (found.readers.length === 0 ? "nothing reads its output" : undefined);
    if (reason) refused.push({ node: producer, reason });
    else pairs.push({ producer, consumers: found.readers, clips: found.clips });
  }
  return { pairs, refused };
}

/** Collects the convolutions and Clips behind a value; gives the reason where it comes to a dead end. */
function walk(
  name: string,
  graph: Graph,
  isLayer: (node: Node) => boolean,
  found: { readonly readers: Node[]; readonly clips: Map<Node, number> },
): string | undefined {
  const { consumers, outputs } = links(graph);
  if (outputs.has(name)) return `'${name}' is an output of the model`;
  for (const node of consumers.get(name) ?? []) {
    const said = `'${nodeLabel(node)}' (${node.op})`;
    if (node.inputs[0] !== name || node.inputs.indexOf(name, 1) > 0)
      return `${said} reads its output beside something else`;
    if (isNode(node, "Conv")) {
      if (!isLayer(node)) return `${said}, which reads its output, can't be changed`;
      found.readers.push(node);
      continue;
    }
    const limit = homogeneousBelow(node, graph);
    if (limit === undefined) return `${said} reads its output, and does not scale with each channel`;
    if (Number.isFinite(limit)) found.clips.set(node, limit);
    const dead = walk(node.outputs[0]!, graph, isLayer, found);
    if (dead) return dead;
  }
  return undefined;
}

/** Up to which magnitude f(k x) = k f(x) holds for each channel, k > 0; undefined where it does not. */
function homogeneousBelow(node: Node, graph: Graph): number | undefined {
  if (node.domain !== "" || node.outputs.length > 1) return undefined;
  switch (node.op) {
    case "Relu":
    case "LeakyRelu":
    case "PRelu":
    case "MaxPool":
    case "AveragePool":
    case "GlobalAveragePool":
      return Number.POSITIVE_INFINITY;
    case "Clip": {
      const bounds = [1, 2].map((at) => {
        const given = node.inputs[at];
        const t = given ? constant(graph, given) : undefined;
        return given ? t && toNumbers(t)[0] : floatAttribute(node, at === 1 ? "min" : "max", at === 1 ? -1 : Infinity);
      });
      return bounds[0] === 0 ? bounds[1] : undefined;
    }
    default:
      return undefined;
  }
}
