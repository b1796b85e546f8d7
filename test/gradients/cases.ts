import { float, type PlainAttribute } from "../../src/graph/graph.ts";
import { float32, int64, type Tensor, tensor } from "../../src/tensor/tensor.ts";

/** One operator with inputs of given shapes, named x0, x1, ... */
export interface GradientCase {
  readonly op: string;
  readonly note?: string;
  /** Shapes of the float inputs. */
  readonly inputs: readonly (readonly number[])[];
  readonly attributes?: Readonly<Record<string, PlainAttribute>>;
  /** The node's inputs, where they are not just x0, x1, ...: names of inputs and constants, "" for none. */
  readonly arguments?: readonly string[];
  readonly constants?: Readonly<Record<string, Tensor>>;
  /** What to differentiate with respect to; all float inputs if absent. */
  readonly wrt?: readonly string[];
  readonly outputs?: number;
  /** Range the inputs are drawn from. */
  readonly range?: readonly [number, number];
  /** Points that no input may come near, where the function is not smooth. */
  readonly kinks?: readonly number[];
  /** Step of the central difference. */
  readonly step?: number;
  readonly opset?: number;
}

const unaries = [
  "Celu Cos Elu Erf Exp Gelu HardSwish Identity Mish Neg Sigmoid Sin Softplus Softsign Tanh com.microsoft:QuickGelu com.microsoft:Gelu",
  "Swish",
].flatMap((line) => line.split(" "));

const elementwise: GradientCase[] = [
  ...unaries.flatMap((op) =>
    [[2, 3], [5], [1, 4, 3]].map((shape) => ({
      op,
      inputs: [shape],
      ...(op === "Mish" || op === "Swish" ? { opset: op === "Swish" ? 24 : 18 } : {}),
    })),
  ),
  ...["Abs", "Relu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Selu"].map((op) => ({
    op,
    inputs: [[3, 4]],
    kinks: [-2.5, 0, 1, 2.5],
    range: [-3, 3] as const,
  })),
  { op: "Gelu", note: "tanh", inputs: [[3, 5]], attributes: { approximate: "tanh" } },
  { op: "Elu", inputs: [[7]], attributes: { alpha: float(0.5) }, kinks: [0] },
  ...["Sqrt", "Log", "Reciprocal"].map((op) => ({ op, inputs: [[4, 3]], range: [1, 2] as const })),
  ...["Add", "Sub", "Mul"].flatMap((op) =>
    [
      [
        [2, 3],
        [2, 3],
      ],
      [[2, 3], [3]],
      [
        [1, 3],
        [4, 1],
      ],
      [[], [2, 2]],
      [
        [5, 1, 2],
        [1, 3, 1],
      ],
    ].map((inputs) => ({ op, inputs })),
  ),
  { op: "Mul", note: "with itself", inputs: [[3, 2]], arguments: ["x0", "x0"] },
  ...[
    [
      [2, 3],
      [2, 3],
    ],
    [[2, 3], [1]],
    [[3], [2, 3]],
  ].map((inputs) => ({ op: "Div", inputs, range: [1, 2] as const })),
  { op: "Pow", inputs: [[2, 3], [3]], range: [1, 2] },
  ...[0.5, 1, 2, 3, 1.5].map((p) => ({
    op: "Pow",
    note: `${p}`,
    inputs: [[4]],
    arguments: ["x0", "p"],
    constants: { p: float32([], [p]) },
    range: [1, 2] as const,
  })),
  ...["Sum", "Mean", "Max", "Min"].flatMap((op) =>
    [
      [[2, 3], [2, 3], [3]],
      [[4]],
      [
        [2, 1],
        [1, 3],
      ],
    ].map((inputs) => ({ op, inputs, step: 1e-3 })),
  ),
  {
    op: "Where",
    inputs: [[2, 3], [3]],
    arguments: ["c", "x0", "x1"],
    constants: { c: tensor("bool", [2, 1], Uint8Array.of(1, 0)) },
  },
  {
    op: "Clip",
    inputs: [[3, 4]],
    arguments: ["x0", "lo", "hi"],
    constants: { lo: float32([], [-0.4]), hi: float32([], [0.5]) },
    step: 1e-3,
  },
  {
    op: "Clip",
    note: "learned bounds",
    inputs: [[3, 4], [], []],
    range: [-1, 1],
    arguments: ["x0", "lo", "hi"],
    constants: { lo: float32([], [-0.4]), hi: float32([], [0.5]) },
    wrt: ["x0"],
    step: 1e-3,
  },
  {
    op: "PRelu",
    inputs: [
      [2, 3, 4],
      [3, 1],
    ],
    step: 1e-3,
  },
  { op: "PRelu", inputs: [[2, 3], [1]], step: 1e-3 },
  { op: "Dropout", inputs: [[3, 3]] },
  { op: "Cast", inputs: [[3]], attributes: { to: 1 } },
  { op: "CastLike", inputs: [[3]], arguments: ["x0", "like"], constants: { like: float32([1], [0]) } },
];

const inverses: GradientCase[] = [
  ...["Acos", "Asin", "Atanh"].map((op) => ({ op, inputs: [[2, 3]], range: [-0.7, 0.7] as const })),
  ...["Asinh", "Atan", "Cosh", "Sinh", "Tan"].map((op) => ({ op, inputs: [[2, 3]] })),
  { op: "Acosh", inputs: [[4]], range: [1.5, 3] },
  { op: "Shrink", inputs: [[3, 4]], attributes: { lambd: float(0.5), bias: float(0.1) }, kinks: [-0.5, 0.5] },
];

const products: GradientCase[] = [
  ...[
    [
      [3, 4],
      [4, 2],
    ],
    [
      [2, 3, 4],
      [4, 5],
    ],
    [
      [2, 3, 4],
      [2, 4, 5],
    ],
    [
      [1, 2, 3, 4],
      [5, 1, 4, 2],
    ],
    [[4], [4, 3]],
    [[3, 4], [4]],
    [[4], [4]],
    [[2, 3, 4], [4]],
    [
      [4, 3],
      [2, 3, 5],
    ],
    [[4], [2, 4, 3]],
  ].map((inputs) => ({ op: "MatMul", inputs })),
  ...[0, 1].flatMap((transA) =>
    [0, 1].map((transB) => ({
      op: "Gemm",
      note: `transA ${transA} transB ${transB}`,
      inputs: [transA ? [3, 2] : [2, 3], transB ? [4, 3] : [3, 4], [4]],
      attributes: { transA, transB, alpha: float(0.5), beta: float(2) },
    })),
  ),
  {
    op: "Gemm",
    note: "no bias",
    inputs: [
      [2, 3],
      [3, 4],
    ],
  },
  { op: "Gemm", note: "scalar bias", inputs: [[1, 3], [3, 4], []] },
  ...[
    ["bij,bjk->bik", [2, 3, 4], [2, 4, 2]],
    ["ij,jk", [2, 3], [3, 4]],
    ["bhwc,hkc->bhwk", [1, 2, 3, 2], [2, 4, 2]],
    ["ij,k->i", [2, 3], [2]],
    ["i,j->ij", [3], [2]],
  ].map(([equation, ...inputs]) => ({
    op: "Einsum",
    note: equation as string,
    inputs: inputs as number[][],
    attributes: { equation: equation as string },
  })),
  { op: "Einsum", note: "sum", inputs: [[2, 3]], attributes: { equation: "ij->j" } },
];

const convolutions: GradientCase[] = [
  { inputs: [[2, 3, 6, 5], [4, 3, 3, 3], [4]], attributes: { pads: [1, 1, 1, 1] } },
  {
    inputs: [
      [1, 2, 7, 7],
      [3, 2, 3, 3],
    ],
    attributes: { strides: [2, 2], pads: [1, 1, 1, 1] },
  },
  {
    inputs: [
      [2, 2, 8, 7],
      [3, 2, 3, 3],
    ],
    attributes: { strides: [2, 3], pads: [0, 1, 1, 0] },
  },
  {
    inputs: [
      [1, 2, 9, 9],
      [2, 2, 3, 3],
    ],
    attributes: { dilations: [2, 2], pads: [2, 2, 2, 2] },
  },
  {
    inputs: [
      [1, 2, 10, 9],
      [2, 2, 3, 2],
    ],
    attributes: { dilations: [2, 1], strides: [2, 2] },
  },
  { inputs: [[2, 4, 5, 5], [4, 1, 3, 3], [4]], attributes: { group: 4, pads: [1, 1, 1, 1] } },
  {
    inputs: [
      [2, 4, 5, 5],
      [8, 1, 3, 3],
    ],
    attributes: { group: 4, strides: [2, 2] },
  },
  {
    inputs: [
      [2, 6, 5, 4],
      [4, 3, 1, 1],
    ],
    attributes: { group: 2 },
  },
  {
    inputs: [
      [2, 6, 5, 5],
      [4, 3, 3, 3],
    ],
    attributes: { group: 2, pads: [1, 1, 1, 1] },
  },
  { inputs: [[2, 3, 8], [4, 3, 3], [4]], attributes: { strides: [2], pads: [1, 1] } },
  {
    inputs: [
      [1, 2, 4, 5, 4],
      [3, 2, 2, 3, 2],
    ],
    attributes: { strides: [1, 2, 1] },
  },
  {
    inputs: [
      [1, 2, 6, 6],
      [3, 2, 3, 3],
    ],
    attributes: { auto_pad: "SAME_UPPER", strides: [2, 2] },
  },
  {
    inputs: [
      [1, 2, 6, 5],
      [3, 2, 2, 2],
    ],
    attributes: { auto_pad: "SAME_LOWER" },
  },
  {
    inputs: [
      [1, 2, 6, 5],
      [3, 2, 2, 2],
    ],
    attributes: { auto_pad: "VALID" },
  },
  {
    inputs: [
      [1, 1, 5, 5],
      [1, 1, 5, 5],
    ],
  },
].map((c) => ({ op: "Conv", step: 0.1, ...c }));

const transposedConvolutions: GradientCase[] = [
  { inputs: [[2, 3, 4, 5], [3, 4, 3, 3], [4]] },
  {
    inputs: [
      [1, 2, 4, 4],
      [2, 3, 3, 3],
    ],
    attributes: { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] },
  },
  {
    inputs: [
      [1, 4, 3, 3],
      [4, 2, 2, 2],
    ],
    attributes: { group: 2, strides: [2, 2] },
  },
  {
    inputs: [
      [1, 3, 5],
      [3, 2, 4],
    ],
    attributes: { strides: [2], pads: [1, 1] },
  },
  {
    inputs: [
      [1, 2, 4, 4],
      [2, 2, 3, 3],
    ],
    attributes: { dilations: [2, 2] },
  },
  {
    inputs: [
      [1, 2, 3, 3],
      [2, 2, 3, 3],
    ],
    attributes: { auto_pad: "SAME_UPPER", strides: [2, 2] },
  },
  {
    inputs: [
      [1, 2, 3, 3],
      [2, 2, 3, 3],
    ],
    attributes: { strides: [2, 2], output_shape: [7, 6] },
  },
].map((c) => ({ op: "ConvTranspose", step: 0.1, ...c }));

const axesOf = (axes: readonly number[]) => ({ arguments: ["x0", "axes"], constants: { axes: int64(axes) } });

const reductions: GradientCase[] = [
  ...["ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceLogSumExp", "ReduceL2"].flatMap((op) => [
    { op, inputs: [[2, 3, 4]], ...axesOf([1]), attributes: { keepdims: 1 } },
    { op, inputs: [[2, 3, 4]], ...axesOf([0, -1]), attributes: { keepdims: 0 } },
    { op, inputs: [[1, 5]] },
  ]),
  ...["ReduceMax", "ReduceMin", "ReduceL1"].map((op) => ({ op, inputs: [[3, 4]], ...axesOf([1]), step: 1e-3 })),
  ...["ReduceProd", "ReduceLogSum"].map((op) => ({ op, inputs: [[2, 3]], ...axesOf([1]), range: [1, 2] as const })),
  { op: "ReduceSum", note: "noop", inputs: [[2, 3]], attributes: { noop_with_empty_axes: 1 } },
  ...["Softmax", "LogSoftmax"].flatMap((op) => [
    { op, inputs: [[2, 5]], attributes: { axis: -1 } },
    { op, inputs: [[2, 3, 4]], attributes: { axis: 1 } },
  ]),
  { op: "LpNormalization", inputs: [[3, 4]], attributes: { axis: 1 } },
  { op: "LpNormalization", inputs: [[3, 4]], attributes: { axis: 0, p: 1 }, range: [0.5, 1] },
];

const normalizations: GradientCase[] = [
  { op: "BatchNormalization", inputs: [[3, 2, 4, 3], [2], [2], [2], [2]], range: [0.5, 1.5] },
  { op: "BatchNormalization", note: "two axes", inputs: [[4, 3], [3], [3], [3], [3]], range: [0.5, 1.5] },
  {
    op: "BatchNormalization",
    note: "training",
    inputs: [[3, 2, 4, 3], [2], [2], [2], [2]],
    wrt: ["x0", "x1", "x2"],
    attributes: { training_mode: 1 },
    outputs: 3,
    range: [0.5, 1.5],
  },
  { op: "LayerNormalization", inputs: [[2, 3, 5], [5], [5]] },
  {
    op: "LayerNormalization",
    note: "two axes, no bias",
    inputs: [
      [2, 3, 4],
      [3, 4],
    ],
    attributes: { axis: 1 },
  },
  { op: "InstanceNormalization", inputs: [[2, 3, 4, 2], [3], [3]] },
  { op: "GroupNormalization", inputs: [[2, 4, 3, 2], [4], [4]], attributes: { num_groups: 2 } },
  { op: "RMSNormalization", inputs: [[2, 3, 5], [5]], opset: 23 },
  { op: "SimplifiedLayerNormalization", inputs: [[2, 5], [5]] },
  { op: "MeanVarianceNormalization", inputs: [[2, 3, 4, 3]] },
  { op: "LRN", inputs: [[2, 6, 2, 2]], attributes: { size: 3, alpha: float(0.5), beta: float(0.75), bias: float(1) } },
];

const poolings: GradientCase[] = [
  { op: "MaxPool", inputs: [[2, 3, 6, 6]], attributes: { kernel_shape: [2, 2], strides: [2, 2] }, step: 1e-3 },
  {
    op: "MaxPool",
    note: "overlapping",
    inputs: [[1, 2, 7, 7]],
    attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] },
    step: 1e-4,
  },
  {
    op: "MaxPool",
    note: "1-D, ceil",
    inputs: [[2, 2, 7]],
    attributes: { kernel_shape: [3], strides: [2], ceil_mode: 1 },
    step: 1e-3,
  },
  {
    op: "MaxPool",
    note: "padded, apart",
    inputs: [[2, 2, 6, 6]],
    attributes: { kernel_shape: [2, 3], strides: [3, 3], pads: [1, 1, 1, 1], ceil_mode: 1 },
    step: 1e-3,
  },
  { op: "AveragePool", inputs: [[2, 3, 6, 6]], attributes: { kernel_shape: [2, 2], strides: [2, 2] } },
  {
    op: "AveragePool",
    note: "padded",
    inputs: [[1, 2, 5, 5]],
    attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] },
  },
  {
    op: "AveragePool",
    note: "padding counts",
    inputs: [[1, 2, 5, 5]],
    attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1], count_include_pad: 1 },
  },
  {
    op: "AveragePool",
    note: "ceil",
    inputs: [[1, 2, 6, 6]],
    attributes: { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 },
  },
  { op: "AveragePool", note: "1-D", inputs: [[2, 2, 8]], attributes: { kernel_shape: [4], strides: [3] } },
  { op: "GlobalAveragePool", inputs: [[2, 3, 4, 5]] },
  { op: "GlobalMaxPool", inputs: [[2, 3, 4, 5]], step: 1e-4 },
  { op: "GlobalLpPool", inputs: [[2, 3, 4, 5]], attributes: { p: 2 } },
  ...["nearest", "linear"].map((mode) => ({
    op: "Resize",
    note: `${mode} scales`,
    inputs: [[1, 2, 3, 4]],
    arguments: ["x0", "", "s"],
    constants: { s: float32([4], [1, 1, 2, 2]) },
    attributes: {
      mode,
      ...(mode === "nearest" ? { coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" } : {}),
    },
  })),
  {
    op: "Resize",
    note: "linear sizes",
    inputs: [[1, 2, 3, 4]],
    arguments: ["x0", "", "", "z"],
    constants: { z: int64([1, 2, 5, 7]) },
    attributes: { mode: "linear", coordinate_transformation_mode: "align_corners" },
  },
  {
    op: "Resize",
    note: "smaller",
    inputs: [[1, 1, 6, 6]],
    arguments: ["x0", "", "", "z"],
    constants: { z: int64([1, 1, 3, 4]) },
    attributes: { mode: "linear" },
  },
  {
    op: "Resize",
    note: "cubic",
    inputs: [[1, 1, 4, 4]],
    arguments: ["x0", "", "s"],
    constants: { s: float32([4], [1, 1, 2, 2]) },
    attributes: { mode: "cubic" },
  },
];

const indices = (values: readonly number[], shape?: readonly number[]) => ({ i: int64(values, shape) });

const shapings: GradientCase[] = [
  { op: "Reshape", inputs: [[2, 6]], arguments: ["x0", "s"], constants: { s: int64([3, 4]) } },
  { op: "Flatten", inputs: [[2, 3, 2]] },
  { op: "Squeeze", inputs: [[2, 1, 3]], ...axesOf([1]) },
  { op: "Unsqueeze", inputs: [[2, 3]], ...axesOf([0, 3]) },
  { op: "Transpose", inputs: [[2, 3, 4]], attributes: { perm: [2, 0, 1] } },
  { op: "Transpose", note: "reversed", inputs: [[2, 3]] },
  { op: "Expand", inputs: [[3, 1]], arguments: ["x0", "s"], constants: { s: int64([2, 3, 4]) } },
  { op: "Tile", inputs: [[2, 3]], arguments: ["x0", "n"], constants: { n: int64([2, 3]) } },
  {
    op: "Concat",
    inputs: [
      [2, 1, 3],
      [2, 2, 3],
      [2, 1, 3],
    ],
    attributes: { axis: 1 },
  },
  { op: "Split", note: "first part only", inputs: [[2, 6]], attributes: { axis: 1, num_outputs: 3 }, outputs: 3 },
  {
    op: "Slice",
    inputs: [[4, 5]],
    arguments: ["x0", "a", "b", "c"],
    constants: { a: int64([1, -4]), b: int64([3, 1000]), c: int64([0, 1]) },
  },
  {
    op: "Slice",
    note: "forward steps",
    inputs: [[7, 8]],
    arguments: ["x0", "a", "b", "c", "d"],
    constants: { a: int64([1, 1]), b: int64([7, 8]), c: int64([0, 1]), d: int64([2, 3]) },
  },
  {
    op: "Slice",
    note: "forward steps over one axis of three",
    inputs: [[2, 7, 3]],
    arguments: ["x0", "a", "b", "c", "d"],
    constants: { a: int64([0]), b: int64([7]), c: int64([1]), d: int64([3]) },
  },
  {
    op: "Gather",
    note: "one constant index",
    inputs: [[2, 3, 4]],
    arguments: ["x0", "i"],
    constants: { i: int64([-2], []) },
    attributes: { axis: 1 },
  },
  {
    op: "Slice",
    note: "steps",
    inputs: [[6, 5]],
    arguments: ["x0", "a", "b", "c", "d"],
    constants: { a: int64([0, -1]), b: int64([6, -100]), c: int64([0, 1]), d: int64([2, -1]) },
  },
  { op: "Pad", inputs: [[2, 3]], arguments: ["x0", "p"], constants: { p: int64([1, 0, 0, 2]) } },
  { op: "Pad", note: "cropping", inputs: [[4, 4]], arguments: ["x0", "p"], constants: { p: int64([-1, 1, 0, -1]) } },
  ...["reflect", "edge"].map((mode) => ({
    op: "Pad",
    note: mode,
    inputs: [[3, 4]],
    arguments: ["x0", "p"],
    constants: { p: int64([1, 2, 1, 0]) },
    attributes: { mode },
  })),
  { op: "Gather", inputs: [[5, 3]], arguments: ["x0", "i"], constants: indices([0, 4, 0, 2], [2, 2]) },
  {
    op: "Gather",
    note: "axis 1, negative",
    inputs: [[2, 4, 3]],
    arguments: ["x0", "i"],
    constants: indices([-1, 1, -1]),
    attributes: { axis: 1 },
  },
  { op: "Gather", note: "scalar index", inputs: [[3, 2]], arguments: ["x0", "i"], constants: indices([1], []) },
  { op: "GatherElements", inputs: [[3, 3]], arguments: ["x0", "i"], constants: indices([0, 1, 1, 2, 2, 2], [2, 3]) },
  { op: "GatherND", inputs: [[3, 4]], arguments: ["x0", "i"], constants: indices([0, 1, 2, 3, 0, 1], [3, 2]) },
  {
    op: "GatherND",
    note: "batched",
    inputs: [[2, 3, 2]],
    arguments: ["x0", "i"],
    constants: indices([2, 0], [2, 1]),
    attributes: { batch_dims: 1 },
  },
  {
    op: "ScatterElements",
    inputs: [
      [4, 3],
      [2, 3],
    ],
    arguments: ["x0", "i", "x1"],
    constants: indices([0, 1, 2, 3, 3, 0], [2, 3]),
  },
  {
    op: "ScatterElements",
    note: "add",
    inputs: [[4], [3]],
    arguments: ["x0", "i", "x1"],
    constants: indices([1, 1, 3]),
    attributes: { reduction: "add" },
  },
  {
    op: "ScatterND",
    inputs: [
      [4, 2],
      [2, 2],
    ],
    arguments: ["x0", "i", "x1"],
    constants: indices([1, 3], [2, 1]),
  },
  { op: "DepthToSpace", inputs: [[1, 8, 2, 3]], attributes: { blocksize: 2 } },
  { op: "DepthToSpace", note: "CRD", inputs: [[2, 8, 2, 3]], attributes: { blocksize: 2, mode: "CRD" } },
  { op: "SpaceToDepth", inputs: [[1, 2, 4, 6]], attributes: { blocksize: 2 } },
  { op: "TopK", inputs: [[3, 5]], arguments: ["x0", "k"], constants: { k: int64([2]) }, outputs: 2, step: 1e-4 },
  {
    op: "CumSum",
    inputs: [[3, 4]],
    arguments: ["x0", "a"],
    constants: { a: int64([1], []) },
    attributes: { exclusive: 1 },
  },
  {
    op: "CumSum",
    note: "reverse",
    inputs: [[3, 4]],
    arguments: ["x0", "a"],
    constants: { a: int64([0], []) },
    attributes: { reverse: 1 },
  },
  {
    op: "ReverseSequence",
    inputs: [[4, 3]],
    arguments: ["x0", "i"],
    constants: indices([4, 2, 1]),
    attributes: { time_axis: 0, batch_axis: 1 },
  },
  { op: "Trilu", inputs: [[3, 4]], attributes: { upper: 0 } },
];

const recurrent: GradientCase[] = (["forward", "reverse", "bidirectional"] as const).flatMap((direction) => {
  const d = direction === "bidirectional" ? 2 : 1;
  const [steps, batch, size, hidden] = [3, 2, 3, 4];
  const inputs = (gates: number): (readonly number[])[] => [
    [steps, batch, size],
    [d, gates * hidden, size],
    [d, gates * hidden, hidden],
    [d, 2 * gates * hidden],
    [d, batch, hidden],
  ];
  const order = ["x0", "x1", "x2", "x3", "", "x4"];
  const attributes = { hidden_size: hidden, direction };
  return [
    {
      op: "LSTM",
      note: direction,
      inputs: [...inputs(4), [d, batch, hidden]],
      arguments: [...order, "x5"],
      attributes,
      outputs: 3,
    },
    { op: "GRU", note: direction, inputs: inputs(3), arguments: order, attributes, outputs: 2 },
    {
      op: "GRU",
      note: `${direction}, linear before reset`,
      inputs: inputs(3),
      arguments: order,
      attributes: { ...attributes, linear_before_reset: 1 },
      outputs: 2,
    },
  ];
});

/** Every rule, over shapes that broadcast, are odd, or have batch 1. */
export const gradientCases: readonly GradientCase[] = [
  ...elementwise,
  ...inverses,
  ...products,
  ...convolutions,
  ...transposedConvolutions,
  ...reductions,
  ...normalizations,
  ...poolings,
  ...shapings,
  ...recurrent,
];
