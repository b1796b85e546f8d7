import { describe, expect, test } from "vitest";
import { type Graph, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { channelBlock } from "../../platform/channel-block.ts";
import { runtime } from "../../platform/node.ts";
import { observeTypes } from "../../platform/observe.ts";
import { random } from "../../random.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { fakeQuantizeNode } from "../fake-quantize.ts";
import { differentiate } from "../gradient.ts";
import { inBlocks } from "./blocked.ts";
import { lowered } from "./plain.ts";

const onnx = await runtime({ threads: 1 });
const block = await channelBlock(onnx);
const r = random(7);
const draw = (...shape: number[]): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.normal() / 4),
  );

/** Gradients of Σ y q with respect to weights, in plain layout and in blocks of so many channels. */
async function bothLayouts(nodes: readonly Node[], weights: Readonly<Record<string, Tensor>>, x: Tensor) {
  const inputs = [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: x.shape } as const }];
  const opsets = { "": 21, "com.microsoft": 1 };
  const base = makeGraph({
    nodes,
    inputs,
    outputs: [{ name: "y" }],
    weights: new Map(Object.entries(weights)),
    opsets,
  });
  const shape = (await observeTypes(lowered(base), onnx, { x })).get("y")!.shape;
  const scored = makeGraph({
    ...base,
    nodes: [...nodes, makeNode("Mul", ["y", "q"], ["yq"]), makeNode("ReduceSum", ["yq"], ["loss"], { keepdims: 0 })],
    weights: new Map([...base.weights, ["q", draw(...shape)]]),
    outputs: [{ name: "loss" }],
  });
  const wrt = ["x", ...Object.keys(weights)];
  const { graph, gradients, types } = differentiate(
    scored,
    "loss",
    wrt,
    await observeTypes(lowered(scored), onnx, { x }),
  );
  const outputs = [...scored.outputs, ...[...gradients.values()].flatMap((name) => (name ? [{ name }] : []))];
  const run = async (made: Graph): Promise<Readonly<Record<string, Tensor>>> => {
    const session = await onnx.open(made);
    const results = await session.run({ x });
    await session.release();
    return results;
  };
  const laidOut = inBlocks({ ...graph, outputs }, types, block!);
  return { plain: await run(lowered({ ...graph, outputs })), blocked: await run(lowered(laidOut)), laidOut };
}

function expectAlike(plain: Readonly<Record<string, Tensor>>, blocked: Readonly<Record<string, Tensor>>): void {
  for (const [name, t] of Object.entries(plain)) {
    const [expected, found] = [toFloat32(t), toFloat32(blocked[name]!)];
    expect(blocked[name]!.shape, name).toEqual(t.shape);
    const scale = Math.max(...expected.map(Math.abs), 1e-3);
    const worst = Math.max(...expected.map((value, i) => Math.abs(value - found[i]!)));
    expect(worst / scale, name).toBeLessThan(2e-5);
  }
}

const isBlocked = (graph: Graph): number => graph.nodes.filter(({ domain }) => domain.endsWith("nchwc")).length;

interface ConvCase {
  readonly name: string;
  readonly input?: readonly number[];
  readonly out?: number;
  readonly kernel?: readonly number[];
  readonly attributes?: Readonly<Record<string, number | readonly number[] | string>>;
}

const cases: readonly ConvCase[] = [
  { name: "3x3", attributes: { pads: [1, 1, 1, 1] } },
  { name: "without padding" },
  { name: "uneven padding", attributes: { pads: [0, 2, 1, 0] } },
  { name: "more padding than kernel", attributes: { pads: [3, 3, 3, 3] } },
  { name: "stride 2, even size", attributes: { pads: [1, 1, 1, 1], strides: [2, 2] } },
  { name: "stride 2, odd size", input: [2, 16, 7, 9], attributes: { pads: [1, 1, 1, 1], strides: [2, 2] } },
  { name: "strides that stop short", input: [2, 16, 9, 8], attributes: { strides: [3, 2] } },
  { name: "uneven strides", attributes: { pads: [1, 1, 1, 1], strides: [2, 1] } },
  { name: "dilation", input: [2, 16, 9, 9], attributes: { pads: [2, 2, 2, 2], dilations: [2, 2] } },
  { name: "images that fill no block", input: [18, 16, 5, 6], attributes: { pads: [1, 1, 1, 1] } },
  {
    name: "images that fill no block, padded",
    input: [21, 24, 4, 5],
    attributes: { pads: [1, 1, 1, 1], strides: [2, 1] },
  },
  {
    name: "images that fill no block, many places",
    input: [18, 16, 17, 17],
    out: 16,
    attributes: { pads: [1, 1, 1, 1] },
  },
  { name: "images that fill no block, depthwise", input: [18, 16, 5, 6], out: 16, attributes: { group: 16 } },
  { name: "images that fill no block, 1x1", kernel: [1, 1], input: [18, 32, 4, 4], out: 32 },
  { name: "1x1", kernel: [1, 1] },
  { name: "1x1 stride 2", kernel: [1, 1], attributes: { strides: [2, 2] } },
  { name: "1x1, wide", kernel: [1, 1], input: [2, 64, 3, 3], out: 96 },
  { name: "1x1 with padding", kernel: [1, 1], attributes: { pads: [1, 1, 1, 1] } },
  { name: "5x3", kernel: [5, 3], attributes: { pads: [2, 1, 2, 1] } },
  { name: "1x5", kernel: [1, 5], attributes: { pads: [0, 2, 0, 2] } },
  { name: "same upper", input: [2, 16, 7, 8], attributes: { auto_pad: "SAME_UPPER", strides: [2, 2] } },
  { name: "three channels in", input: [2, 3, 8, 8], attributes: { pads: [1, 1, 1, 1] } },
  { name: "channels that need filling", input: [2, 24, 6, 6], out: 44, attributes: { pads: [1, 1, 1, 1] } },
  { name: "channels that are no multiple of four", input: [2, 22, 6, 6], out: 50, kernel: [5, 5] },
  { name: "wide, few places", input: [3, 64, 4, 4], out: 64, attributes: { pads: [1, 1, 1, 1] } },
  { name: "depthwise", input: [2, 32, 7, 7], out: 32, attributes: { group: 32, pads: [1, 1, 1, 1] } },
  { name: "depthwise, filled", input: [2, 24, 7, 7], out: 24, attributes: { group: 24, pads: [1, 1, 1, 1] } },
  {
    name: "depthwise stride 2",
    input: [2, 32, 8, 8],
    out: 32,
    attributes: { group: 32, pads: [1, 1, 1, 1], strides: [2, 2] },
  },
  { name: "depthwise short stride", input: [2, 32, 8, 9], out: 32, attributes: { group: 32, strides: [2, 2] } },
  {
    name: "depthwise dilated",
    input: [2, 32, 9, 9],
    out: 32,
    attributes: { group: 32, pads: [2, 2, 2, 2], dilations: [2, 2] },
  },
  { name: "groups of whole blocks", input: [2, 32, 6, 6], out: 64, attributes: { group: 2, pads: [1, 1, 1, 1] } },
  { name: "one image", input: [1, 16, 6, 6], attributes: { pads: [1, 1, 1, 1] } },
];

describe.skipIf(block === undefined)("the blocked layout gives the plain layout's gradients", () => {
  test.each(cases)("$name", async ({ input = [2, 16, 8, 8], out = 32, kernel = [3, 3], attributes = {} }) => {
    const group = typeof attributes.group === "number" ? attributes.group : 1;
    const weights = { w: draw(out, input[1]! / group, ...kernel), b: draw(out) };
    const nodes = [
      makeNode("Relu", ["x"], ["a"]),
      makeNode("Conv", ["a", "w", "b"], ["c"], attributes),
      makeNode("Relu", ["c"], ["y"]),
    ];
    const { plain, blocked, laidOut } = await bothLayouts(nodes, weights, draw(...input));
    expect(isBlocked(laidOut)).toBeGreaterThan(1);
    expectAlike(plain, blocked);
  });

  test.each<{ readonly name: string; readonly op: string; readonly attributes: Record<string, readonly number[]> }>([
    { name: "largest of windows that tile", op: "MaxPool", attributes: { kernel_shape: [2, 3], strides: [2, 3] } },
    { name: "largest of windows with a rest", op: "MaxPool", attributes: { kernel_shape: [4, 4], strides: [4, 4] } },
    { name: "largest of overlapping windows", op: "MaxPool", attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] } },
    { name: "mean of windows", op: "AveragePool", attributes: { kernel_shape: [2, 2], strides: [2, 2] } },
    { name: "mean of padded windows", op: "AveragePool", attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] } },
    { name: "mean of all", op: "GlobalAveragePool", attributes: {} },
  ])("$name", async ({ op, attributes }) => {
    const nodes = [
      makeNode("Conv", ["x", "w", "b"], ["c"], { pads: [1, 1, 1, 1] }),
      makeNode(op, ["c"], ["p"], attributes),
      makeNode("Mul", ["p", "p"], ["y"]),
    ];
    const { plain, blocked, laidOut } = await bothLayouts(
      nodes,
      { w: draw(20, 16, 3, 3), b: draw(20) },
      draw(2, 16, 6, 6),
    );
    expectAlike(plain, blocked);
    expect(laidOut.nodes.some((node) => node.op === op && node.domain.endsWith("nchwc"))).toBe(true);
  });

  test.each([16, 20])("fake quantization of %i channels, with steps and an offset that learn", async (channels) => {
    const nodes = [
      makeNode("Conv", ["x", "w"], ["d"], { pads: [1, 1, 1, 1] }),
      fakeQuantizeNode(["d", "s"], "e", "ec", { low: 0, high: 15, rule: "lsq", gradient: 0.1 }, "first"),
      makeNode("Conv", ["e", "v"], ["f"]),
      fakeQuantizeNode(["f", "s", "z"], "y", "yc", { low: 0, high: 7, rule: "lsq" }, "second"),
    ];
    const weights = { w: draw(channels, 16, 3, 3), v: draw(channels, channels, 1, 1) };
    const grid = { s: float32([], [0.1]), z: float32([], [3]) };
    const { plain, blocked, laidOut } = await bothLayouts(nodes, { ...weights, ...grid }, draw(2, 16, 6, 6));
    expectAlike(plain, blocked);
    // all that is as large as an image is rounded in blocks
    expect(laidOut.nodes.some(({ op }) => op === "FakeQuantize")).toBe(false);
  });

  test("windows that are zero throughout, as after a Relu, share their gradient", async () => {
    const nodes = [
      makeNode("Conv", ["x", "w"], ["c"]),
      makeNode("Relu", ["c"], ["a"]),
      makeNode("MaxPool", ["a"], ["y"], { kernel_shape: [2, 2], strides: [2, 2] }),
    ];
    const { plain, blocked } = await bothLayouts(nodes, { w: draw(16, 16, 1, 1) }, draw(2, 16, 6, 6));
    expectAlike(plain, blocked);
  });

  test.each([6, 24])(
    "a residual block of side %i over batch statistics, its sums inside convolutions",
    async (side) => {
      const channels = 24;
      const weights = {
        w1: draw(channels, channels, 3, 3),
        w2: draw(channels, channels, 1, 1),
        g1: draw(channels),
        b1: draw(channels),
      };
      const shape = [3, channels, side, side];
      const share = makeNode("Constant", [], ["share"], { value_float: { type: "float", value: 1 / (3 * side ** 2) } });
      const nodes = [
        share,
        makeNode("Conv", ["x", "w1"], ["c"], { pads: [1, 1, 1, 1] }),
        makeNode("pare:ChannelSum", ["c"], ["sum"], { shape }),
        makeNode("Mul", ["sum", "share"], ["mean"]),
        makeNode("Neg", ["mean"], ["less"]),
        makeNode("pare:ChannelAffine", ["c", "ones", "less"], ["centred"], { shape }),
        makeNode("pare:ChannelDot", ["centred", "centred"], ["squares"], { shape }),
        makeNode("Mul", ["squares", "share"], ["variance"]),
        makeNode("pare:BatchNormalization", ["c", "g1", "b1", "centred", "variance"], ["n"], { shape }),
        makeNode("Relu", ["n"], ["a"]),
        makeNode("Conv", ["a", "w2"], ["d"]),
        makeNode("Add", ["d", "x"], ["s"]),
        makeNode("Clip", ["s", "low", "high"], ["clipped"]),
        makeNode("HardSwish", ["clipped"], ["y"]),
      ];
      const ones = float32([channels], new Float32Array(channels).fill(1));
      const bounds = { low: float32([], [-0.3]), high: float32([], [0.4]), ones };
      const { plain, blocked, laidOut } = await bothLayouts(nodes, { ...weights, ...bounds }, draw(...shape));
      expectAlike(plain, blocked);
      const sums = laidOut.nodes.filter(({ op, inputs }) => op === "Conv" && inputs[3]);
      expect(sums.length).toBeGreaterThanOrEqual(2);
      expect(laidOut.nodes.some(({ op, attributes }) => op === "Conv" && attributes.activation)).toBe(true);
    },
  );
});
