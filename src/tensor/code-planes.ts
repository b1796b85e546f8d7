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

/**
 * Writes `count` codes, from index `from` on, as digits `start`, `start + stride`, ... of a plane, whose bytes there must
 * still be 0.
 */
export function putCodes(
  plane: CodePlane,
  codes: Uint8Array,
  from: number,
  count: number,
  start: number,
  stride: number,
): void {
  const { bytes, radix, perByte, shift, mask } = plane;
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
