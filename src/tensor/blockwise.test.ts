import { describe, expect, it } from "vitest";
import { random } from "../random.ts";
import { blockFitter } from "./block-fit.ts";
import { type BlockMethod, levelsOf, middleOf, type Width } from "./block-grid.ts";
import { blockCodes, dequantizeBlocks, largestMagnitude } from "./blockwise.ts";
import { type CodeRun, codePlanes, planeTable, promoted, putCodes } from "./code-planes.ts";
import { floatToHalf, halfToFloat } from "./half.ts";
import { float32, lazyTensor, tensor } from "./tensor.ts";

const widths = [8, 4, 3, 2, "ternary", "binary"] as const;
const methods = ["rtn", "search", "hqq"] as const;

function numbers(count: number, seed = 1, mean = 0): Float32Array {
  const source = random(seed);
  return Float32Array.from({ length: count }, () => mean + source.normal());
}

function fitted(
  x: Float32Array,
  width: Width,
  symmetric: boolean,
  method: BlockMethod,
  m?: Float32Array,
): Float64Array {
  const fitter = blockFitter({ width, symmetric, method }, x.length, m);
  expect(fitter.run(x, 0, x.length, 0)).toBe(true);
  return Float64Array.from(fitter.codes, (code) => fitter.scale() * (code - fitter.zero()));
}

function loss(x: Float32Array, y: Float64Array, p = 2, m?: Float32Array): number {
  return x.reduce((sum, v, i) => sum + (m?.[i] ?? 1) * Math.abs(v - y[i]!) ** p, 0);
}

describe("fitting a block", () => {
  it("puts the extremes on the outermost codes when rounding to nearest", () => {
    const x = Float32Array.of(-3, 1, 0.2, 6, -0.4);
    const asymmetric = blockFitter({ width: 4, symmetric: false, method: "rtn" }, 5);
    asymmetric.run(x, 0, 5, 0);
    expect([asymmetric.scale(), asymmetric.zero(), ...asymmetric.codes]).toEqual([Math.fround(0.6), 5, 0, 7, 5, 15, 4]);
    const symmetric = blockFitter({ width: 4, symmetric: true, method: "rtn" }, 5);
    symmetric.run(x, 0, 5, 0);
    expect([symmetric.scale(), symmetric.zero(), ...symmetric.codes]).toEqual([-0.75, 8, 12, 7, 8, 0, 9]);
  });

  it("takes the mean magnitude for ternary and binary", () => {
    const x = Float32Array.of(-2, 1, 0.4, 3, -0.6);
    expect([...fitted(x, "binary", true, "search")]).toEqual(
      Array.from(x, (v) => (Math.sign(v) * Math.fround(2.8)) / 2),
    );
    expect([...fitted(x, "ternary", true, "rtn")]).toEqual([-1, 1, 0, 1, 0].map((q) => q * Math.fround(1.4)));
  });

  for (const width of [8, 4, 3, 2, "ternary"] as const) {
    for (const symmetric of [true, false]) {
      it(`searches better steps than rounding to nearest: ${width}, ${symmetric ? "symmetric" : "asymmetric"}`, () => {
        const sums = { rtn: 0, search: 0, rtnNorm: 0, hqqNorm: 0 };
        for (let seed = 1; seed < 40; seed++) {
          const x = numbers(32, seed, symmetric ? 0 : 0.5);
          const rtn = fitted(x, width, symmetric, "rtn");
          sums.rtn += loss(x, rtn);
          sums.search += loss(x, fitted(x, width, symmetric, "search"));
          sums.rtnNorm += loss(x, rtn, 0.7);
          sums.hqqNorm += loss(x, fitted(x, width, symmetric, "hqq"), 0.7);
        }
        expect(sums.search).toBeLessThan(sums.rtn * 0.97);
        expect(sums.hqqNorm).toBeLessThan(sums.rtnNorm);
      });
    }
  }

  it("balances the errors of neighbours", () => {
    const sum = (x: Float32Array, y: Float64Array): number => Math.abs(x.reduce((s, v, i) => s + v - y[i]!, 0));
    let [nearest, balanced] = [0, 0];
    for (let seed = 1; seed < 40; seed++) {
      const x = numbers(32, seed);
      nearest += sum(x, fitted(x, 4, false, "rtn"));
      balanced += sum(x, fitted(x, 4, false, "search"));
    }
    expect(balanced).toBeLessThan(nearest / 2);
  });

  it("comes within 3 % of the best step and zero point there is", () => {
    const codes = 15;
    let [found, best] = [0, 0];
    for (let seed = 1; seed < 6; seed++) {
      const x = numbers(32, seed);
      found += loss(x, fitted(x, 4, false, "search"));
      let least = Number.POSITIVE_INFINITY;
      for (let step = 0.1; step < 0.6; step += 0.0005) {
        for (let zero = 3; zero < 13; zero++) {
          const y = Float64Array.from(
            x,
            (v) => step * (Math.min(codes, Math.max(0, Math.round(v / step) + zero)) - zero),
          );
          least = Math.min(least, loss(x, y));
        }
      }
      best += least;
    }
    expect(found).toBeLessThan(best * 1.03);
  });

  it("spends precision where importance is", () => {
    const m = Float32Array.from({ length: 32 }, (_, i) => (i < 4 ? 100 : 1));
    let [blind, informed] = [0, 0];
    for (let seed = 1; seed < 20; seed++) {
      const x = numbers(32, seed);
      blind += loss(x, fitted(x, 3, false, "search"), 2, m);
      informed += loss(x, fitted(x, 3, false, "search", m), 2, m);
    }
    expect(informed).toBeLessThan(blind / 1.5);
  });

  it("leaves zeros zero and refuses what is not finite", () => {
    for (const width of [8, 4, 3, 2, "ternary"] as const) {
      for (const method of methods) {
        expect([...fitted(new Float32Array(16), width, false, method)]).toEqual(new Array(16).fill(0));
        const fitter = blockFitter({ width, symmetric: false, method }, 3);
        for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
          expect(fitter.run(Float32Array.of(1, bad, 2), 0, 3, 0)).toBe(false);
        }
      }
    }
  });

  it("gives steps that float16 holds when asked to", () => {
    const fitter = blockFitter({ width: 4, symmetric: false, method: "search", halfScales: true }, 32);
    fitter.run(numbers(32), 0, 32, 0);
    const scale = Float32Array.of(fitter.scale());
    expect(halfToFloat(floatToHalf(scale, "float16"), "float16")).toEqual(scale);
  });
});

describe("quantizing a weight", () => {
  const [rows, columns] = [7, 50];
  const weight = numbers(rows * columns);
  const turned = Float32Array.from(weight, (_, i) => weight[(i % rows) * columns + Math.floor(i / rows)]!);

  it("gives the same blocks whichever way the weight lies", () => {
    for (const width of widths) {
      const grid = { width, symmetric: false, method: "search" } as const;
      const view = { outer: rows, length: columns, inner: 1, block: 16 };
      const across = { outer: 1, length: columns, inner: rows, block: 16 };
      const a = dequantizeBlocks(view, blockCodes(float32([rows, columns], weight), view, grid, "w"));
      const b = dequantizeBlocks(across, blockCodes(float32([columns, rows], turned), across, grid, "w"));
      expect(b).toEqual(Float32Array.from(b, (_, i) => a[(i % rows) * columns + Math.floor(i / rows)]!));
    }
  });

  it("reads large weights in parts, and 16-bit floats", () => {
    const [outer, length] = [5000, 1000];
    let most = 0;
    const large = lazyTensor("float16", [outer, length], (_, bytes) => {
      most = Math.max(most, bytes);
      return new Uint8Array(floatToHalf(new Float32Array(bytes / 2).fill(0.5), "float16").buffer);
    });
    const view = { outer, length, inner: 1, block: 1000 };
    const { scales, codes } = blockCodes(large, view, { width: 2, symmetric: true, method: "rtn" }, "w");
    expect([scales.length, scales[4999], codes[4_999_999]]).toEqual([outer, -0.25, 0]);
    expect(most).toBeLessThanOrEqual(4 << 20);
    expect(largestMagnitude(tensor("float32", [3], Float32Array.of(1, -4, 2)))).toBe(4);
  });

  it("names the weight that can't be quantized", () => {
    const view = { outer: 1, length: 2, inner: 1, block: 2 };
    const bad = float32([2], [1, Number.NaN]);
    expect(() => blockCodes(bad, view, { width: 4, symmetric: true, method: "rtn" }, "weight 'w'")).toThrow(
      "weight 'w': holds NaN",
    );
    expect(() => blockCodes(float32([3], [1, 2, 3]), view, { width: 4, symmetric: true, method: "rtn" }, "w")).toThrow(
      "can't view [3] as [1, 2, 1]",
    );
  });
});

describe("packing codes", () => {
  const runOf = (codes: Uint8Array): CodeRun => ({ codes, pitch: codes.length, count: codes.length, blocks: 1 });

  it("packs blocks that lie apart like one after another", () => {
    const source = random(6);
    for (const [pitch, count, start, next] of [
      [12, 8, 4, 16],
      [8, 8, 0, 8],
      [8, 6, 4, 12],
      [12, 12, 3, 13],
    ] as const) {
      const codes = Uint8Array.from({ length: 10 * pitch }, () => source.int(16));
      const [together, apart] = [codePlanes(4, 200)[0]!, codePlanes(4, 200)[0]!];
      putCodes(together, { codes, pitch, count, blocks: 10 }, start, next, 1);
      for (let k = 0; k < 10; k++) {
        putCodes(apart, runOf(codes.slice(k * pitch, k * pitch + count)), start + k * next, 0, 1);
      }
      expect(together.bytes).toEqual(apart.bytes);
    }
  });

  for (const width of widths) {
    it(`unpacks ${width} by its tables`, () => {
      const count = 103;
      const source = random(5);
      const codes = Uint8Array.from({ length: count }, () => source.int(levelsOf(width)));
      const planes = codePlanes(width, count);
      for (const plane of planes) {
        // in runs of odd and even length, and with strides
        putCodes(plane, runOf(codes.subarray(0, 40)), 0, 0, 1);
        putCodes(plane, runOf(codes.subarray(40, 61)), 40, 0, 1);
        for (let k = 0; k < 3; k++) {
          const every = codes.subarray(61).filter((_, i) => i % 3 === k);
          putCodes(plane, runOf(every), 61 + k, 0, 3);
        }
      }
      if (width === 8) return expect(planes[0]!.bytes).toEqual(codes);
      const unit = width === "binary" ? 2 : 1;
      for (const centred of [false, true]) {
        const sum = new Float64Array(count);
        for (const plane of planes) {
          const table = planeTable(plane, width, centred);
          for (let i = 0; i < count; i++) {
            sum[i]! += table[plane.bytes[Math.floor(i / plane.perByte)]! * plane.perByte + (i % plane.perByte)]!;
          }
        }
        expect([...sum]).toEqual(Array.from(codes, (code) => unit * (code - (centred ? middleOf(width) : 0))));
      }
      const { bits, factor, offset } = promoted(width);
      expect(factor * middleOf(width) + offset).toBe(2 ** (bits - 1));
    });
  }
});
