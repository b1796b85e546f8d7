import { dtypes } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

const sampleBytes = 1024;
const samples = 8;
const chunk = 1 << 20;

/**
 * Names of weights that are equal in type, shape and content, in groups of two and more, first come first. Tensors are
 * told apart by type and shape, then by a few samples of their bytes; only those still alike are read and compared.
 */
export function duplicateWeights(weights: ReadonlyMap<string, Tensor>): string[][] {
  const alike = groupBy(weights, ([, t]) => `${t.dtype}[${t.shape}]`);
  return alike.flatMap((group) =>
    groupBy(new Map(group), ([, t]) => fingerprint(t)).flatMap((similar) => classes(similar, equal)),
  );
}

/**
 * Pairs of matrices of which one is the other transposed, content and type equal: an embedding and an output layer
 * stored twice, say. Each matrix is paired with the first that fits.
 */
export function transposedWeights(weights: ReadonlyMap<string, Tensor>): [string, string][] {
  const found: [string, string][] = [];
  const seen = new Map<string, [string, Tensor][]>();
  for (const [name, t] of weights) {
    const [rows = 0, columns = 0] = t.shape;
    if (t.shape.length !== 2 || rows < 2 || columns < 2 || dtypes[t.dtype].bits % 8 !== 0 || t.strings) continue;
    const partner = seen.get(`${t.dtype}[${columns},${rows}]`)?.find(([, other]) => isTransposed(t, other));
    if (partner) found.push([partner[0], name]);
    const key = `${t.dtype}[${t.shape}]`;
    seen.set(key, [...(seen.get(key) ?? []), [name, t]]);
  }
  return found;
}

/** Splits entries into classes of more than one by a key. */
function groupBy(
  weights: ReadonlyMap<string, Tensor>,
  key: (entry: readonly [string, Tensor]) => string,
): [string, Tensor][][] {
  const groups = new Map<string, [string, Tensor][]>();
  for (const entry of weights) {
    const k = key(entry);
    const group = groups.get(k);
    if (group) group.push(entry);
    else groups.set(k, [entry]);
  }
  return [...groups.values()].filter((group) => group.length > 1);
}

function classes(entries: [string, Tensor][], same: (a: Tensor, b: Tensor) => boolean): string[][] {
  const found: { tensor: Tensor; names: string[] }[] = [];
  for (const [name, t] of entries) {
    const home = found.find(({ tensor }) => same(tensor, t));
    if (home) home.names.push(name);
    else found.push({ tensor: t, names: [name] });
  }
  return found.flatMap(({ names }) => (names.length > 1 ? [names] : []));
}

/** A hash of evenly spread samples of the content, the whole content where it is small (MurmurHash3's mixing). */
function fingerprint(t: Tensor): string {
  if (t.strings) return JSON.stringify(t.strings.map(String));
  let hash = 0;
  const add = (bytes: Uint8Array): void => {
    for (let i = 0; i < bytes.length; i++)
      hash = Math.imul(hash ^ Math.imul(bytes[i]! + 1, 0xcc9e2d51), 0x1b873593) ^ (hash >>> 15);
  };
  if (t.byteLength <= sampleBytes * samples) add(t.bytes());
  else {
    const stride = (t.byteLength - sampleBytes) / (samples - 1);
    for (let i = 0; i < samples; i++) add(t.bytes(Math.floor(i * stride), sampleBytes));
  }
  return `${hash >>> 0}`;
}

function equal(a: Tensor, b: Tensor): boolean {
  if (a === b) return true;
  if (a.strings) return b.strings?.every((s, i) => String(s) === String(a.strings![i])) ?? false;
  for (let at = 0; at < a.byteLength; at += chunk) {
    const length = Math.min(chunk, a.byteLength - at);
    if (!equalBytes(a.bytes(at, length), b.bytes(at, length))) return false;
  }
  return true;
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Whether a[i, j] = b[j, i] throughout: a few places first, then tile by tile. */
function isTransposed(a: Tensor, b: Tensor): boolean {
  const [rows, columns] = a.shape as [number, number];
  const width = dtypes[a.dtype].bits / 8;
  const same = (i: number, j: number): boolean =>
    equalBytes(a.bytes((i * columns + j) * width, width), b.bytes((j * rows + i) * width, width));
  for (let k = 0; k < 64; k++) if (!same((k * 7919) % rows, (k * 104729) % columns)) return false;
  const tile = Math.max(1, Math.floor(chunk / (columns * width)));
  for (let from = 0; from < rows; from += tile) {
    const height = Math.min(tile, rows - from);
    const block = a.bytes(from * columns * width, height * columns * width);
    for (let j = 0; j < columns; j++) {
      const line = b.bytes((j * rows + from) * width, height * width);
      for (let i = 0; i < height; i++) {
        for (let k = 0; k < width; k++) {
          if (line[i * width + k] !== block[(i * columns + j) * width + k]) return false;
        }
      }
    }
  }
  return true;
}
