import { describe, expect, test } from "vitest";
import { graphOf, norm, onnx, pads, simplified, statistics } from "../../../test/simplified.ts";
import { float, type Graph, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { float32, int64, type Tensor, tensor } from "../../tensor/tensor.ts";
import { normal, operators, type Skip, testContext } from "../testing.ts";
import { simplify } from "./index.ts";

describe("linear operators take in what follows", () => {
  const layers: Record<string, { node: Node; weights: Record<string, Tensor>; channels: number; left: string }> = {
    Conv: {
      node: makeNode("Conv", ["x", "w", "b"], ["h"], { pads }),
      weights: { w: normal([8, 4, 3, 3], 2), b: normal([8], 3) },
      channels: 8,
      left: "Conv 1",
    },
    "Conv in groups, without bias": {
      node: makeNode("Conv", ["x", "w"], ["h"], { group: 2 }),
      weights: { w: normal([6, 2, 3, 3], 2) },
      channels: 6,
      left: "Conv 1",
    },
    ConvTranspose: {
      node: makeNode("ConvTranspose", ["x", "w"], ["h"], { group: 2, strides: [2, 2] }),
      weights: { w: normal([4, 3, 2, 2], 2) },
      channels: 6,
      left: "ConvTranspose 1",
    },
  };
  for (const [name, { node, weights, channels, left }] of Object.entries(layers)) {
    test(`${name}: normalization, factor, offset`, async () => {
      const scale = float32(
        [channels, 1, 1],
        Float32Array.from({ length: channels }, (_, c) => 1 + c / 3),
      );
      const nodes = [
        node,
        norm("h", "n"),
        makeNode("Mul", ["scale", "n"], ["m"]),
        makeNode("Sub", ["m", "offset"], ["s"]),
        makeNode("Div", ["s", "two"], ["y"]),
      ];
      const all = { ...weights, ...statistics(channels), scale, offset: float32([1], [0.3]), two: float32([], [2]) };
      expect((await simplified(graphOf(nodes, all))).left).toBe(left);
    });
  }

  test("Gemm with alpha, beta and a transposed weight", async () => {
    const gemm = makeNode("Gemm", ["x", "w", "b"], ["h"], { transB: 1, alpha: float(0.5), beta: float(2) });
    const weights = { w: normal([5, 4], 2), b: normal([1, 5], 3), ...statistics(5) };
    const { left } = await simplified(
      graphOf([gemm, norm("h", "y")], weights, ["batch", 4]),
      {},
      { x: normal([3, 4]) },
    );
    expect(left).toBe("Gemm 1");
  });

  test("MatMul keeps one Add, whatever follows", async () => {
    const nodes = [
      makeNode("MatMul", ["x", "w"], ["h"]),
      makeNode("Add", ["h", "b"], ["a"]),
      makeNode("Mul", ["a", "s"], ["y"]),
    ];
    const weights = { w: normal([4, 5], 2), b: normal([5], 3), s: normal([5], 4) };
    const { left, graph } = await simplified(graphOf(nodes, weights, ["b", 2, 4]), {}, { x: normal([3, 2, 4]) });
    expect(left).toBe("Add 1, MatMul 1");
    expect(graph.nodes.map(({ name }) => name)).toEqual(["MatMul_h", "Mul_y"]);
  });

  test("a normalization before a convolution without padding", async () => {
    const conv = makeNode("Conv", ["n", "w"], ["y"], { group: 2 });
    const weights = { w: normal([6, 2, 3, 3], 2), ...statistics(4) };
    expect((await simplified(graphOf([norm("x", "n"), conv], weights))).left).toBe("Conv 1");
    const padded = makeNode("Conv", ["n", "w"], ["y"], { group: 2, pads });
    const { left, skips } = await simplified(graphOf([norm("x", "n"), padded], weights));
    expect(left).toBe("BatchNormalization 1, Conv 1");
    expect(skips[0]).toEqual({ node: "BatchNormalization_n", reason: "the convolution behind it pads with zeros" });
  });

  test("weights with other readers stay as they are", async () => {
    const nodes = [
      makeNode("Conv", ["x", "w"], ["h"], { pads }),
      norm("h", "n"),
      makeNode("Conv", ["n", "w"], ["y"], { pads }),
    ];
    const { left, skips } = await simplified(graphOf(nodes, { w: normal([4, 4, 3, 3], 2), ...statistics(4) }));
    expect(left).toBe("BatchNormalization 1, Conv 2");
    expect(skips.map(({ reason }) => reason)).toContain("its weight 'w' is used elsewhere too");
  });

  test("a value with other readers, or that is an output, is not folded away", async () => {
    const nodes = [makeNode("Conv", ["x", "w"], ["h"], { pads }), norm("h", "n"), makeNode("Add", ["h", "n"], ["y"])];
    const { left } = await simplified(graphOf(nodes, { w: normal([4, 4, 3, 3], 2), ...statistics(4) }));
    expect(left).toBe("Add 1, BatchNormalization 1, Conv 1");
  });
});

describe("nodes that change nothing go", () => {
  const one = float32([], [1]);
  const cases: Record<string, { nodes: Node[]; weights?: Record<string, Tensor>; left: string }> = {
    "Identity, Dropout, casts": {
      nodes: [
        makeNode("Identity", ["x"], ["a"]),
        makeNode("Dropout", ["a"], ["b"]),
        makeNode("Cast", ["b"], ["c"], { to: 1 }),
        makeNode("Neg", ["c"], ["y"]),
      ],
      left: "Neg 1",
    },
    arithmetic: {
      nodes: [
        makeNode("Mul", ["x", "one"], ["a"]),
        makeNode("Div", ["a", "one"], ["b"]),
        makeNode("Add", ["zero", "b"], ["c"]),
        makeNode("Neg", ["c"], ["y"]),
      ],
      weights: { one, zero: float32([1, 1, 6], new Float32Array(6)) },
      left: "Neg 1",
    },
    "shapes, slices, pads": {
      nodes: [
        makeNode("Reshape", ["x", "same"], ["a"]),
        makeNode("Slice", ["a", "from", "to"], ["b"]),
        makeNode("Pad", ["b", "pads"], ["c"]),
        makeNode("Concat", ["c"], ["d"], { axis: 0 }),
        makeNode("Tile", ["d", "ones"], ["e"]),
        makeNode("Neg", ["e"], ["y"]),
      ],
      weights: {
        same: int64([0, 4, 6, 6]),
        from: int64([0, 0, 0, 0]),
        to: int64([2 ** 40, 2 ** 40, 6, 99].map(BigInt)),
        pads: int64([0, 0, 0, 0, 0, 0, 0, 0]),
        ones: int64([1, 1, 1, 1]),
      },
      left: "Neg 1",
    },
    "pairs that cancel": {
      nodes: [
        makeNode("Transpose", ["x"], ["a"], { perm: [0, 2, 3, 1] }),
        makeNode("Transpose", ["a"], ["b"], { perm: [0, 3, 1, 2] }),
        makeNode("Unsqueeze", ["b", "axes"], ["c"]),
        makeNode("Squeeze", ["c", "axes"], ["d"]),
        makeNode("Relu", ["d"], ["e"]),
        makeNode("Relu", ["e"], ["y"]),
      ],
      weights: { axes: int64([1, 3]) },
      left: "Relu 1",
    },
    "a broadcast is no identity": {
      nodes: [makeNode("Mul", ["x", "one"], ["y"])],
      weights: { one: float32([1, 1, 1, 1, 1], [1]) },
      left: "Mul 1",
    },
    "an input passed through": { nodes: [makeNode("Identity", ["x"], ["y"])], left: "Identity 1" },
    "dead ends and doubles": {
      nodes: [
        makeNode("Relu", ["x"], ["unused"]),
        makeNode("Sigmoid", ["x"], ["a"]),
        makeNode("Sigmoid", ["x"], ["b"]),
        makeNode("Exp", ["a"], ["c"]),
        makeNode("Exp", ["b"], ["d"]),
        makeNode("Add", ["c", "d"], ["y"]),
      ],
      left: "Add 1, Exp 1, Sigmoid 1",
    },
  };
  for (const [name, { nodes, weights = {}, left }] of Object.entries(cases)) {
    test(name, async () => expect((await simplified(graphOf(nodes, weights))).left).toBe(left));
  }
});

test("batch normalization beside a MatMul of unknown rank stays", async () => {
  const nodes = [
    makeNode("Cast", ["x"], ["target"], { to: 7 }),
    makeNode("Reshape", ["data", "target"], ["r"]),
    norm("r", "n"),
    makeNode("MatMul", ["n", "w"], ["y"]),
  ];
  const weights = { ...statistics(4), beta: float32([4], [0, 0, 0, 0]), mean: float32([4], [0, 0, 0, 0]) };
  const graph = makeGraph({
    nodes,
    weights: new Map(Object.entries({ ...weights, w: normal([4, 4], 5), data: normal([2, 4, 4], 6) })),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["rank"] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
  });
  const { left } = await simplified(graph, {}, { x: float32([3], [2, 4, 4]) });
  expect(left).toBe("BatchNormalization 1, Cast 1, MatMul 1, Reshape 1");
});

test("what passes float16 once folded is not folded", async () => {
  const half = (values: number[], shape = [values.length]): Tensor =>
    tensor("float16", shape, floatToHalf(Float32Array.from(values), "float16"));
  const nodes = [
    makeNode("Cast", ["x"], ["h"], { to: 10 }),
    makeNode("Conv", ["h", "w"], ["c"]),
    norm("c", "n"),
    makeNode("Cast", ["n"], ["y"], { to: 1 }),
  ];
  const weights = {
    w: half([1, 2, 3, 4], [1, 4, 1, 1]),
    gamma: half([1]),
    beta: half([0]),
    mean: half([300]),
    variance: half([0]),
  };
  const skips: Skip[] = [];
  const result = await simplify().apply(graphOf(nodes, weights), testContext(onnx, skips));
  expect(operators(result.nodes)).toBe("BatchNormalization 1, Cast 2, Conv 1");
  expect(skips[0]?.reason).toContain("not finite");
});

describe("weights", () => {
  const sum = [
    makeNode("Add", ["x", "p"], ["a"]),
    makeNode("Add", ["a", "q"], ["b"]),
    makeNode("Add", ["b", "r"], ["y"]),
  ];

  test("of the same content are stored once", async () => {
    const weights = { p: normal([4, 6, 6], 5), q: normal([4, 6, 6], 6), r: normal([4, 6, 6], 5) };
    expect([...(await simplified(graphOf(sum, weights))).graph.weights.keys()]).toEqual(["p", "q"]);
  });

  test("that are inputs too, or unread, are no longer", async () => {
    const weights = { p: normal([6], 5), q: normal([6], 6), r: normal([6], 7), unread: normal([6]) };
    const graph = graphOf(sum, weights, undefined, { irVersion: 3, opsets: { "": 8 } });
    const optional = Object.entries(weights).map(([name, { dtype, shape }]) => ({
      name,
      type: { kind: "tensor", dtype, shape } as const,
    }));
    const old = { ...graph, inputs: [...graph.inputs, ...optional] };
    const { graph: small } = await simplified(old);
    expect(small.inputs.map(({ name }) => name)).toEqual(["x"]);
    expect(small.irVersion).toBe(4);
    expect(small.weights.has("unread")).toBe(false);
  });
});

describe("control flow", () => {
  const branch = (name: string, nodes: readonly Node[], weights: Record<string, Tensor> = {}): Graph =>
    makeGraph({
      name,
      nodes,
      weights: new Map(Object.entries(weights)),
      inputs: [],
      outputs: [{ name, type: { kind: "tensor", dtype: "float32" } }],
    });
  const choice = (condition: string, then: Graph, other: Graph): Node => ({
    ...makeNode("If", [condition], ["y"]),
    attributes: { then_branch: { type: "graph", value: then }, else_branch: { type: "graph", value: other } },
  });
  const bool = (value: number): Tensor => tensor("bool", [], Uint8Array.of(value));

  test("a constant condition leaves one branch", async () => {
    const then = branch("t", [makeNode("Mul", ["x", "w"], ["h"]), makeNode("Exp", ["h"], ["t"])], {
      w: normal([6], 2),
    });
    const other = branch("e", [makeNode("Neg", ["x"], ["e"])]);
    for (const [value, left] of [
      [1, "Exp 1, Mul 1"],
      [0, "Neg 1"],
    ] as const) {
      const graph = graphOf([choice("c", then, other)], { c: bool(value), w: normal([6], 9) });
      expect((await simplified(graph)).left).toBe(left);
    }
  });

  test("bodies are simplified with the constants around them", async () => {
    const nodes = [
      makeNode("ReduceMax", ["x"], ["m"], { keepdims: 0 }),
      makeNode("Greater", ["m", "k"], ["c"]),
      choice(
        "c",
        branch("t", [
          makeNode("Add", ["k", "k"], ["kk"]),
          makeNode("Identity", ["x"], ["i"]),
          makeNode("Mul", ["i", "kk"], ["t"]),
        ]),
        branch("e", [makeNode("Neg", ["x"], ["e"])]),
      ),
    ];
    const { graph } = await simplified(graphOf(nodes, { k: float32([], [0.2]) }));
    const node = graph.nodes.find(({ op }) => op === "If")!;
    const { then_branch: then } = node.attributes;
    expect(then?.type === "graph" && operators(then.value.nodes)).toBe("Mul 1");
  });
});

test("excluded nodes and passes that are off stay", async () => {
  const nodes = [
    makeNode("Conv", ["x", "w"], ["h"], { pads }),
    norm("h", "n"),
    makeNode("Identity", ["n"], ["i"]),
    makeNode("Relu", ["i"], ["y"]),
  ];
  const graph = graphOf(nodes, { w: normal([4, 4, 3, 3], 2), ...statistics(4) });
  expect((await simplified(graph)).left).toBe("Conv 1, Relu 1");
  expect((await simplified(graph, { exclude: ["Identity"] })).left).toBe("Conv 1, Identity 1, Relu 1");
  expect((await simplified(graph, { off: ["fold-following"] })).left).toBe("BatchNormalization 1, Conv 1, Relu 1");
});

test("numbers that are not finite are not folded", async () => {
  const weights = { w: normal([4, 4, 3, 3], 2), ...statistics(4), gamma: float32([4], [1, Number.NaN, 1, 1]) };
  const skips: Skip[] = [];
  const graph = graphOf([makeNode("Conv", ["x", "w"], ["h"], { pads }), norm("h", "y")], weights);
  expect(await simplify().apply(graph, testContext(onnx, skips))).toBe(graph);
  expect(skips).toEqual([{ node: "BatchNormalization_y", reason: "its numbers are not finite, or not once folded" }]);
});
