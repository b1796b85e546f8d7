import { type Draft, edit } from "../src/graph/edit.ts";
import { type Dim, float, type Graph, makeGraph, makeNode, type PlainAttribute } from "../src/graph/graph.ts";
import { random } from "../src/random.ts";
import { float32, int64, type Tensor, tensor } from "../src/tensor/tensor.ts";

/** A small network, and what can be cut from it: the numbers of units of its groups, and what freezes others. */
export interface CouplingCase {
  readonly graph: () => Graph;
  /** Units of every group that can be cut, in the order of the weights. */
  readonly units: readonly number[];
  /** Parts of the reasons that must be given for others. */
  readonly frozen?: readonly string[];
}

interface Net {
  readonly draft: Draft;
  weight(...shape: number[]): string;
  positive(...shape: number[]): string;
  ints(...values: number[]): string;
  scalar(value: number): string;
  op(op: string, inputs: readonly string[], attributes?: Readonly<Record<string, PlainAttribute>>): string;
  ops(op: string, inputs: readonly string[], attributes: Record<string, PlainAttribute>, count: number): string[];
  conv(x: string, from: number, to: number, options?: { kernel?: number; stride?: number; group?: number }): string;
  norm(x: string, channels: number): string;
  dense(x: string, from: number, to: number): string;
  linear(x: string, from: number, to: number): string;
}

function normal(shape: readonly number[], deviation: number, seed: number): Tensor {
  const draw = random(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => deviation * draw.normal()),
  );
}

/** A graph from `x` to what `body` returns. */
function net(
  input: readonly Dim[],
  body: (net: Net) => string,
  opsets: Record<string, number> = { "": 21, "com.microsoft": 1 },
  integer = false,
): Graph {
  const empty = makeGraph({
    nodes: [],
    inputs: [{ name: "x", type: { kind: "tensor", dtype: integer ? "int64" : "float32", shape: input } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    opsets,
  });
  return edit(empty, (draft) => {
    let seed = 1;
    const weight = (...shape: number[]): string =>
      draft.constant("w", normal(shape, shape.length > 1 ? 1 / Math.sqrt(shape.at(-1)! + 1) : 0.7, seed++));
    const op: Net["op"] = (kind, inputs, attributes = {}) => draft.emit(kind, inputs, attributes);
    const made: Net = {
      draft,
      weight,
      op,
      positive: (...shape) => {
        const data = new Float32Array(normal(shape, 0.5, seed++).bytes().slice().buffer);
        return draft.constant(
          "p",
          float32(
            shape,
            data.map((v) => 0.5 + Math.abs(v)),
          ),
        );
      },
      ints: (...values) => draft.constant("ints", int64(values)),
      scalar: (value) => draft.constant("scalar", float32([], [value])),
      ops(kind, inputs, attributes, count) {
        const outputs = Array.from({ length: count }, () => draft.fresh(kind.toLowerCase()));
        draft.emit(kind, inputs, attributes, outputs);
        return outputs;
      },
      conv(x, from, to, { kernel = 3, stride = 1, group = 1 } = {}) {
        const pads = Array.from({ length: 4 }, () => (kernel - 1) / 2);
        const inputs = [x, weight(to, from / group, kernel, kernel), weight(to)];
        return op("Conv", inputs, { pads, group, strides: [stride, stride] });
      },
      norm: (x, channels) =>
        op("BatchNormalization", [x, weight(channels), weight(channels), weight(channels), made.positive(channels)]),
      dense: (x, from, to) => op("Gemm", [x, weight(to, from), weight(to)], { transB: 1 }),
      linear: (x, from, to) => op("Add", [op("MatMul", [x, weight(from, to)]), weight(to)]),
    };
    draft.emit("Identity", [body(made)], {}, ["y"]);
  });
}

const image = ["batch", 3, 8, 8];
const tokens = ["batch", 5, 12];

/** Global pooling and a classifier. */
function head({ op, dense }: Net, x: string, channels: number): string {
  return dense(op("Flatten", [op("GlobalAveragePool", [x])]), channels, 4);
}

/** [b, t, h d] -> [b, h, t, d] */
function toHeads({ op, ints }: Net, x: string, heads: number, width: number): string {
  return op("Transpose", [op("Reshape", [x, ints(0, 0, heads, width)])], { perm: [0, 2, 1, 3] });
}

function attend({ op, ints, scalar }: Net, q: string, k: string, v: string, width: number): string {
  const scores = op("Mul", [op("MatMul", [q, op("Transpose", [k], { perm: [0, 1, 3, 2] })]), scalar(0.5)]);
  const mixed = op("MatMul", [op("Softmax", [scores], { axis: -1 }), v]);
  return op("Reshape", [op("Transpose", [mixed], { perm: [0, 2, 1, 3] }), ints(0, 0, width)]);
}

function gelu({ op }: Net, x: string): string {
  return op("Gelu", [x]);
}

const recurrent = (kind: "LSTM" | "GRU" | "RNN", gates: number): Graph =>
  net([5, "batch", 6], (n) => {
    const [hidden, directions] = [4, 2];
    const inputs = [
      n.linear("x", 6, 7),
      n.weight(directions, gates * hidden, 7),
      n.weight(directions, gates * hidden, hidden),
      n.weight(directions, 2 * gates * hidden),
    ];
    const y = n.op(kind, inputs, { hidden_size: hidden, direction: "bidirectional" });
    const joined = n.op("Reshape", [n.op("Transpose", [y], { perm: [0, 2, 1, 3] }), n.ints(0, 0, directions * hidden)]);
    return n.linear(joined, directions * hidden, 3);
  });

const normalized = (kind: string, opset: number): Graph =>
  net(
    tokens,
    (n) => {
      const hidden = n.linear("x", 12, 10);
      const scales = kind === "LayerNormalization" ? [n.weight(10), n.weight(10)] : [n.weight(10)];
      return n.linear(n.op(kind, [hidden, ...scales], { axis: -1, epsilon: float(1e-5) }), 10, 3);
    },
    { "": opset },
  );

/** Networks that between them use every coupling rule. */
export const couplingCases: Readonly<Record<string, CouplingCase>> = {
  "convolutions, normalized, depthwise, flattened": {
    graph: () =>
      net(image, (n) => {
        const first = n.op("Relu", [n.norm(n.conv("x", 3, 8), 8)]);
        const depthwise = n.norm(n.conv(first, 8, 16, { group: 8, stride: 2 }), 16);
        const second = n.op("MaxPool", [n.conv(depthwise, 16, 6)], { kernel_shape: [2, 2], strides: [2, 2] });
        return n.dense(n.op("Flatten", [second]), 24, 4);
      }),
    units: [8, 2, 6],
    frozen: ["input 'x'", "output 'y'"],
  },
  "a residual with a projection, and squeeze-and-excitation": {
    graph: () =>
      net(image, (n) => {
        const inner = n.conv(n.op("Relu", [n.conv("x", 3, 6)]), 6, 8);
        const sum = n.op("Add", [inner, n.conv("x", 3, 8, { kernel: 1 })]);
        const pooled = n.op("ReduceMean", [sum, n.ints(2, 3)], { keepdims: 1 });
        const squeezed = n.op("PRelu", [n.conv(pooled, 8, 4, { kernel: 1 }), n.weight(4, 1, 1)]);
        const gate = n.op("HardSigmoid", [n.conv(squeezed, 4, 8, { kernel: 1 })]);
        return head(n, n.op("Mul", [sum, gate]), 8);
      }),
    units: [6, 8, 4],
  },
  "an option-A shortcut: strided slice and padded channels": {
    graph: () =>
      net(image, (n) => {
        const stem = n.op("Relu", [n.conv("x", 3, 6)]);
        const inner = n.conv(n.op("Relu", [n.conv(stem, 6, 12, { stride: 2 })]), 12, 12);
        const small = n.op("Slice", [stem, n.ints(0, 0), n.ints(99, 99), n.ints(2, 3), n.ints(2, 2)]);
        const wide = n.op("Pad", [small, n.ints(0, 2, 0, 0, 0, 4, 0, 0), n.scalar(0)]);
        return head(n, n.op("Add", [inner, wide]), 12);
      }),
    units: [6, 12, 6],
  },
  "grouped convolutions": {
    graph: () =>
      net(image, (n) => {
        const grouped = n.conv(n.conv("x", 3, 12), 12, 8, { group: 4 });
        return head(n, n.conv(n.op("Relu", [grouped]), 8, 6), 6);
      }),
    // groups, inputs of a group, outputs of a group, channels
    units: [4, 3, 2, 6],
  },
  "transposed convolutions": {
    graph: () =>
      net(image, (n) => {
        const up = (x: string, from: number, to: number, group: number): string =>
          n.op("ConvTranspose", [x, n.weight(from, to / group, 2, 2), n.weight(to)], { strides: [2, 2], group });
        return head(n, up(n.op("Relu", [up(n.conv("x", 3, 6), 6, 8, 2)]), 8, 5, 1), 5);
      }),
    units: [2, 3, 4, 5],
  },
  "dense connections by Concat": {
    graph: () =>
      net(image, (n) => {
        let x = n.conv("x", 3, 8);
        for (const channels of [8, 12, 16]) {
          x = n.op("Concat", [x, n.conv(n.op("Relu", [n.norm(x, channels)]), channels, 4)], { axis: 1 });
        }
        return head(n, x, 20);
      }),
    units: [8, 4, 4, 4],
  },
  "Split into a gated unit, and a part that is dropped": {
    graph: () =>
      net(image, (n) => {
        const [a, b] = n.ops("Split", [n.conv("x", 3, 12)], { axis: 1, num_outputs: 2 }, 2);
        const gated = n.op("Mul", [a!, n.op("Sigmoid", [b!])]);
        const part = n.op("Slice", [n.conv(gated, 6, 10), n.ints(2), n.ints(9), n.ints(1)]);
        return head(n, part, 7);
      }),
    units: [6, 3, 7],
  },
  "channel shuffle by Reshape and Transpose": {
    graph: () =>
      net(image, (n) => {
        const mixed = n.conv(n.conv("x", 3, 12, { kernel: 1 }), 12, 12, { group: 3 });
        const split = n.op("Reshape", [mixed, n.ints(0, 3, 4, 8, 8)]);
        const swapped = n.op("Transpose", [split], { perm: [0, 2, 1, 3, 4] });
        const joined = n.op("Reshape", [swapped, n.ints(0, 12, 8, 8)]);
        return head(n, n.conv(joined, 12, 6), 6);
      }),
    units: [3, 4, 4, 6],
  },
  "channel shuffle by Gather, and channels taken by steps": {
    graph: () =>
      net(image, (n) => {
        const shuffled = n.op("Gather", [n.conv("x", 3, 6), n.ints(0, 3, 1, 4, -4, 5)], { axis: 1 });
        const even = n.op("Slice", [n.conv(shuffled, 6, 9), n.ints(0), n.ints(9), n.ints(1), n.ints(2)]);
        const backwards = n.op("Slice", [even, n.ints(-1), n.ints(-99), n.ints(1), n.ints(-1)]);
        return head(n, backwards, 5);
      }),
    units: [6, 5, 4],
  },
  "pixel shuffles": {
    graph: () =>
      net(image, (n) => {
        const dcr = n.op("DepthToSpace", [n.conv("x", 3, 12)], { blocksize: 2, mode: "DCR" });
        const crd = n.op("DepthToSpace", [n.conv(dcr, 3, 16)], { blocksize: 2, mode: "CRD" });
        return head(n, n.op("SpaceToDepth", [n.conv(crd, 4, 3)], { blocksize: 2 }), 12);
      }),
    units: [3, 4, 3],
  },
  "group, instance and batch normalization": {
    graph: () =>
      net(image, (n) => {
        const first = n.conv("x", 3, 12);
        const groups = n.op("GroupNormalization", [first, n.weight(12), n.weight(12)], { num_groups: 3 });
        const second = n.conv(groups, 12, 6);
        return head(n, n.op("InstanceNormalization", [second, n.weight(6), n.weight(6)]), 6);
      }),
    units: [3, 4, 6],
  },
  "group normalization with a scale for each group": {
    graph: () =>
      net(
        image,
        (n) => {
          const inputs = [n.conv("x", 3, 12), n.weight(3), n.weight(3)];
          return head(n, n.op("GroupNormalization", inputs, { num_groups: 3 }), 12);
        },
        { "": 20 },
      ),
    units: [3, 4],
  },
  "layer normalization": { graph: () => normalized("LayerNormalization", 17), units: [10] },
  "root-mean-square normalization": { graph: () => normalized("RMSNormalization", 23), units: [10] },
  "a normalization spelled out": {
    graph: () =>
      net(tokens, (n) => {
        const x = n.linear("x", 12, 10);
        const mean = (value: string): string => n.op("ReduceMean", [value, n.ints(-1)]);
        const centred = n.op("Sub", [x, mean(x)]);
        const variance = mean(n.op("Pow", [centred, n.scalar(2)]));
        const unit = n.op("Div", [centred, n.op("Sqrt", [n.op("Add", [variance, n.scalar(1e-5)])])]);
        return n.linear(n.op("Add", [n.op("Mul", [unit, n.weight(10)]), n.weight(10)]), 10, 3);
      }),
    units: [10],
  },
  "reductions over channels": {
    graph: () =>
      net(image, (n) => {
        const x = n.conv("x", 3, 8);
        const parts = ["ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceL2", "ReduceL1"];
        const maps = parts.map((kind) => n.op(kind, [x, n.ints(1)]));
        const attention = n.op("Sigmoid", [n.conv(n.op("Concat", maps, { axis: 1 }), 6, 1)]);
        return head(n, n.op("Mul", [x, attention]), 8);
      }),
    units: [8],
  },
  "padding, resizing, tiling, stretching": {
    graph: () =>
      net(image, (n) => {
        const x = n.op("Pad", [n.conv("x", 3, 6), n.ints(1, 1, 1, 1), "", n.ints(2, 3)], { mode: "reflect" });
        const sizes = n.op("Concat", [n.op("Shape", [x], { start: 0, end: 1 }), n.ints(6, 20, 20)], { axis: 0 });
        const large = n.op("Resize", [x, "", "", sizes]);
        const wide = n.op("Tile", [large, n.ints(1, 2, 1, 1)]);
        const bias = n.op("Expand", [n.weight(1, 1, 1, 1), n.ints(1, 12, 1, 1)]);
        return head(n, n.op("Add", [wide, bias]), 12);
      }),
    units: [6],
  },
  "resizing of some axes, and stretching by fewer axes than there are": {
    graph: () =>
      net(image, (n) => {
        const x = n.conv("x", 3, 6);
        const large = n.op("Resize", [x, "", "", n.ints(14, 14)], { axes: [2, 3] });
        const tail = n.op("Shape", [large], { start: -2 });
        const twice = n.op("Resize", [large, "", "", n.op("Mul", [tail, n.ints(2, 2)])], { axes: [-2, -1] });
        const mean = n.op("GlobalAveragePool", [n.conv(x, 6, 6)]);
        const wide = n.op("Expand", [mean, n.ints(28, 28)]);
        const wider = n.op("Expand", [mean, n.op("Shape", [twice], { start: 1 })]);
        return head(n, n.op("Add", [n.op("Mul", [twice, wide]), wider]), 6);
      }),
    units: [6],
  },
  "shapes that are computed": {
    graph: () =>
      net(image, (n) => {
        const x = n.conv("x", 3, 12);
        const size = (axis: number): string => n.op("Gather", [n.op("Shape", [x]), n.ints(axis)]);
        const per = n.op("Div", [size(1), n.ints(3)]);
        const split = n.op("Concat", [size(0), n.ints(3), per, size(2), size(3)], { axis: 0 });
        const grouped = n.op("Reshape", [x, split]);
        const back = n.op("Concat", [size(0), n.ints(-1), size(2), size(3)], { axis: 0 });
        const zeros = n.op("ConstantOfShape", [n.op("Shape", [x])]);
        const sum = n.op("Add", [n.op("Reshape", [n.op("Relu", [grouped]), back]), zeros]);
        return head(n, sum, 12);
      }),
    units: [3, 4],
  },
  "shapes that multiply channels, and numbers of groups, with the batch": {
    graph: () =>
      net(image, (n) => {
        const x = n.conv("x", 3, 12);
        const size = (of: string, axis: number): string => n.op("Gather", [n.op("Shape", [of]), n.ints(axis)]);
        const back = (of: string, like: string): string => n.op("Reshape", [of, n.op("Shape", [like])]);
        const planes = n.op("Concat", [n.op("Mul", [size(x, 0), size(x, 1)]), n.ints(-1)], { axis: 0 });
        const weighed = back(n.op("Softmax", [n.op("Reshape", [x, planes])], { axis: -1 }), x);
        const y = n.conv(weighed, 12, 8);
        const groups = n.op("Concat", [n.op("Mul", [size(y, 0), n.ints(4)]), n.ints(-1, 8, 8)], { axis: 0 });
        const grouped = n.op("Reshape", [y, groups]);
        const gate = n.op("Sigmoid", [n.op("ReduceMean", [grouped, n.ints(2, 3)])]);
        return head(n, back(n.op("Mul", [grouped, gate]), y), 8);
      }),
    units: [12, 4, 2],
  },
  "shapes that divide channels times the batch": {
    graph: () =>
      net(image, (n) => {
        const planes = (x: string): string => {
          const size = (axis: number): string => n.op("Gather", [n.op("Shape", [x]), n.ints(axis)]);
          return n.op("Div", [n.op("Mul", [size(0), size(1)]), n.ints(3)]);
        };
        const split = (x: string, ...rest: number[]): string =>
          n.op("Sigmoid", [n.op("Reshape", [x, n.op("Concat", [planes(x), n.ints(...rest)], { axis: 0 })])]);
        const joined = (x: string): string => n.op("Reshape", [x, n.ints(-1, 12, 8, 8)]);
        const first = joined(split(n.conv("x", 3, 12), -1, 8, 8));
        return head(n, joined(split(n.conv(first, 12, 12), 3, 8, 8)), 12);
      }),
    // where another size is left to be found, that of channels times batch can't be
    units: [4, 3],
    frozen: ["computes a shape with its size and others"],
  },
  "values whose shape is that of others": {
    graph: () =>
      net(image, (n) => {
        const x = n.conv("x", 3, 12);
        const like = n.op("Shape", [x]);
        const zeros = n.op("ConstantOfShape", [like]);
        // channels that are weighed against each other stay, and are to be as many as the layer behind them reads
        const mask = n.conv(n.op("Softmax", [zeros], { axis: 1 }), 12, 5);
        const wide = n.op("Expand", [n.weight(1, 1, 8, 8), like]);
        const other = n.conv(n.op("Softmax", [wide], { axis: 1 }), 12, 5);
        const few = n.op("Mul", [n.conv(x, 12, 5), n.op("Add", [mask, other])]);
        return head(n, few, 5);
      }),
    units: [12, 5],
    frozen: ["normalizes over it"],
  },
  "a size that is computed with": {
    graph: () =>
      net(tokens, (n) => {
        const x = n.linear(n.linear("x", 12, 20), 20, 16);
        const size = n.op("Cast", [n.op("Gather", [n.op("Shape", [x]), n.ints(-1)])], { to: 1 });
        return n.linear(n.op("Div", [x, n.op("Sqrt", [size])]), 16, 3);
      }),
    units: [20],
    frozen: ["computes with its size"],
  },
  "attention with separate projections, and a feed-forward layer": {
    graph: () =>
      net(tokens, (n) => {
        const stream = n.linear("x", 12, 10);
        const part = (): string => toHeads(n, n.linear(stream, 10, 12), 3, 4);
        const attended = n.op("Add", [stream, n.linear(attend(n, part(), part(), part(), 12), 12, 10)]);
        const wide = gelu(n, n.linear(attended, 10, 16));
        return n.linear(n.op("Add", [attended, n.linear(wide, 16, 10)]), 10, 3);
      }),
    // stream, heads, widths of queries with keys and of values, feed-forward
    units: [10, 3, 4, 4, 16],
  },
  "attention with a packed projection": {
    graph: () =>
      net(tokens, (n) => {
        const packed = n.op("Reshape", [n.linear("x", 12, 36), n.ints(0, 0, 3, 3, 4)]);
        const moved = n.op("Transpose", [packed], { perm: [2, 0, 3, 1, 4] });
        const part = (i: number): string => n.op("Gather", [moved, n.draft.constant("i", int64([i], []))], { axis: 0 });
        return n.linear(attend(n, part(0), part(1), part(2), 12), 12, 3);
      }),
    units: [3, 4],
  },
  "attention with a projection that is split": {
    graph: () =>
      net(tokens, (n) => {
        const [q, k, v] = n.ops("Split", [n.linear("x", 12, 36)], { axis: -1, num_outputs: 3 }, 3);
        const [a, b, c] = [q, k, v].map((part) => toHeads(n, part!, 3, 4));
        return n.linear(attend(n, a!, b!, c!, 12), 12, 3);
      }),
    units: [3, 4],
  },
  "attention with grouped queries": {
    graph: () =>
      net(tokens, (n) => {
        const q = toHeads(n, n.linear("x", 12, 24), 6, 4);
        const shared = (): string => {
          const few = n.op("Unsqueeze", [toHeads(n, n.linear("x", 12, 8), 2, 4), n.ints(2)]);
          const repeated = n.op("Expand", [few, n.ints(1, 1, 3, 1, 1)]);
          return n.op("Reshape", [repeated, n.ints(0, 6, -1, 4)]);
        };
        return n.linear(attend(n, q, shared(), shared(), 24), 24, 3);
      }),
    // groups of heads, width of queries and keys, heads of every group, width of values
    units: [2, 3, 4, 4],
  },
  "ONNX's attention with grouped queries": {
    graph: () =>
      net(
        tokens,
        (n) => {
          const [q, k, v] = [24, 8, 10].map((width) => n.linear("x", 12, width));
          const y = n.op("Attention", [q!, k!, v!], { q_num_heads: 6, kv_num_heads: 2 });
          return n.linear(y, 30, 3);
        },
        { "": 23 },
      ),
    units: [2, 3, 4, 5],
  },
  "ONNX's attention with a mask, one for all heads or for each": {
    graph: () =>
      net(
        tokens,
        (n) => {
          const attention = (x: string, width: number, ...mask: number[]): string => {
            const parts = [1, 2, 3].map(() => n.linear(x, width, 12));
            return n.op("Attention", [...parts, n.weight(...mask)], { q_num_heads: 3, kv_num_heads: 3 });
          };
          return n.linear(attention(attention("x", 12, 1, 5, 5), 12, 3, 5, 5), 12, 3);
        },
        { "": 23 },
      ),
    units: [3, 4, 4],
    frozen: ["a mask or scores for each head"],
  },
  "the runtime's attention operators": {
    graph: () =>
      net(tokens, (n) => {
        const packed = n.op("com.microsoft:Attention", [n.linear("x", 12, 7), n.weight(7, 36), n.weight(36)], {
          num_heads: 3,
        });
        const parts = (x: string): string[] => [8, 8, 12].map((width) => n.op("MatMul", [x, n.weight(12, width)]));
        const y = n.op("com.microsoft:MultiHeadAttention", [...parts(packed), n.weight(28)], { num_heads: 2 });
        const z = n.op("com.microsoft:MultiHeadAttention", parts(y), { num_heads: 2 });
        return n.linear(n.op("com.microsoft:FastGelu", [z, n.weight(12)]), 12, 3);
      }),
    // the first: input, heads and their width; the second, whose bias holds heads of two widths: heads; the third: all
    units: [7, 3, 4, 2, 2, 4, 6],
  },
  "LSTM in both directions": { graph: () => recurrent("LSTM", 4), units: [7, 4] },
  "GRU in both directions": { graph: () => recurrent("GRU", 3), units: [7, 4] },
  "RNN in both directions": { graph: () => recurrent("RNN", 1), units: [7, 4] },
  "an embedding tied to the last layer": {
    graph: () =>
      net(
        ["batch", 6],
        (n) => {
          const table = n.weight(9, 8);
          const x = n.op("Gather", [table, "x"], { axis: 0 });
          const hidden = n.op("Add", [x, n.linear(n.op("Relu", [n.linear(x, 8, 12)]), 12, 8)]);
          return n.op("MatMul", [hidden, n.op("Transpose", [table], { perm: [1, 0] })]);
        },
        { "": 21 },
        true,
      ),
    units: [8, 12],
    frozen: ["looks it up by computed numbers"],
  },
  "products of many kinds": {
    graph: () =>
      net(tokens, (n) => {
        const first = n.op("Einsum", ["x", n.weight(12, 2, 5)], { equation: "btc,chd->bthd" });
        const second = n.op("Einsum", [first, n.weight(2, 5, 6)], { equation: "bthd,hde->bte" });
        const scores = n.op("Einsum", [second, second], { equation: "bte,bse->bts" });
        const left = n.op("MatMul", [n.weight(7, 5), n.op("MatMul", [scores, second])]);
        const fused = n.op("com.microsoft:FusedMatMul", [n.op("Relu", [left]), n.weight(4, 6)], { transB: 1 });
        return n.op("MatMul", [fused, n.weight(4)]);
      }),
    units: [2, 5, 6, 4],
    frozen: ["output 'y'"],
  },
  "weights that are quantized": {
    graph: () =>
      net(image, (n) => {
        const quantized = (channels: number, from: number, seed: number): string => {
          const codes = Int8Array.from(
            normal([channels * from * 9], 40, seed)
              .bytes()
              .slice(0, channels * from * 9),
          );
          const w = n.draft.constant("codes", tensor("int8", [channels, from, 3, 3], codes));
          return n.op("DequantizeLinear", [w, n.positive(channels)], { axis: 0 });
        };
        const conv = (x: string, w: string): string => n.op("Conv", [x, w], { pads: [1, 1, 1, 1] });
        const first = conv("x", quantized(8, 3, 50));
        const rounded = n.op("QuantizeLinear", [
          first,
          n.scalar(2),
          n.draft.constant("zero", tensor("uint8", [], Uint8Array.of(128))),
        ]);
        const x = n.op("DequantizeLinear", [
          rounded,
          n.scalar(2),
          n.draft.constant("zero", tensor("uint8", [], Uint8Array.of(128))),
        ]);
        return head(n, conv(x, quantized(6, 8, 51)), 6);
      }),
    units: [8, 6],
  },
  "operator set 9: attributes instead of inputs": {
    graph: () =>
      net(
        image,
        (n) => {
          const [a, b] = n.ops("Split", [n.conv("x", 3, 10)], { axis: 1, split: [4, 6] }, 2);
          const part = n.op("Slice", [b!], { axes: [1], starts: [1], ends: [6] });
          const wide = n.op("Pad", [a!], { pads: [0, 0, 0, 0, 0, 1, 0, 0] });
          const scale = n.op("Mul", [part, n.op("ReduceMax", [wide], { axes: [1, 2], keepdims: 1 })]);
          return n.op("Gemm", [
            n.op("Flatten", [n.op("GlobalAveragePool", [n.op("Add", [scale, wide])])]),
            n.weight(5, 4),
            n.weight(4),
          ]);
        },
        { "": 9 },
      ),
    units: [4, 1, 1],
  },
  "control flow": {
    graph: () =>
      net(image, (n) => {
        const x = n.conv(n.conv("x", 3, 6), 6, 5);
        const branch = (op: string): Graph =>
          makeGraph({
            name: op,
            nodes: [makeNode(op, [x], [`${op}_y`])],
            inputs: [],
            outputs: [{ name: `${op}_y`, type: { kind: "tensor", dtype: "float32" } }],
          });
        const condition = n.op("Greater", [n.op("ReduceSum", [x], { keepdims: 0 }), n.scalar(0)]);
        n.draft.add({
          ...makeNode("If", [condition], ["chosen"]),
          attributes: {
            then_branch: { type: "graph", value: branch("Relu") },
            else_branch: { type: "graph", value: branch("Tanh") },
          },
        });
        return head(n, "chosen", 5);
      }),
    units: [6],
    frozen: ["in a body of its own"],
  },
  "what no rule is known for": {
    graph: () =>
      net(tokens, (n) => {
        const x = n.linear("x", 12, 6);
        const [values] = n.ops("TopK", [x, n.ints(6)], { axis: -1 }, 2);
        return n.linear(n.op("Softmax", [n.linear(values!, 6, 5)], { axis: -1 }), 5, 3);
      }),
    units: [],
    frozen: ["picks elements", "normalizes over it", "output 'y'"],
  },
};
