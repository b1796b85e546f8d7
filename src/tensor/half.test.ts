import { describe, expect, test } from "vitest";
import { encodeOnnx } from "../formats/onnx/index.ts";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { type DType, dtypes, packedBytes } from "./dtype.ts";
import { floatToHalf, fromHalfBits, halfToFloat, toBfloatBits, toHalfBits } from "./half.ts";
import { float32, type Tensor, tensor, toFloat32, typed } from "./tensor.ts";

/** What ONNX Runtime makes of some data: cast to a type, if any, and from there to float32. */
async function castByRuntime(data: Tensor, through?: DType): Promise<Float32Array> {
  const to = (dtype: DType) => ({ to: dtypes[dtype].code });
  const nodes = [
    ...(through ? [makeNode("Cast", ["w"], ["h"], to(through))] : []),
    makeNode("Cast", [through ? "h" : "w"], ["y"], to("float32")),
  ];
  const graph = makeGraph({
    inputs: [],
    outputs: [{ name: "y" }],
    nodes,
    weights: new Map([["w", data]]),
    irVersion: 11,
    opsets: { "": 23 },
  });
  const session = await (await runtime({ threads: 1 })).open(encodeOnnx(graph), { optimize: "disabled" });
  try {
    return typed((await session.run({})).y!) as Float32Array;
  } finally {
    await session.release();
  }
}

/** The bits, but with one pattern for all that is not a number. */
const bits = (values: Float32Array): number[] =>
  Array.from(new Uint32Array(values.slice().buffer), (word, i) => (Number.isNaN(values[i]!) ? 0x7fc00000 : word));

describe("16-bit floats", () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);

  test.each(["float16", "bfloat16"] as const)("every %s reads as ONNX Runtime reads it", async (dtype) => {
    const expected = await castByRuntime(tensor(dtype, [65536], all));
    expect(
      Buffer.compare(
        Buffer.from(Uint32Array.from(bits(halfToFloat(all, dtype))).buffer),
        Buffer.from(Uint32Array.from(bits(expected)).buffer),
      ),
    ).toBe(0);
  });

  test.each(["float16", "bfloat16"] as const)(
    "float32 rounds to %s as in ONNX Runtime: ties, subnormals, overflow",
    async (dtype) => {
      // around every 16-bit value: itself, the midpoint to the next, and one float32 step to either side of it
      const words: number[] = [];
      const exact = new Uint32Array(halfToFloat(all, dtype).buffer);
      for (let i = 0; i < 65536; i += 7) {
        const half = dtype === "float16" ? 0x1000 : 0x8000;
        for (const step of [0, half - 1, half, half + 1]) words.push((exact[i]! + step) >>> 0);
      }
      const values = new Float32Array(Uint32Array.from(words).buffer);
      const expected = await castByRuntime(float32([values.length], values), dtype);
      const got = halfToFloat(floatToHalf(values, dtype), dtype);
      expect(
        Buffer.compare(
          Buffer.from(Uint32Array.from(bits(got)).buffer),
          Buffer.from(Uint32Array.from(bits(expected)).buffer),
        ),
      ).toBe(0);
    },
  );

  test("known values of IEEE 754 and of bfloat16", () => {
    const pairs: [number, number, number][] = [
      [1, 0x3c00, 0x3f80],
      [-2, 0xc000, 0xc000],
      [65504, 0x7bff, 0x4780],
      [65520, 0x7c00, 0x4780],
      [2 ** -24, 0x0001, 0x3380],
      [2 ** -25, 0x0000, 0x3300],
      [-0, 0x8000, 0x8000],
      [Number.POSITIVE_INFINITY, 0x7c00, 0x7f80],
    ];
    for (const [value, half, bfloat] of pairs) expect([toHalfBits(value), toBfloatBits(value)]).toEqual([half, bfloat]);
    expect(fromHalfBits(toHalfBits(Number.NaN))).toBeNaN();
  });
});

describe("8-bit and 4-bit types", () => {
  test.each(["float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"] as const)(
    "every %s reads as ONNX Runtime reads it",
    async (dtype) => {
      const codes = tensor(
        dtype,
        [256],
        Uint8Array.from({ length: 256 }, (_, i) => i),
      );
      expect(bits(toFloat32(codes))).toEqual(bits(await castByRuntime(codes)));
    },
  );

  test.each(["int4", "uint4"] as const)("every %s reads as ONNX Runtime reads it", async (dtype) => {
    const packed = tensor(
      dtype,
      [17],
      Uint8Array.from({ length: packedBytes(dtype, 17) }, (_, i) => (i * 2 + 1) * 16 + i * 2),
    );
    expect([...toFloat32(packed)]).toEqual([...(await castByRuntime(packed))]);
  });

  test("float4e2m1 holds the values of the MX specification", () => {
    const codes = tensor(
      "float4e2m1",
      [16],
      Uint8Array.from({ length: 8 }, (_, i) => (i * 2 + 1) * 16 + i * 2),
    );
    const positive = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
    expect([...toFloat32(codes)]).toEqual([...positive, ...positive.map((v) => -v)]);
  });

  test("float8e8m0 holds powers of two", () => {
    const values = toFloat32(tensor("float8e8m0", [4], Uint8Array.of(0, 127, 128, 255)));
    expect([...values]).toEqual([2 ** -127, 1, 2, Number.NaN]);
  });
});
