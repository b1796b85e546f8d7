import { fail } from "../errors.ts";

/** A file in a zip archive. */
export interface ZipEntry {
  readonly name: string;
  /** Its bytes as stored, a view of the archive. */
  readonly data: Uint8Array;
  readonly deflated: boolean;
  /** Bytes once inflated. */
  readonly size: number;
}

const signatures = {
  end: 0x06054b50,
  end64: 0x06064b50,
  locator64: 0x07064b50,
  central: 0x02014b50,
  local: 0x04034b50,
};
const endBytes = 22;
const longestComment = 0xffff;

/**
 * The files of a zip archive (PKWARE APPNOTE 6.3, ZIP64 included) as its central directory lists them.
 *
 * @param who what to call the archive in messages
 * @throws PareError where it is damaged, or a file is encrypted or packed by another method than deflate
 */
export function readZip(bytes: Uint8Array, who = "zip file"): readonly ZipEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    return entries(bytes, view, who);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return fail(who, "it is not a readable zip archive (it points beyond its end)", damaged, error);
  }
}

const damaged = "The file is damaged or cut short";

function entries(bytes: Uint8Array, view: DataView, who: string): readonly ZipEntry[] {
  const directory = findDirectory(view, who);
  const found: ZipEntry[] = [];
  let at = directory.offset;
  for (let i = 0; i < directory.count; i++) {
    requireSignature(view, at, signatures.central, who);
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    const [nameLength, extraLength] = [view.getUint16(at + 28, true), view.getUint16(at + 30, true)];
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    if (flags & 1) fail(who, `'${name}' in it is encrypted`, "Decrypt it first");
    if (method !== 0 && method !== 8) fail(who, `'${name}' in it is packed by method ${method}`, "Pack it by deflate");
    const { size, packed, offset } = extents(view, at, at + 46 + nameLength, extraLength);
    requireSignature(view, offset, signatures.local, who);
    const start = offset + 30 + view.getUint16(offset + 26, true) + view.getUint16(offset + 28, true);
    const data = bytes.subarray(start, start + packed);
    if (data.length !== packed) fail(who, `it is not a readable zip archive ('${name}' ends beyond its end)`, damaged);
    found.push({ name, data, deflated: method === 8, size });
    at += 46 + nameLength + extraLength + view.getUint16(at + 32, true);
  }
  return found;
}

/** The end record lies before a comment of any length, so it is looked for from the end on. */
function findDirectory(view: DataView, who: string): { readonly count: number; readonly offset: number } {
  const first = Math.max(0, view.byteLength - endBytes - longestComment);
  for (let at = view.byteLength - endBytes; at >= first; at--) {
    if (view.getUint32(at, true) !== signatures.end) continue;
    const locator = at - 20;
    if (locator < 0 || view.getUint32(locator, true) !== signatures.locator64) {
      return { count: view.getUint16(at + 10, true), offset: view.getUint32(at + 16, true) };
    }
    const end64 = bigNumber(view, locator + 8);
    requireSignature(view, end64, signatures.end64, who);
    return { count: bigNumber(view, end64 + 32), offset: bigNumber(view, end64 + 48) };
  }
  return fail(who, "it is not a readable zip archive (no directory at its end)", damaged);
}

/** Sizes and place of a file; those that do not fit 32 bits stand in the ZIP64 field (id 1), in this order. */
function extents(
  view: DataView,
  entry: number,
  extra: number,
  extraLength: number,
): { readonly size: number; readonly packed: number; readonly offset: number } {
  let wide = 0;
  for (let at = extra; at + 4 <= extra + extraLength; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) === 1) wide = at + 4;
  }
  const field = (at: number): number => {
    const short = view.getUint32(entry + at, true);
    if (short !== 0xffffffff || wide === 0) return short;
    wide += 8;
    return bigNumber(view, wide - 8);
  };
  const size = field(24);
  const packed = field(20);
  return { size, packed, offset: field(42) };
}

function bigNumber(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}

function requireSignature(view: DataView, at: number, signature: number, who: string): void {
  if (view.getUint32(at, true) === signature) return;
  fail(who, `it is not a readable zip archive (no record where one should be, at byte ${at})`, damaged);
}
