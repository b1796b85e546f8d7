/**
 * Just enough of an assembler for WebAssembly (core specification 2.0, section 5, binary format) to write inner loops
 * with SIMD: JavaScript has none.
 */

/** Bytes of instructions. */
export type Code = readonly number[];

/** Value types. */
export const i32 = 0x7f;
export const f64 = 0x7c;
export const v128 = 0x7b;
type Type = typeof i32 | typeof f64 | typeof v128;

/** A parameter or local variable. */
export interface Variable {
  readonly get: Code;
  set(value: Code): Code;
}

/** A function of a module. */
export interface WasmFunction {
  readonly name: string;
  readonly params: readonly Type[];
  readonly locals: readonly Type[];
  readonly body: Code;
}

/** Declares a function without result, exported under its name. */
export function wasmFunction<P extends string, L extends string>(
  name: string,
  params: Readonly<Record<P, Type>>,
  locals: Readonly<Record<L, Type>>,
  body: (variables: Readonly<Record<P | L, Variable>>) => Code,
): WasmFunction {
  const names = [...Object.keys(params), ...Object.keys(locals)];
  const variable = (index: number): Variable => ({
    get: [0x20, ...unsigned(index)],
    set: (value) => [...value, 0x21, ...unsigned(index)],
  });
  const variables = Object.fromEntries(names.map((key, index) => [key, variable(index)]));
  return {
    name,
    params: Object.values(params),
    locals: Object.values(locals),
    body: body(variables as Record<P | L, Variable>),
  };
}

/** The bytes of a module that holds functions and a memory of its own, exported as "memory". */
export function wasmModule(functions: readonly WasmFunction[], memoryPages: number): Uint8Array<ArrayBuffer> {
  const types = functions.map(({ params }) => [0x60, ...vector(params.map((type) => [type])), 0]);
  const exports = functions.map(({ name }, index) => [...text(name), 0, ...unsigned(index)]);
  const bodies = functions.map(({ locals, body }) => {
    const code = [...vector(locals.map((type) => [1, type])), ...body, 0x0b];
    return [...unsigned(code.length), ...code];
  });
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, types),
    ...section(
      3,
      functions.map((_, index) => unsigned(index)),
    ),
    ...section(5, [[0, ...unsigned(memoryPages)]]),
    ...section(7, [...exports, [...text("memory"), 2, 0]]),
    ...section(10, bodies),
  ]);
}

function section(id: number, items: readonly Code[]): Code {
  const content = vector(items);
  return [id, ...unsigned(content.length), ...content];
}

function vector(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function text(value: string): Code {
  return vector(Array.from(new TextEncoder().encode(value), (byte) => [byte]));
}

/** LEB128. */
function unsigned(value: number): Code {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)];
}

/** An integer constant from 0 to 63. */
export function constant(value: number): Code {
  return [0x41, value];
}

/** A vector of zeros. */
export const zeroVector: Code = [0xfd, 12, ...new Array<number>(16).fill(0)];

/** Runs the body, and again as long as the condition is not 0. */
export function repeatWhile(condition: Code, ...body: readonly Code[]): Code {
  return [0x03, 0x40, ...body.flat(), ...condition, 0x0d, 0, 0x0b];
}

const plain =
  (opcode: number) =>
  (...operands: readonly Code[]): Code => [...operands.flat(), opcode];
const vectorial =
  (opcode: number) =>
  (...operands: readonly Code[]): Code => [...operands.flat(), 0xfd, ...unsigned(opcode)];
/** Memory instructions name an alignment (none is promised) and an offset. */
const memory =
  (opcode: number) =>
  (...operands: readonly Code[]): Code => [...operands.flat(), 0xfd, ...unsigned(opcode), 0, 0];
const memoryLane =
  (opcode: number) =>
  (lane: number, ...operands: readonly Code[]): Code => [...memory(opcode)(...operands), lane];

/** Instructions by the names of the specification, operands first to last. */
export const i32Add = plain(0x6a);
export const i32Sub = plain(0x6b);
export const i32Mul = plain(0x6c);
export const i32GreaterSigned = plain(0x4a);
export const i32LessUnsigned = plain(0x49);
export const v128Load = memory(0);
export const v128Load32Zero = memory(92);
export const v128Load32Lane = memoryLane(86);
export const v128Store = memory(11);
export const v128Store32Lane = memoryLane(90);
export const v128Or = vectorial(80);
export const i32x4ShiftLeft = vectorial(171);
export const f32x4Sub = vectorial(229);
/** Takes the second where it is less. */
export const f32x4PseudoMin = vectorial(234);
/** Takes the second where it is greater. */
export const f32x4PseudoMax = vectorial(235);
export const f64x2Splat = vectorial(20);
export const f64x2PromoteLow = vectorial(95);
export const f64x2Abs = vectorial(236);
export const f64x2Add = vectorial(240);
export const f64x2Sub = vectorial(241);
export const f64x2Mul = vectorial(242);

/** Picks 16 bytes out of the 32 of two vectors. */
export function i8x16Shuffle(bytes: readonly number[], a: Code, b: Code): Code {
  return [...a, ...b, 0xfd, 13, ...bytes];
}
