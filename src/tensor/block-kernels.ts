import { magic } from "./block-grid.ts";
import {
  type Code,
  constant,
  f32x4PseudoMax,
  f32x4PseudoMin,
  f32x4Sub,
  f64,
  f64x2Abs,
  f64x2Add,
  f64x2Mul,
  f64x2PromoteLow,
  f64x2Splat,
  f64x2Sub,
  i8x16Shuffle,
  i32,
  i32Add,
  i32GreaterSigned,
  i32LessUnsigned,
  i32Mul,
  i32Sub,
  i32x4ShiftLeft,
  repeatWhile,
  type Variable,
  v128,
  v128Load,
  v128Load32Lane,
  v128Load32Zero,
  v128Or,
  v128Store,
  v128Store32Lane,
  type WasmFunction,
  wasmFunction,
  wasmModule,
  zeroVector,
} from "./wasm.ts";

/** Floats that the kernels take at once. */
export const kernelElements = 1 << 18;

/** Blocks that the kernels take at once. */
export const kernelBlocks = 1 << 14;

/**
 * Loops over many blocks at once, four side by side in SIMD lanes, in arrays that they share with the caller. A block's
 * `n` elements lie `step` apart in `x`; block k starts at element from + k * next, and `next` 1 is the fastest.
 */
export interface BlockKernels {
  /** `[kernelElements]`, and as many more that hold nothing: the last lanes may have no block. */
  readonly x: Float32Array;
  /** Of each block: the lowest and highest value (0 included), and bits that are 0 if all are finite. `[kernelBlocks]` */
  readonly low: Float32Array;
  readonly high: Float32Array;
  readonly fault: Int32Array;
  /** Of each block: 1 / (2 step), zero point / 2. `[kernelBlocks]` */
  readonly half: Float64Array;
  readonly zero: Float64Array;
  /** Block k has its codes from k * {@link codePitch} on. */
  readonly codes: Uint8Array;
  /** Finds `low`, `high` and `fault`. */
  extremes(from: number, step: number, next: number, n: number, blocks: number): void;
  /** Codes round(x / step + zero point), ties to even, clamped to 0 ... levels - 1. */
  encode(from: number, step: number, next: number, n: number, blocks: number, levels: number): void;
}

/** Bytes from one block's codes to the next's, for blocks of `n`. */
export function codePitch(n: number): number {
  return (n + 3) & ~3;
}

let kernels: BlockKernels | null | undefined;

/** The kernels, made once; undefined where there is no WebAssembly with SIMD, or a page's policy forbids it. */
export function blockKernels(): BlockKernels | undefined {
  if (kernels === undefined) {
    try {
      kernels = instantiate();
    } catch {
      kernels = null;
    }
  }
  return kernels ?? undefined;
}

interface Exports {
  readonly memory: WebAssembly.Memory;
  readonly extremes: (...numbers: number[]) => void;
  readonly extremesApart: (...numbers: number[]) => void;
  readonly encode: (...numbers: number[]) => void;
  readonly encodeApart: (...numbers: number[]) => void;
}

const codeBytes = kernelElements + 4 * kernelBlocks;
const inputBytes = 8 * kernelElements;
const pageBytes = 1 << 16;

function instantiate(): BlockKernels {
  const at = { x: 0, half: inputBytes, zero: 0, low: 0, high: 0, fault: 0, codes: 0 };
  at.zero = at.half + 8 * kernelBlocks;
  at.low = at.zero + 8 * kernelBlocks;
  at.high = at.low + 4 * kernelBlocks;
  at.fault = at.high + 4 * kernelBlocks;
  at.codes = at.fault + 4 * kernelBlocks;
  const functions = [extremes("extremes", adjacent), extremes("extremesApart", apart)];
  functions.push(encode("encode", adjacent), encode("encodeApart", apart));
  const module = new WebAssembly.Module(wasmModule(functions, Math.ceil((at.codes + codeBytes) / pageBytes)));
  const run = new WebAssembly.Instance(module).exports as unknown as Exports;
  const { buffer } = run.memory;
  return {
    x: new Float32Array(buffer, at.x, kernelElements),
    low: new Float32Array(buffer, at.low, kernelBlocks),
    high: new Float32Array(buffer, at.high, kernelBlocks),
    fault: new Int32Array(buffer, at.fault, kernelBlocks),
    half: new Float64Array(buffer, at.half, kernelBlocks),
    zero: new Float64Array(buffer, at.zero, kernelBlocks),
    codes: new Uint8Array(buffer, at.codes, codeBytes),
    extremes(from, step, next, n, blocks) {
      const find = next === 1 ? run.extremes : run.extremesApart;
      find(at.x + 4 * from, 4 * step, 4 * next, n, blocks, at.low, at.high, at.fault);
    },
    encode(from, step, next, n, blocks, levels) {
      const put = next === 1 ? run.encode : run.encodeApart;
      put(
        ...[at.x + 4 * from, 4 * step, 4 * next, n, blocks],
        at.half,
        at.zero,
        at.codes,
        codePitch(n),
        (levels - 1) / 2,
        magic,
      );
    },
  };
}

/** Loads one element of four blocks: those at `at`, `at + next`, `at + 2 next`, `at + 3 next`. */
type LoadFour = (at: Variable, next: Variable) => Code;

const adjacent: LoadFour = (at) => v128Load(at.get);

const apart: LoadFour = (at, next) => {
  let vector = v128Load32Zero(at.get);
  let address = at.get;
  for (const lane of [1, 2, 3]) {
    address = i32Add(address, next.get);
    vector = v128Load32Lane(lane, address, vector);
  }
  return vector;
};

/** Advances a pointer. */
function advance(pointer: Variable, by: Code): Code {
  return pointer.set(i32Add(pointer.get, by));
}

function extremes(name: string, loadFour: LoadFour): WasmFunction {
  const params = { from: i32, step: i32, next: i32, n: i32, blocks: i32, lows: i32, highs: i32, faults: i32 } as const;
  const locals = { at: i32, end: i32, x: v128, low: v128, high: v128, fault: v128 } as const;
  return wasmFunction(name, params, locals, (v) => {
    return repeatWhile(
      i32GreaterSigned(v.blocks.get, constant(0)),
      v.low.set(zeroVector),
      v.high.set(zeroVector),
      v.fault.set(zeroVector),
      v.at.set(v.from.get),
      v.end.set(i32Add(v.from.get, i32Mul(v.n.get, v.step.get))),
      repeatWhile(
        i32LessUnsigned(v.at.get, v.end.get),
        v.x.set(loadFour(v.at, v.next)),
        v.low.set(f32x4PseudoMin(v.low.get, v.x.get)),
        v.high.set(f32x4PseudoMax(v.high.get, v.x.get)),
        // x - x is +0 unless x is infinite or no number
        v.fault.set(v128Or(v.fault.get, f32x4Sub(v.x.get, v.x.get))),
        advance(v.at, v.step.get),
      ),
      v128Store(v.lows.get, v.low.get),
      v128Store(v.highs.get, v.high.get),
      v128Store(v.faults.get, v.fault.get),
      ...[v.lows, v.highs, v.faults].map((pointer) => advance(pointer, constant(16))),
      advance(v.from, i32Mul(v.next.get, constant(4))),
      v.blocks.set(i32Sub(v.blocks.get, constant(4))),
    );
  });
}

/** Bytes of the two upper floats, moved down. */
const upperFloats = [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15];

/** Bytes of the low words of four doubles. */
const lowWords = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];

function encode(name: string, loadFour: LoadFour): WasmFunction {
  const params = { from: i32, step: i32, next: i32, n: i32, blocks: i32, halves: i32, zeros: i32, codes: i32 } as const;
  const more = { pitch: i32, topValue: f64, magicValue: f64 } as const;
  const pairs = { half0: v128, half1: v128, zero0: v128, zero1: v128, t: v128, top: v128, round: v128 } as const;
  const locals = { at: i32, out: i32, stop: i32, x: v128, quad: v128, ...pairs } as const;
  return wasmFunction(name, { ...params, ...more }, locals, (v) => {
    // two elements: the sum with `magic` holds the code in its low bits, as `encode` of block-fit.ts explains
    const rounded = (x: Code, half: Variable, zero: Variable): Code => [
      ...v.t.set(f64x2Add(f64x2Mul(f64x2PromoteLow(x), half.get), zero.get)),
      ...f64x2Add(
        f64x2Add(f64x2Sub(f64x2Abs(v.t.get), f64x2Abs(f64x2Sub(v.t.get, v.top.get))), v.top.get),
        v.round.get,
      ),
    ];
    const fourCodes = i8x16Shuffle(
      lowWords,
      rounded(v.x.get, v.half0, v.zero0),
      rounded(i8x16Shuffle(upperFloats, v.x.get, v.x.get), v.half1, v.zero1),
    );
    // lane k gathers four codes of block k in its bytes
    const row = (index: number): Code => [
      ...v.x.set(loadFour(v.at, v.next)),
      ...v.quad.set(index === 0 ? fourCodes : v128Or(v.quad.get, i32x4ShiftLeft(fourCodes, constant(8 * index)))),
      ...advance(v.at, v.step.get),
    ];
    const store = (lane: number): Code =>
      v128Store32Lane(lane, i32Add(v.out.get, i32Mul(v.pitch.get, constant(lane))), v.quad.get);
    return [
      ...v.top.set(f64x2Splat(v.topValue.get)),
      ...v.round.set(f64x2Splat(v.magicValue.get)),
      ...repeatWhile(
        i32GreaterSigned(v.blocks.get, constant(0)),
        v.half0.set(v128Load(v.halves.get)),
        v.half1.set(v128Load(i32Add(v.halves.get, constant(16)))),
        v.zero0.set(v128Load(v.zeros.get)),
        v.zero1.set(v128Load(i32Add(v.zeros.get, constant(16)))),
        v.at.set(v.from.get),
        v.out.set(v.codes.get),
        v.stop.set(i32Add(v.codes.get, v.n.get)),
        repeatWhile(
          i32LessUnsigned(v.out.get, v.stop.get),
          ...[0, 1, 2, 3].map(row),
          ...[0, 1, 2, 3].map(store),
          advance(v.out, constant(4)),
        ),
        ...[v.halves, v.zeros].map((pointer) => advance(pointer, constant(32))),
        advance(v.codes, i32Mul(v.pitch.get, constant(4))),
        advance(v.from, i32Mul(v.next.get, constant(4))),
        v.blocks.set(i32Sub(v.blocks.get, constant(4))),
      ),
    ];
  });
}
