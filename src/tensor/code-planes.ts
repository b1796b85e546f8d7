import { middleOf, type Width } from "./block-grid.ts";

/**
 * Codes packed several to a byte: digit i of radix r stands in byte floor(i / perByte) as the factor of r^(i mod
 * perByte), low digits first. A digit is `(code >> shift) & mask`.
 */
export interface CodePlane {
  readonly radix: number;
  readonly perByte: number;
  readonly shift: number;
  readonly mask: number;
  readonly bytes: Uint8Array;
}

/**
 * Planes that hold `count` codes of a width without waste: 3 bits as a plane of 2 and a plane of 1, ternary as five
 * digits a byte.
 */
export function codePlanes(width: Width, count: number): CodePlane[] {
  const plane = (radix: number, perByte: number, shift: number, mask: number): CodePlane => ({
    radix,
    perByte,
    shift,
    mask,
    bytes: new Uint8Array(Math.ceil(count / perByte)),
  });
  switch (width) {
    case 3:
      return [plane(4, 4, 0, 3), plane(2, 8, 2, 1)];
    case "ternary":
      return [plane(3, 5, 0, 3)];
    case "binary":
      return [plane(2, 8, 0, 1)];
    default:
      return [plane(2 ** width, 8 / width, 0, 2 ** width - 1)];
  }
}

const powersOfThree = [1, 3, 9, 27, 81] as const;

/** Codes of blocks, one a byte: `count` codes a block, those of block k from k * pitch on. */
export interface CodeRun {
  readonly codes: Uint8Array;
  readonly pitch: number;
  readonly count: number;
  readonly blocks: number;
}

/**
 * Writes the codes of blocks as digits of a plane, whose bytes there must still be 0: those of block k as digits
 * start + k * next, `stride` apart.
 */
export function putCodes(plane: CodePlane, run: CodeRun, start: number, next: number, stride: number): void {
  if (plane.radix === 16 && stride === 1 && inQuads(run, start, next)) {
    putQuads(plane.bytes, run, start, next);
    return;
  }
  for (let k = 0; k < run.blocks; k++) putBlock(plane, run.codes, k * run.pitch, run.count, start + k * next, stride);
}

/** Codes of 8, 4 or 2 bits packed one after another. */
export function packedCodes(bits: 8 | 4 | 2, codes: Uint8Array): Uint8Array {
  const plane = codePlanes(bits, codes.length)[0]!;
  putCodes(plane, { codes, pitch: codes.length, count: codes.length, blocks: 1 }, 0, 0, 1);
  return plane.bytes;
}

/** Whether four codes at a time are whole words on both sides, for blocks enough to be worth it. */
function inQuads({ codes, pitch, count, blocks }: CodeRun, start: number, next: number): boolean {
  return blocks > 8 && [codes.byteOffset, pitch, count, start, next].every((offset) => offset % 4 === 0);
}

/** Packs four codes, the bytes of a word, to the four digits of half a word. */
function putQuads(bytes: Uint8Array, { codes, pitch, count, blocks }: CodeRun, start: number, next: number): void {
  const quads = new Uint32Array(codes.buffer, codes.byteOffset, codes.length >> 2);
  const packed = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);
  for (let k = 0; k < blocks; k++) {
    const from = (k * pitch) / 4;
    for (let j = from, at = (start + k * next) / 4; j < from + count / 4; j++, at++) {
      const quad = quads[j]!;
      packed[at] = (quad & 15) | ((quad >>> 4) & 0xf0) | ((quad >>> 8) & 0xf00) | ((quad >>> 12) & 0xf000);
    }
  }
}

function putBlock(
  { bytes, radix, perByte, shift, mask }: CodePlane,
  codes: Uint8Array,
  from: number,
  count: number,
  start: number,
  stride: number,
): void {
  const end = from + count;
  if (radix === 256) {
    for (let j = from, at = start; j < end; j++, at += stride) bytes[at] = codes[j]!;
    return;
  }
  if (radix === 3) {
    for (let j = from, at = start; j < end; j++, at += stride) {
      const byte = Math.floor(at / 5);
      bytes[byte]! += codes[j]! * powersOfThree[at - 5 * byte]!;
    }
    return;
  }
  if (radix === 16 && stride === 1 && (start & 1) === 0 && (count & 1) === 0) {
    for (let j = from, byte = start / 2; j < end; j += 2, byte++) bytes[byte] = codes[j]! | (codes[j + 1]! << 4);
    return;
  }
  const bits = 8 / perByte;
  for (let j = from, at = start; j < end; j++, at += stride) {
    bytes[Math.floor(at / perByte)]! |= ((codes[j]! >> shift) & mask) << ((at % perByte) * bits);
  }
}

/**
 * What each byte of a plane stands for: `[radix^perByte, perByte]` integers, row by byte. The tables of a width's planes
 * sum to the code, or to the code less the middle where `centred`; twice that for binary, -1 and 1.
 */
export function planeTable(plane: CodePlane, width: Width, centred: boolean): Int8Array {
  const { radix, perByte, shift } = plane;
  const rows = radix ** perByte;
  const table = new Int8Array(rows * perByte);
  const unit = width === "binary" ? 2 : 1 << shift;
  // the offset goes with the lowest plane
  const offset = !centred || shift > 0 ? 0 : width === "binary" ? 1 : middleOf(width);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let d = 0, left = row; d < perByte; d++, at++) {
      table[at] = unit * (left % radix) - offset;
      left = Math.floor(left / radix);
    }
  }
  return table;
}

/** Width, of those with a kernel, that holds the codes of another, and how: code -> code * factor + offset. */
export function promoted(width: Width): { readonly bits: 8 | 4 | 2; readonly factor: number; readonly offset: number } {
  if (width === 8 || width === 4 || width === 2) return { bits: width, factor: 1, offset: 0 };
  if (width === 3) return { bits: 4, factor: 1, offset: 4 };
  return width === "ternary" ? { bits: 2, factor: 1, offset: 1 } : { bits: 2, factor: 2, offset: 1 };
}
