import { fail } from "../../errors.ts";
import type { ByteSource } from "../source.ts";

/** One field of a protobuf message: where its record (tag included) and its payload lie in the source. */
export interface Field {
  readonly no: number;
  readonly wireType: number;
  readonly start: number;
  readonly dataStart: number;
  readonly end: number;
}

const smallWindow = 1 << 9;
const largeWindow = 1 << 16;

/**
 * Lists the fields of a protobuf message without reading their payloads, so that a large model costs kilobytes.
 * (protobuf.dev, "Encoding".)
 *
 * @throws PareError where a length or tag lies, or the message is cut short
 */
export function* fields(source: ByteSource, start: number, end: number): Generator<Field> {
  let windowStart = 0;
  let window: Uint8Array = new Uint8Array(0);
  let at = start;
  const damaged = (what: string): never =>
    fail(source.name, `${what} at byte ${at}`, "The file is damaged or not ONNX");
  const byte = (): number => {
    if (at >= end) damaged("a field runs past the end of its message");
    if (at < windowStart || at >= windowStart + window.length) {
      // a jump over a payload begins small again, reading on grows
      const next = at === windowStart + window.length ? Math.min(2 * window.length, largeWindow) : 0;
      windowStart = at;
      window = source.read(at, Math.min(Math.max(next, smallWindow), end - at));
    }
    return window[at++ - windowStart]!;
  };
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const b = byte();
      value += (b & 127) * 2 ** shift;
      if (b < 128) return value;
    }
    return damaged("a number of more than ten bytes");
  };
  while (at < end) {
    const fieldStart = at;
    const tag = varint();
    const no = Math.floor(tag / 8);
    const wireType = tag % 8;
    if (no === 0) damaged("field number 0");
    let dataStart = at;
    if (wireType === 0) varint();
    else if (wireType === 1) at += 8;
    else if (wireType === 5) at += 4;
    else if (wireType === 2) {
      const length = varint();
      dataStart = at;
      at += length;
    } else damaged(`wire type ${wireType}`);
    if (at > end) damaged("a field runs past the end of its message");
    yield { no, wireType, start: fieldStart, dataStart, end: at };
  }
}

/**
 * Splits a message into the payload spans of one length-delimited field and the bytes of all others, which by
 * protobuf's rules are a message of their own.
 */
export function extract(
  source: ByteSource,
  start: number,
  end: number,
  no: number,
): { spans: Field[]; rest: Uint8Array } {
  const spans: Field[] = [];
  const kept: [number, number][] = [];
  for (const field of fields(source, start, end)) {
    if (field.no === no && field.wireType === 2) spans.push(field);
    else if (kept.at(-1)?.[1] === field.start) kept.at(-1)![1] = field.end;
    else kept.push([field.start, field.end]);
  }
  return { spans, rest: gather(source, kept) };
}

function gather(source: ByteSource, ranges: readonly (readonly [number, number])[]): Uint8Array {
  if (ranges.length === 1) return source.read(ranges[0]![0], ranges[0]![1] - ranges[0]![0]);
  const out = new Uint8Array(ranges.reduce((sum, [from, to]) => sum + to - from, 0));
  let at = 0;
  for (const [from, to] of ranges) {
    out.set(source.read(from, to - from), at);
    at += to - from;
  }
  return out;
}

/** A number as a protobuf varint. */
export function varintBytes(value: number): Uint8Array {
  const out: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) out.push((rest % 128) | 128);
  out.push(rest);
  return Uint8Array.from(out);
}
