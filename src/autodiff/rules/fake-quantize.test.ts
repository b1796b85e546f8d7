import { describe, expect, test } from "vitest";
import { makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { observeTypes } from "../../platform/observe.ts";
import { random } from "../../random.ts";
import { roundHalfEven } from "../../tensor/affine.ts";
import { float32, type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";
import { type FakeQuantize, fakeQuantizeNode } from "../fake-quantize.ts";
import { gradient } from "../gradient.ts";
import { lowered } from "../lower/plain.ts";

const onnx = await runtime({ threads: 1 });
const r = random(3);
const normal = (size: number): Float32Array => Float32Array.from({ length: size }, () => r.normal());

interface Case {
  readonly x: Tensor;
  readonly scale: Tensor;
  readonly offset?: Tensor;
  readonly how: FakeQuantize;
}

/** y of Σ y q, and the gradients of x, the scale and the offset. */
async function run({ x, scale, offset, how }: Case, q: Float32Array) {
  const inputs = ["x", "s", ...(offset ? ["z"] : [])];
  const forward = makeGraph({
    nodes: [
      fakeQuantizeNode(inputs, "y", "c", how, "fake"),
      makeNode("Mul", ["y", "q"], ["yq"]),
      makeNode("ReduceSum", ["yq"], ["loss"], { keepdims: 0 }),
    ],
    weights: new Map([["s", scale], ...(offset ? [["z", offset] as const] : []), ["q", float32(x.shape, q)]]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: x.shape } }],
    outputs: [{ name: "loss" }],
    opsets: { "": 21 },
  });
  const types = await observeTypes(lowered(forward), onnx, { x });
  const { graph, gradients } = gradient(forward, "loss", inputs, types);
  const names = [...gradients].flatMap(([, name]) => (name === undefined ? [] : [name]));
  const session = await onnx.open({ ...graph, outputs: ["y", ...names].map((name) => ({ name })) });
  const results = await session.run({ x });
  await session.release();
  const of = (input: string): number[] | undefined => {
    const name = gradients.get(input);
    return name === undefined ? undefined : [...toFloat32(results[name]!)];
  };
  return { y: toFloat32(results.y!), dx: of("x"), ds: of("s"), dz: of("z") };
}

/** What the papers say, element by element. */
function expected({ x, scale, offset, how }: Case, q: Float32Array) {
  const { low, high, rule, gradient: factor = 1 } = how;
  const [outer, length, inner] = how.view ?? [1, x.size, 1];
  const s = toFloat32(scale);
  const z = offset ? roundHalfEven(toFloat32(offset)[0]!) : 0;
  const ds = s.map(() => 0);
  let dz = 0;
  const dx = [...toFloat32(x)].map((value, i) => {
    const at = Math.floor(i / (length! * inner!)) * inner! + (i % inner!);
    const v = value / s[at]!;
    const inside = v > low - z && v < high - z;
    const bound = v >= high - z ? high - z : low - z;
    if (rule === "lsq") ds[at]! += q[i]! * factor * (inside ? roundHalfEven(v) - v : bound);
    if (rule === "pact") ds[at]! += q[i]! * factor * (inside ? 0 : bound);
    if (!inside) dz -= q[i]! * s[at]! * factor;
    return inside ? q[i]! : 0;
  });
  expect(outer! * inner!).toBe(s.length);
  return { dx, ds: [...ds], dz };
}

function alike(found: readonly number[] | undefined, wanted: readonly number[], digits: number): void {
  const size = Math.max(...wanted.map(Math.abs), 1e-3);
  expect(found).toHaveLength(wanted.length);
  for (const [i, value] of wanted.entries()) expect(found![i]! / size).toBeCloseTo(value / size, digits);
}

describe("fake quantization", () => {
  test.each([
    ["uint8", 0.04, 0, 255],
    ["uint8", 0.02, 128, 255],
    ["int8", 0.25, 0, 127],
  ] as const)("gives the numbers of QuantizeLinear, halves included: %s, step %d", async (dtype, step, zero, most) => {
    const least = dtype === "int8" ? -128 : 0;
    const halves = Float32Array.from({ length: 64 }, (_, i) => Math.fround(step) * (i / 2 - 12));
    const values = float32([1064], [...normal(1000), ...halves]);
    const z = tensor(dtype, [], dtype === "int8" ? Int8Array.of(zero) : Uint8Array.of(zero));
    const graph = makeGraph({
      nodes: [
        makeNode("QuantizeLinear", ["x", "s", "z"], ["q"]),
        makeNode("DequantizeLinear", ["q", "s", "z"], ["wanted"]),
        fakeQuantizeNode(["x", "s"], "y", "c", { low: least - zero, high: most - zero }, "fake"),
        fakeQuantizeNode(["x", "s", "o"], "shifted", "d", { low: least, high: most }, "fake2"),
      ],
      weights: new Map([
        ["s", float32([], [step])],
        ["z", z],
        ["o", float32([], [zero + 0.3])],
      ]),
      inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [1064] } }],
      outputs: ["wanted", "y", "shifted"].map((name) => ({ name })),
      opsets: { "": 21 },
    });
    const session = await onnx.open(lowered(graph), { optimize: "disabled" });
    const { wanted, y, shifted } = await session.run({ x: values });
    await session.release();
    const numbers = (t: Tensor | undefined): number[] => [...toFloat32(t!)].map((value) => value + 0); // -0 is 0
    expect(numbers(y)).toEqual(numbers(wanted));
    expect(numbers(shifted)).toEqual(numbers(wanted));
  });

  const scales = (count: number): Float32Array => Float32Array.from({ length: count }, () => 0.1 + 0.2 * r.next());
  const cases: [name: string, Case][] = [
    [
      "LSQ of an image",
      {
        x: float32([2, 3, 4, 4], normal(96)),
        scale: float32([], [0.3]),
        how: { low: -4, high: 3, rule: "lsq", gradient: 0.5 },
      },
    ],
    [
      "LSQ in 8 bits",
      {
        x: float32([4, 8, 16, 16], normal(8192)),
        scale: float32([], [0.02]),
        how: { low: -128, high: 127, rule: "lsq" },
      },
    ],
    [
      "LSQ+ with its offset",
      {
        x: float32([40], normal(40)),
        scale: float32([], [0.3]),
        offset: float32([], [6.4]),
        how: { low: 0, high: 15, rule: "lsq", gradient: 2 },
      },
    ],
    ["PACT", { x: float32([10, 9], normal(90)), scale: float32([], [0.2]), how: { low: 0, high: 3, rule: "pact" } }],
    [
      "a kernel by output channel",
      {
        x: float32([4, 3, 1, 1], normal(12)),
        scale: float32([4, 1, 1], scales(4)),
        how: { low: -3, high: 3, rule: "lsq", view: [4, 3, 1], shape: [4, 3, 1, 1] },
      },
    ],
    [
      "a matrix by column",
      {
        x: float32([6, 5], normal(30)),
        scale: float32([1, 1, 5], scales(5)),
        how: { low: -1, high: 1, rule: "lsq", view: [1, 6, 5], shape: [6, 5] },
      },
    ],
  ];
  test.each(cases)("has the gradients of the papers: %s", async (_, given) => {
    const q = normal(given.x.size);
    const [found, wanted] = [await run(given, q), expected(given, q)];
    alike(found.dx, wanted.dx, 5);
    alike(found.ds, wanted.ds, 3);
    if (given.offset) alike(found.dz, [wanted.dz], 4);
  });

  test("what is clipped has the slope of a difference", async () => {
    const x = float32(
      [50],
      normal(50).map((v) => v + 9 * Math.sign(v)),
    );
    const q = normal(50);
    const at = async (scale: number) =>
      run({ x, scale: float32([], [scale]), how: { low: -4, high: 3, rule: "lsq" } }, q);
    const loss = async (scale: number): Promise<number> =>
      (await at(scale)).y.reduce((sum, y, i) => sum + y * q[i]!, 0);
    const slope = ((await loss(0.51)) - (await loss(0.49))) / 0.02;
    expect((await at(0.5)).ds![0]).toBeCloseTo(slope, 2);
  });

  test("of two levels the sign is left, and the gradient passes in a window", async () => {
    const x = float32([6], [-3.5, -1, -0.25, 0, 0.25, 4]);
    const how: FakeQuantize = { low: -3, high: 3, binary: true };
    const { y, dx, ds } = await run({ x, scale: float32([], [1]), how }, Float32Array.of(1, 1, 1, 1, 1, 1));
    expect([...y]).toEqual([-1, -1, -1, -1, 1, 1]);
    expect(dx).toEqual([0, 1, 1, 1, 1, 0]);
    expect(ds).toBeUndefined();
    const all = await run(
      { x, scale: float32([], [1]), how: { ...how, everywhere: true } },
      new Float32Array(6).fill(1),
    );
    expect(all.dx).toEqual([1, 1, 1, 1, 1, 1]);
  });
});
