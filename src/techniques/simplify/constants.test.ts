import { describe, expect, test } from "vitest";
import { graphOf, onnx, simplified } from "../../../test/simplified.ts";
import { type FunctionDef, float, makeNode, type Subgraph } from "../../graph/graph.ts";
import { float32, int64, tensor } from "../../tensor/tensor.ts";
import { normal, operators, outputOf, testContext } from "../testing.ts";
import { simplify } from "./index.ts";

describe("what is known becomes constant", () => {
  test("constants, and nodes that read only them", async () => {
    const nodes = [
      makeNode("Constant", [], ["k"], { value: normal([4, 1], 3) }),
      makeNode("Constant", [], ["s"], { value_float: float(2) }),
      makeNode("Mul", ["k", "s"], ["ks"]),
      makeNode("Unsqueeze", ["ks", "axes"], ["bias"]),
      makeNode("Add", ["x", "bias"], ["y"]),
    ];
    const { left, graph } = await simplified(graphOf(nodes, { axes: int64([1]) }));
    expect(left).toBe("Add 1");
    expect([...graph.weights.keys()]).toEqual(["bias"]);
  });

  test("not where the file would grow, and not decompression", async () => {
    const nodes = [
      makeNode("Expand", ["k", "wide"], ["a"]),
      makeNode("Add", ["x", "a"], ["b"]),
      makeNode("Cast", ["half"], ["h"], { to: 1 }),
      makeNode("Add", ["b", "h"], ["c"]),
      makeNode("DequantizeLinear", ["q", "scale"], ["d"]),
      makeNode("Add", ["c", "d"], ["y"]),
    ];
    const weights = {
      k: float32([1, 1, 1], [1]),
      wide: int64([300, 6, 6]),
      half: tensor("float16", [1], Uint16Array.of(0x3c00)),
      q: tensor("int8", [1], Int8Array.of(3)),
      scale: float32([], [0.5]),
    };
    const graph = graphOf(nodes, weights, [1, 300, 6, 6]);
    const feeds = { x: normal([1, 300, 6, 6]) };
    const kept = "Add 3, Cast 1, DequantizeLinear 1";
    expect((await simplified(graph, { maxGrowth: 1000 }, feeds)).left).toBe(`${kept}, Expand 1`);
    expect((await simplified(graph, {}, feeds)).left).toBe(kept);
  });

  const reshape = [
    makeNode("Shape", ["x"], ["s"]),
    makeNode("Gather", ["s", "first"], ["n"]),
    makeNode("Unsqueeze", ["n", "axes"], ["n1"]),
    makeNode("Gather", ["s", "second"], ["c"]),
    makeNode("Mul", ["c", "nine"], ["cn"]),
    makeNode("Concat", ["n1", "cn", "four"], ["target"], { axis: 0 }),
    makeNode("Reshape", ["x", "target"], ["r"]),
    makeNode("Neg", ["r"], ["y"]),
  ];
  const numbers = {
    first: int64([0], []),
    second: int64([1]),
    axes: int64([0]),
    nine: int64([9]),
    four: int64([4]),
  };

  test("shape arithmetic, the batch staying free", async () => {
    const graph = graphOf(reshape, numbers);
    const { left, graph: small } = await simplified(graph);
    expect(left).toBe("Neg 1, Reshape 1");
    const five = { x: normal([5, 4, 6, 6]) };
    expect(await outputOf(onnx, small, five)).toEqual(await outputOf(onnx, graph, five));
  });

  test("dims fix a free size", async () => {
    const nodes = [
      makeNode("Shape", ["x"], ["s"]),
      makeNode("Expand", ["k", "s"], ["e"]),
      makeNode("Add", ["x", "e"], ["y"]),
    ];
    const graph = graphOf(nodes, { k: float32([1, 1, 1, 1], [2]) });
    expect((await simplified(graph)).left).toBe("Add 1, Expand 1, Shape 1");
    const { left, graph: fixed } = await simplified(graph, { dims: { batch: 2 } });
    expect(left).toBe("Add 1");
    expect(fixed.inputs[0]!.type).toEqual({ kind: "tensor", dtype: "float32", shape: [2, 4, 6, 6] });
  });

  test("a scalar that becomes a matrix keeps its rank", async () => {
    const nodes = [
      makeNode("Shape", ["x"], ["s"]),
      makeNode("Gather", ["s", "one"], ["d"]),
      makeNode("Unsqueeze", ["d", "axes"], ["m"]),
      makeNode("Cast", ["m"], ["f"], { to: 1 }),
      makeNode("MatMul", ["x", "f"], ["y"]),
    ];
    const weights = { one: int64([1], []), axes: int64([0, 1]) };
    const { graph } = await simplified(graphOf(nodes, weights, ["batch", 4, 6, 1]), {}, { x: normal([2, 4, 6, 1]) });
    expect([...graph.weights.values()].map(({ shape }) => shape)).toEqual([[1, 1]]);
  });

  test("float64 constants that float32 can't tell from 0 or 1 stay", async () => {
    const graph = graphOf(
      [
        makeNode("Cast", ["x"], ["d"], { to: 11 }),
        makeNode("Mul", ["d", "p"], ["m"]),
        makeNode("Add", ["m", "q"], ["s"]),
        makeNode("Cast", ["s"], ["y"], { to: 1 }),
      ],
      {
        p: tensor("float64", [], Float64Array.of(1 + 1e-9)),
        q: tensor("float64", [], Float64Array.of(1e-50)),
      },
    );
    expect((await simplified(graph)).left).toBe("Add 1, Cast 2, Mul 1");
  });

  test("a Cast from before operator set 6, to a type by name, stays", async () => {
    const nodes = [makeNode("Cast", ["x"], ["y"], { to: "FLOAT" })];
    const graph = graphOf(nodes, {}, undefined, { opsets: { "": 5 } });
    expect(operators((await simplify().apply(graph, testContext(onnx))).nodes)).toBe("Cast 1");
  });

  test("random numbers are drawn anew each time", async () => {
    const nodes = [makeNode("RandomNormal", [], ["r"], { shape: [1] }), makeNode("Add", ["x", "r"], ["y"])];
    const result = await simplify().apply(graphOf(nodes, {}), testContext(onnx));
    expect(operators(result.nodes)).toBe("Add 1, RandomNormal 1");
  });

  test("so are those of functions and bodies", async () => {
    const draw = makeNode("RandomNormalLike", ["a"], ["b"]);
    const noise: FunctionDef = {
      name: "Noise",
      domain: "own",
      overload: "",
      inputs: ["a"],
      outputs: ["b"],
      attributes: [],
      defaults: {},
      nodes: [draw],
      opsets: { "": 21 },
      declared: new Map(),
    };
    const body: Subgraph = {
      name: "body",
      nodes: [makeNode("RandomNormalLike", ["w"], ["r"]), makeNode("Identity", ["go"], ["on"])],
      weights: new Map(),
      sparse: new Map(),
      inputs: [
        { name: "i", type: { kind: "tensor", dtype: "int64", shape: [] } },
        { name: "go", type: { kind: "tensor", dtype: "bool", shape: [] } },
      ],
      outputs: [
        { name: "on", type: { kind: "tensor", dtype: "bool", shape: [] } },
        { name: "r", type: { kind: "tensor", dtype: "float32", shape: [6] } },
      ],
      declared: new Map(),
    };
    const nodes = [
      makeNode("own:Noise", ["w"], ["p"]),
      makeNode("own:Noise", ["w"], ["q"]),
      makeNode("Loop", ["times", ""], ["loop"], { body: { type: "graph", value: body } }),
      makeNode("Sub", ["p", "q"], ["d"]),
      makeNode("Sum", ["x", "d", "loop"], ["y"]),
    ];
    const weights = { w: normal([6]), times: int64([1], []) };
    const graph = graphOf(nodes, weights, ["batch", 4, 6, 6], { opsets: { "": 21, own: 1 }, functions: [noise] });
    const result = await simplify().apply(graph, testContext(onnx));
    expect(operators(result.nodes)).toBe("Loop 1, Noise 2, Sub 1, Sum 1");
  });
});
