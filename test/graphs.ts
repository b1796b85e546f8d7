import { edit } from "../src/graph/edit.ts";
import { makeGraph, makeNode, type PlainAttribute, type Subgraph } from "../src/graph/graph.ts";
import { type Dim, type Draft, float, type Graph, type Node } from "../src/graph/index.ts";
import { random } from "../src/random.ts";
import { float32, int64, type Tensor } from "../src/tensor/tensor.ts";

/** Small networks of the common kinds, made by code with weights fixed by a seed: a function of the name alone. */
export const networks: Readonly<Record<string, () => Graph>> = {
  "convolutional, normalized, depthwise": () =>
    network("cnn", ["batch", 3, 12, 12], (net, x) => {
      const first = net.op("Relu", net.norm(net.conv(x, 3, 8, 3), 8));
      const depthwise = net.op("Clip", net.norm(net.conv(first, 8, 8, 3, 8), 8), net.scalar(0), net.scalar(6));
      const pointwise = net.op("Relu", net.norm(net.conv(depthwise, 8, 16, 1), 16));
      return net.dense(net.op("Flatten", net.op("GlobalAveragePool", pointwise)), 16, 5);
    }),
  "dense layers": () =>
    network("mlp", ["batch", 24], (net, x) => {
      const hidden = net.op("Relu", net.op("Add", net.op("MatMul", x, net.weight(24, 32)), net.weight(32)));
      return net.op("Softmax", net.dense(hidden, 32, 7));
    }),
  residual: () =>
    network("residual", ["batch", 4, 8, 8], (net, x) => {
      const inner = net.norm(net.conv(net.op("Relu", net.norm(net.conv(x, 4, 4, 3), 4)), 4, 4, 3), 4);
      const sum = net.op("Relu", net.op("Add", inner, x));
      return net.dense(net.op("Flatten", sum), 256, 3);
    }),
  transformer: () => network("transformer", ["batch", 6, 16], transformerBlock),
  recurrent: () =>
    network("recurrent", [5, 2, 12], (net, x) => {
      const inputs = [x, net.weight(1, 32, 12), net.weight(1, 32, 8), net.weight(1, 64)];
      const states = net.with("LSTM", inputs, { hidden_size: 8 });
      return net.dense(net.op("Reshape", states, net.ints(-1, 8)), 8, 4);
    }),
  "detector with a concatenated head": () =>
    network("detector", ["batch", 3, 16, 16], (net, x) => {
      const trunk = net.op("Relu", net.conv(x, 3, 8, 3));
      const boxes = net.op("Mul", net.conv(trunk, 8, 4, 1), net.scalar(40));
      return net.with("Concat", [boxes, net.op("Sigmoid", net.conv(trunk, 8, 2, 1))], { axis: 1 });
    }),
  "control flow": () =>
    network("branches", ["batch", 10], (net, x) => {
      const hidden = net.op("Relu", net.dense(x, 10, 20));
      const positive = net.op("Greater", net.with("ReduceMax", [hidden], { keepdims: 0 }), net.scalar(0.5));
      const branch = (scale: number): Subgraph => {
        const w = normal([20, 6], scale, 90 + scale);
        const nodes = [
          makeNode("MatMul", [hidden, `w${scale}`], [`h${scale}`]),
          makeNode("Tanh", [`h${scale}`], [`t${scale}`]),
        ];
        const outputs = [{ name: `t${scale}`, type: { kind: "tensor", dtype: "float32" } as const }];
        return makeGraph({ name: `branch${scale}`, nodes, weights: new Map([[`w${scale}`, w]]), inputs: [], outputs });
      };
      const node: Node = {
        ...makeNode("If", [positive], ["chosen"]),
        attributes: {
          then_branch: { type: "graph", value: branch(1) },
          else_branch: { type: "graph", value: branch(2) },
        },
      };
      net.draft.add(node);
      return net.dense("chosen", 6, 3);
    }),
};

interface Net {
  readonly draft: Draft;
  weight(...shape: number[]): string;
  scalar(value: number): string;
  ints(...values: number[]): string;
  op(op: string, ...inputs: string[]): string;
  with(op: string, inputs: readonly string[], attributes: Readonly<Record<string, PlainAttribute>>): string;
  conv(x: string, from: number, to: number, kernel: number, group?: number): string;
  norm(x: string, channels: number): string;
  dense(x: string, from: number, to: number): string;
}

function transformerBlock(net: Net, x: string): string {
  const normalized = (value: string): string =>
    net.with("LayerNormalization", [value, net.weight(16), net.weight(16)], { epsilon: float(1e-5) });
  const heads = (value: string, order: readonly number[]): string => {
    const split = net.op("Reshape", net.op("MatMul", value, net.weight(16, 16)), net.ints(0, 6, 4, 4));
    return net.with("Transpose", [split], { perm: order });
  };
  const source = normalized(x);
  const scores = net.op("MatMul", heads(source, [0, 2, 1, 3]), heads(source, [0, 2, 3, 1]));
  const shares = net.with("Softmax", [net.op("Mul", scores, net.scalar(0.5))], { axis: -1 });
  const mixed = net.with("Transpose", [net.op("MatMul", shares, heads(source, [0, 2, 1, 3]))], { perm: [0, 2, 1, 3] });
  const joined = net.op("MatMul", net.op("Reshape", mixed, net.ints(0, 6, 16)), net.weight(16, 16));
  const attended = net.op("Add", x, joined);
  const wide = net.op(
    "Gelu",
    net.op("Add", net.op("MatMul", normalized(attended), net.weight(16, 32)), net.weight(32)),
  );
  return net.op("Add", attended, net.op("MatMul", wide, net.weight(32, 16)));
}

function network(name: string, input: readonly Dim[], body: (net: Net, x: string) => string): Graph {
  const empty = makeGraph({
    name,
    nodes: [],
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: input } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
  });
  return edit(empty, (draft) => {
    let seed = 0;
    const net: Net = {
      draft,
      weight: (...shape) => draft.constant("w", normal(shape, 1 / Math.sqrt(shape.at(-2) ?? 4), seed++)),
      scalar: (value) => draft.constant("scalar", float32([], [value])),
      ints: (...values) => draft.constant("ints", int64(values)),
      op: (op, ...inputs) => draft.emit(op, inputs),
      with: (op, inputs, attributes) => draft.emit(op, inputs, attributes),
      conv: (x, from, to, kernel, group = 1) => {
        const pads = Array.from({ length: 4 }, () => (kernel - 1) / 2);
        const deviation = 1 / Math.sqrt((from / group) * kernel * kernel);
        const w = draft.constant("w", normal([to, from / group, kernel, kernel], deviation, seed++));
        return draft.emit("Conv", [x, w, net.weight(to)], { pads, group, kernel_shape: [kernel, kernel] });
      },
      norm(x, channels) {
        const variance = float32(
          [channels],
          Float32Array.from({ length: channels }, (_, i) => 0.5 + i / channels),
        );
        const inputs = [x, net.weight(channels), net.weight(channels), net.weight(channels)];
        return draft.emit("BatchNormalization", [...inputs, draft.constant("variance", variance)]);
      },
      dense: (x, from, to) => draft.emit("Gemm", [x, net.weight(to, from), net.weight(to)], { transB: 1 }),
    };
    draft.emit("Identity", [body(net, "x")], {}, ["y"]);
  });
}

function normal(shape: readonly number[], deviation: number, seed: number): Tensor {
  const draw = random(seed + 1);
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => deviation * draw.normal()),
  );
}
