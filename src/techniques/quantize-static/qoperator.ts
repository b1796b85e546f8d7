import { edit } from "../../graph/edit.ts";
import { type Graph, isNode, makeNode, type Node, stringAttribute } from "../../graph/graph.ts";
import { links, reads } from "../../graph/walk.ts";

/** A value as integers: names of the integers, their scale and their zero point. */
interface Quantized {
  readonly integers: string;
  readonly scale: string;
  readonly zeroPoint: string;
}

type Rewrite = (node: Node, inputs: readonly (Quantized | undefined)[], output: Quantized) => Node;

const flat = (q: Quantized): readonly string[] => [q.integers, q.scale, q.zeroPoint];
const grid = (q: Quantized): readonly string[] => [q.scale, q.zeroPoint];

/** A node of another operator with the attributes of the first. */
function become(node: Node, op: string, inputs: readonly string[], output: Quantized): Node {
  return { ...makeNode(op, inputs, [output.integers]), name: node.name, attributes: node.attributes };
}

function unary(op: string): Rewrite {
  return (node, [x], y) => become(node, op, [...flat(x!), ...grid(y)], y);
}

function binary(op: string): Rewrite {
  return (node, [a, b], y) => become(node, op, [...flat(a!), ...flat(b!), ...grid(y)], y);
}

/** Moves elements: the same operator, on the integers. */
const move: Rewrite = (node, [x], y) => ({
  ...node,
  inputs: [x!.integers, ...node.inputs.slice(1)],
  outputs: [y.integers],
});

const computing: Readonly<Record<string, Rewrite>> = {
  Conv: (node, [x, w, b], y) => {
    const bias = b ? [b.integers] : [];
    return become(node, "QLinearConv", [...flat(x!), ...flat(w!), ...grid(y), ...bias], y);
  },
  Gemm: (node, [a, b, c], y) => {
    const attributes = Object.fromEntries(Object.entries(node.attributes).filter(([name]) => name !== "beta"));
    const inputs = [...flat(a!), ...flat(b!), c?.integers ?? "", ...grid(y)];
    return become({ ...node, attributes }, "com.microsoft:QGemm", inputs, y);
  },
  MatMul: binary("QLinearMatMul"),
  Add: binary("com.microsoft:QLinearAdd"),
  Mul: binary("com.microsoft:QLinearMul"),
  Concat: (node, inputs, y) =>
    become(node, "com.microsoft:QLinearConcat", [...grid(y), ...inputs.flatMap((x) => flat(x!))], y),
  AveragePool: unary("com.microsoft:QLinearAveragePool"),
  GlobalAveragePool: unary("com.microsoft:QLinearGlobalAveragePool"),
  LeakyRelu: unary("com.microsoft:QLinearLeakyRelu"),
  Sigmoid: unary("com.microsoft:QLinearSigmoid"),
};

const moving: Readonly<Record<string, Rewrite>> = {
  MaxPool: move,
  Reshape: move,
  Flatten: move,
  Squeeze: move,
  Unsqueeze: move,
  Transpose: move,
  Slice: move,
  Gather: move,
  Resize: move,
  DepthToSpace: move,
  Pad: (node, inputs, y) => {
    const moved = move(node, inputs, y);
    const [x = "", pads = "", , ...axes] = moved.inputs;
    const padding = stringAttribute(node, "mode", "constant") === "constant" ? y.zeroPoint : "";
    return { ...moved, inputs: padding === "" && axes.length === 0 ? [x, pads] : [x, pads, padding, ...axes] };
  },
};

/** How many leading inputs carry data that must be integers. */
const dataInputs: Readonly<Record<string, number>> = { Conv: 3, Gemm: 3, MatMul: 2, Add: 2, Mul: 2 };

/**
 * Turns `Q(op(DQ(x), ...))` into the integer operator itself: QLinearConv, QLinearMatMul and the runtime's contrib
 * operators; nodes that only move elements work on the integers. For runtimes that do not know the pattern; needs the
 * contrib operator set "com.microsoft". Other pairs stay.
 */
export function toQOperator(graph: Graph): Graph {
  return onIntegers(graph, { ...computing, ...moving });
}

/** Pads bytes, of which ONNX Runtime (1.30) would make floats first and bytes again afterwards. It pads no 16-bit integers. */
export function padIntegers(graph: Graph): Graph {
  return onIntegers(graph, { Pad: moving.Pad! });
}

function onIntegers(graph: Graph, rewrites: Readonly<Record<string, Rewrite>>): Graph {
  const { producer, consumers, outputs } = links(graph);
  const quantized = (name: string): Quantized | undefined => {
    const maker = producer.get(name);
    if (!maker || !isNode(maker, "DequantizeLinear")) return undefined;
    return { integers: maker.inputs[0]!, scale: maker.inputs[1]!, zeroPoint: maker.inputs[2] ?? "" };
  };
  const written = edit(graph, (draft) => {
    for (const node of graph.nodes) {
      const rewrite = node.domain === "" ? rewrites[node.op] : undefined;
      const reader = consumers.get(node.outputs[0]!)?.[0];
      if (!rewrite || !reader || consumers.get(node.outputs[0]!)!.length > 1 || outputs.has(node.outputs[0]!)) continue;
      if (!isNode(reader, "QuantizeLinear") || node.outputs.length > 1) continue;
      const data = node.inputs.slice(0, dataInputs[node.op] ?? dataCount(node));
      const inputs = data.map((name) => quantized(name));
      if (data.some((name, i) => name !== "" && !inputs[i])) continue;
      const y = { integers: reader.outputs[0]!, scale: reader.inputs[1]!, zeroPoint: reader.inputs[2]! };
      if (node.op in moving && grid(inputs[0]!).some((name, i) => name !== grid(y)[i])) continue;
      const made = rewrite(node, inputs, y);
      if (made.domain !== "") draft.opsets[made.domain] ??= 1;
      draft.replace(node, made);
      draft.replace(reader);
    }
  });
  return withoutDead(written);
}

function dataCount(node: Node): number {
  return node.op === "Concat" ? node.inputs.length : 1;
}

/** Without DequantizeLinear nodes that nothing reads any more. */
function withoutDead(graph: Graph): Graph {
  const used = new Set(graph.outputs.map(({ name }) => name));
  for (const node of graph.nodes) for (const name of reads(node)) used.add(name);
  return edit(graph, (draft) => {
    for (const node of graph.nodes) {
      if (isNode(node, "DequantizeLinear") && !used.has(node.outputs[0]!)) draft.replace(node);
    }
  });
}
