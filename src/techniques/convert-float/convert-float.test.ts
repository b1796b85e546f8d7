import { describe, expect, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { float, floats, type Graph, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { float32, int64, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { normal, operators, outputOf, type Skip, sqnr, testContext } from "../testing.ts";
import { convertFloat } from "./index.ts";

const onnx = await runtime({ threads: 1 });

function graphOf(nodes: readonly Node[], weights: Readonly<Record<string, Tensor>>, shape = [2, 40]): Graph {
  return makeGraph({
    nodes,
    weights: new Map(Object.entries(weights)),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
  });
}

const dense = graphOf(
  [makeNode("MatMul", ["x", "w"], ["h"]), makeNode("Relu", ["h"], ["r"]), makeNode("MatMul", ["r", "v"], ["y"])],
  { w: normal([40, 64], 2), v: normal([64, 40], 3) },
);
const feeds = { x: normal([2, 40], 4) };
const typesOf = (graph: Graph): Record<string, string> =>
  Object.fromEntries([...graph.weights].map(([name, { dtype }]) => [name, dtype]));

async function converted(
  graph: Graph,
  options: Parameters<typeof convertFloat>[0] = {},
  bar = 50,
  data?: Dataset,
): Promise<{ graph: Graph; skips: Skip[] }> {
  const skips: Skip[] = [];
  const context = { ...testContext(onnx, skips), ...(data && { data }) };
  const result = await convertFloat(options).apply(graph, context);
  expect(sqnr(await outputOf(onnx, graph, feeds), await outputOf(onnx, result, feeds))).toBeGreaterThan(bar);
  return { graph: result, skips };
}

/** One sample, x as given. */
const dataOf = (x: Tensor): Dataset => ({
  name: "one sample",
  splits: ["all"],
  size: () => 2,
  async *batches() {
    yield { inputs: { x }, size: 2 };
  },
});

describe("to float16", () => {
  test.each([
    [12000, { value: float32([1], [12000]) }],
    [1e6, { value_float: float(1e6) }],
    [1e6, { value_floats: floats([1e6]) }],
  ])("a Constant of %d is no mask where it divides", async (size, attributes) => {
    const nodes = [
      makeNode("Mul", ["x", "s"], ["h"]),
      makeNode("Constant", [], ["c"], attributes),
      makeNode("Div", ["h", "c"], ["y"]),
    ];
    const { skips } = await converted(graphOf(nodes, { s: float32([1], [8]) }));
    const reason = expect.stringContaining(`'c' reaches ${size.toPrecision(4)}`);
    expect(skips).toEqual([{ node: "Div_y", reason }]);
  });

  test("a Constant that is read in float32 stays exact", async () => {
    const nodes = [
      makeNode("Relu", ["x"], ["h"]),
      makeNode("Constant", [], ["c"], { value: float32([1], [1e-12]) }),
      makeNode("Add", ["h", "c"], ["p"]),
      makeNode("Add", ["p", "c"], ["y"]),
    ];
    const { graph } = await converted(graphOf(nodes, {}), { exclude: ["Add_p"] });
    expect(typesOf(graph)).toEqual({ c: "float32", c_float16: "float16" });
  });

  test("masks are cut only where float16 ends", async () => {
    const nodes = [makeNode("Add", ["x", "p"], ["h"]), makeNode("Add", ["h", "q"], ["y"])];
    const { graph } = await converted(graphOf(nodes, { p: float32([1], [12000]), q: float32([1], [-1e9]) }), {}, -1);
    expect([...graph.weights.values()].map((t) => toFloat32(t)[0])).toEqual([12000, -10000]);
  });

  test("computes in it, with casts only at the border", async () => {
    const { graph } = await converted(dense);
    expect(operators(graph.nodes)).toBe("Cast 2, MatMul 2, Relu 1");
    expect(typesOf(graph)).toEqual({ w: "float16", v: "float16" });
    expect([graph.inputs, graph.outputs]).toEqual([dense.inputs, dense.outputs]);
  });

  test("the border may take it too", async () => {
    const { graph } = await { graph: await convertFloat({ io: "convert" }).apply(dense, testContext(onnx)) };
    expect(operators(graph.nodes)).toBe("MatMul 2, Relu 1");
    const types = [...graph.inputs, ...graph.outputs].map(({ type }) => type?.kind === "tensor" && type.dtype);
    expect(types).toEqual(["float16", "float16"]);
  });

  test("blocked and excluded nodes stay, each value cast once", async () => {
    const nodes = [
      makeNode("MatMul", ["x", "w"], ["h"]),
      makeNode("ReduceMean", ["h", "axes"], ["m"], { keepdims: 1 }),
      makeNode("ReduceMax", ["h", "axes"], ["n"], { keepdims: 1 }),
      makeNode("Sub", ["h", "m"], ["c"]),
      makeNode("Sub", ["c", "n"], ["d"]),
      makeNode("Neg", ["h"], ["e"]),
      makeNode("Add", ["d", "e"], ["y"]),
    ];
    const graph = graphOf(nodes, { w: normal([40, 8], 2), axes: int64([1]) });
    const { graph: half, skips } = await converted(graph, { exclude: ["Neg_e"] });
    expect(skips).toEqual([
      { node: "ReduceMean_m", reason: "'ReduceMean' is blocked: it loses too much in float16" },
      { node: "Neg_e", reason: "excluded" },
    ]);
    // x down, y up, h up once for both, m and e down
    expect(operators(half.nodes)).toContain("Cast 5");
    const free = await converted(graph, { block: [] });
    expect(operators(free.graph.nodes)).toContain("Cast 2");
  });

  test("a weight read in both types is stored in both", async () => {
    const nodes = [makeNode("Add", ["x", "w"], ["a"]), makeNode("Mul", ["a", "w"], ["y"])];
    const { graph } = await converted(graphOf(nodes, { w: normal([40], 2) }), { exclude: ["Mul"] });
    expect(typesOf(graph)).toEqual({ w: "float32", w_float16: "float16" });
  });

  test("types named by attributes and constants follow", async () => {
    const nodes = [
      makeNode("Shape", ["x"], ["s"]),
      makeNode("ConstantOfShape", ["s"], ["z"]),
      makeNode("Constant", [], ["k"], { value: normal([40], 5) }),
      makeNode("Cast", ["s"], ["f"], { to: 1 }),
      makeNode("ReduceMax", ["f"], ["g"], { keepdims: 0 }),
      makeNode("Add", ["x", "z"], ["a"]),
      makeNode("Mul", ["a", "k"], ["b"]),
      makeNode("Div", ["b", "g"], ["y"]),
    ];
    const { graph } = await converted(graphOf(nodes, {}));
    const casts = graph.nodes.filter(({ op }) => op === "Cast");
    expect(casts.map(({ attributes }) => attributes.to?.type === "int" && attributes.to.value)).toEqual([10, 10, 1]);
  });

  test("control flow keeps its border, its bodies are converted", async () => {
    const body = (name: string, op: string): Graph =>
      makeGraph({
        name,
        nodes: [makeNode("MatMul", ["x", `w_${name}`], [`h_${name}`]), makeNode(op, [`h_${name}`], [name])],
        weights: new Map([[`w_${name}`, normal([40, 8], 6)]]),
        inputs: [],
        outputs: [{ name, type: { kind: "tensor", dtype: "float32" } }],
      });
    const node: Node = {
      ...makeNode("If", ["c"], ["z"]),
      attributes: {
        then_branch: { type: "graph", value: body("t", "Relu") },
        else_branch: { type: "graph", value: body("e", "Tanh") },
      },
    };
    const nodes = [
      makeNode("ReduceMax", ["x"], ["m"], { keepdims: 0 }),
      makeNode("Greater", ["m", "k"], ["c"]),
      node,
      makeNode("Mul", ["z", "k"], ["y"]),
    ];
    const { graph, skips } = await converted(graphOf(nodes, { k: float32([], [0.01]) }));
    expect(skips).toEqual([{ node: "If_z", reason: "control flow keeps the types at its border" }]);
    const inner = graph.nodes.find(({ op }) => op === "If")!.attributes.then_branch!;
    expect(inner.type === "graph" && inner.value.weights.get("w_t")?.dtype).toBe("float16");
  });
});

describe("ranges", () => {
  const scaled = (factor: number): Tensor => {
    const w = normal([40, 64], 2);
    return float32(
      w.shape,
      toFloat32(w).map((v) => v * factor),
    );
  };

  test("nodes with weights out of range stay", async () => {
    const graph = graphOf([...dense.nodes], { w: scaled(1e6), v: normal([64, 40], 3) });
    const { skips, graph: half } = await converted(graph, {}, 50, dataOf(float32([2, 40], new Float32Array(80))));
    expect(skips).toHaveLength(1);
    expect(skips[0]!.reason).toMatch(/^its weight 'w' reaches .*, more than 10000$/);
    expect(typesOf(half)).toEqual({ w: "float32", v: "float16" });
  });

  test("masks are cut to the range, and small weights raised", async () => {
    const mask = float32(
      [40],
      Float32Array.from({ length: 40 }, (_, i) => (i % 2 ? -3e38 : 1e-12)),
    );
    const nodes = [makeNode("Add", ["x", "mask"], ["a"]), makeNode("Softmax", ["a"], ["y"])];
    const { graph } = await converted(graphOf(nodes, { mask }));
    const [small, large] = toFloat32(graph.weights.get("mask")!);
    expect(large).toBe(-10000);
    expect(small).toBeCloseTo(1e-7, 7);
    expect(small).toBeGreaterThan(0);
  });

  test("nodes whose activations leave the range stay", async () => {
    const nodes = [
      makeNode("Mul", ["x", "big"], ["h"]),
      makeNode("Div", ["h", "big"], ["d"]),
      makeNode("MatMul", ["d", "w"], ["y"]),
    ];
    const graph = graphOf(nodes, { big: float32([], [9000]), w: normal([40, 8], 2) });
    const large = float32([2, 40], new Float32Array(80).fill(50));
    const { skips, graph: half } = await converted(graph, {}, 50, dataOf(large));
    expect(skips.map(({ node }) => node)).toEqual(["Mul_h", "Div_d"]);
    expect(skips[0]!.reason).toBe("'h' reaches 4.500e+5, near float16's limit");
    expect(half.weights.get("w")!.dtype).toBe("float16");
  });

  test("weights that are not numbers are named", async () => {
    const graph = graphOf([...dense.nodes], { w: scaled(Number.NaN), v: normal([64, 40], 3) });
    const skips: Skip[] = [];
    await convertFloat().apply(graph, testContext(onnx, skips));
    expect(skips[0]).toEqual({ node: "MatMul_h", reason: "its weight 'w' holds values that are not numbers" });
  });
});

describe("storage", () => {
  for (const to of ["float16", "bfloat16"] as const) {
    test(`${to} weights behind a cast`, async () => {
      const { graph } = await converted(dense, { to, storage: true }, to === "float16" ? 60 : 40);
      expect(operators(graph.nodes)).toBe("Cast 2, MatMul 2, Relu 1");
      expect(typesOf(graph)).toEqual({ [`w_${to}`]: to, [`v_${to}`]: to });
    });
  }

  test("bfloat16 falls back to it where the runtime has no kernels", async () => {
    expect(typesOf((await converted(dense, { to: "bfloat16" }, 40)).graph)).toEqual({
      w_bfloat16: "bfloat16",
      v_bfloat16: "bfloat16",
    });
  });

  test("weights beyond the range stay", async () => {
    const large = float32([40, 64], new Float32Array(2560).fill(1e5));
    const { graph, skips } = await converted(graphOf([...dense.nodes], { w: large, v: normal([64, 40], 3) }), {
      storage: true,
    });
    expect(skips).toEqual([{ node: "MatMul_h", reason: "its weight 'w' reaches 100000, beyond float16" }]);
    expect(graph.weights.get("w")).toBe(large);
  });
});

test("there and back again", async () => {
  const { graph: half } = await converted(dense);
  const back = await convertFloat({ to: "float32" }).apply(half, testContext(onnx));
  expect(typesOf(back)).toEqual({ w: "float32", v: "float32" });
  expect(await outputOf(onnx, back, feeds)).toHaveLength(80);
  expect(sqnr(await outputOf(onnx, dense, feeds), await outputOf(onnx, back, feeds))).toBeGreaterThan(50);
});

test("an operator set too old is named", async () => {
  const old = { ...dense, opsets: { "": 12 } };
  await expect(convertFloat({ to: "bfloat16" }).apply(old, testContext(onnx))).rejects.toThrow(
    "bfloat16 needs ONNX operator set 13, the model uses 12",
  );
});
