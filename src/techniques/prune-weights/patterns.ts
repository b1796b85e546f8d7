/** Which weights go together. */
export type Pattern =
  | { readonly kind: "blocks"; readonly rows: number; readonly columns: number }
  | { readonly kind: "n:m"; readonly keep: number; readonly of: number };

/** The pattern that a text of the option's form names: 'unstructured', '2:4', '4x1'; undefined for one without sense. */
export function parsePattern(text: string): Pattern | undefined {
  const numbers = text.split(/[:x]/).map(Number);
  const [a, b] = numbers.length === 2 ? (numbers as [number, number]) : [1, 1];
  if (text.includes(":")) return b > 1 && a > 0 && a < b ? { kind: "n:m", keep: a, of: b } : undefined;
  return a > 0 && b > 0 ? { kind: "blocks", rows: a, columns: b } : undefined;
}

/** Size of a matrix of scores, row by row. */
export interface MatrixSize {
  readonly rows: number;
  readonly columns: number;
}

/** The score of each block: the norm of its elements' scores; the scores themselves for blocks of one. */
export function blockScores(
  scores: Float32Array,
  { rows, columns }: MatrixSize,
  block: { readonly rows: number; readonly columns: number },
): Float32Array {
  if (block.rows * block.columns === 1) return scores;
  const across = columns / block.columns;
  const sums = new Float64Array((rows / block.rows) * across);
  for (let r = 0, at = 0; r < rows; r++) {
    const base = Math.floor(r / block.rows) * across;
    for (let b = 0; b < across; b++) {
      for (let c = 0; c < block.columns; c++, at++) sums[base + b]! += scores[at]! ** 2;
    }
  }
  return Float32Array.from(sums, Math.sqrt);
}

/**
 * Marks with 1 what goes: the lowest in every group of N:M, or the blocks that score lowest, `count` of them in the whole
 * matrix. Of equals the first go.
 *
 * @param byRow the same number in every row of blocks, but for rounding
 */
export function lowestMask(
  scores: Float32Array,
  size: MatrixSize,
  pattern: Pattern,
  count: number,
  byRow = false,
): Uint8Array {
  const mask = new Uint8Array(scores.length);
  if (pattern.kind === "n:m") {
    for (let at = 0; at < mask.length; at += pattern.of) markGroup(scores, mask, at, pattern);
    return mask;
  }
  const units = blockScores(scores, size, pattern);
  const across = size.columns / pattern.columns;
  const down = size.rows / pattern.rows;
  const marked = units === scores ? mask : new Uint8Array(units.length);
  if (!byRow) markLowest(units, count, marked);
  else {
    for (let r = 0; r < down; r++) {
      const share = Math.round(((r + 1) * count) / down) - Math.round((r * count) / down);
      const [from, to] = [r * across, (r + 1) * across];
      markLowest(units.subarray(from, to), share, marked.subarray(from, to));
    }
  }
  if (marked === mask) return mask;
  for (let r = 0, at = 0; r < size.rows; r++) {
    const base = Math.floor(r / pattern.rows) * across;
    for (let b = 0; b < across; b++, at += pattern.columns) mask.fill(marked[base + b]!, at, at + pattern.columns);
  }
  return mask;
}

/** Marks the lowest of the group that begins at `at`. */
export function markGroup(
  scores: Float32Array,
  mask: Uint8Array,
  at: number,
  { keep, of }: { readonly keep: number; readonly of: number },
): void {
  for (let gone = 0; gone < of - keep; gone++) {
    let lowest = -1;
    for (let i = at; i < at + of; i++) if (!mask[i] && (lowest < 0 || scores[i]! < scores[lowest]!)) lowest = i;
    mask[lowest] = 1;
  }
}

function markLowest(scores: Float32Array, count: number, mask: Uint8Array): void {
  if (count <= 0) return;
  const { value, ties } = thresholdOf(scores, count);
  let left = ties;
  for (let i = 0; i < scores.length; i++) {
    if (scores[i]! < value || (scores[i] === value && left-- > 0)) mask[i] = 1;
  }
}

/** Below this many numbers sorting a copy beats two histograms of 65536 counts. */
const fewNumbers = 1 << 15;

/** The value of the `count`-th smallest of numbers that are not negative, and how many equal to it are among these. */
function thresholdOf(scores: Float32Array, count: number): Threshold {
  if (scores.length > fewNumbers) {
    const search = thresholdSearch(count);
    for (let pass = 0; pass < 2; pass++) {
      search.add(scores);
      search.next();
    }
    return search.result();
  }
  const sorted = scores.slice().sort();
  const value = sorted[count - 1]!;
  return { value, ties: count - sorted.indexOf(value) };
}

/** A threshold: everything below it, and so many of those equal to it. */
export interface Threshold {
  readonly value: number;
  readonly ties: number;
}

/**
 * Finds the `count`-th smallest of any number of numbers >= 0 in two passes over them and constant memory: floats that are
 * not negative are ordered as their bits, so one pass counts their upper and one their lower halves.
 */
export function thresholdSearch(count: number): {
  add(scores: Float32Array): void;
  /** Ends a pass. */
  next(): void;
  /** After both. */
  result(): Threshold;
} {
  const counts = new Float64Array(65536);
  let upper: number | undefined;
  let lower = 0;
  let left = count;
  return {
    add(scores) {
      const bits = new Uint32Array(scores.buffer, scores.byteOffset, scores.length);
      if (upper === undefined) for (const word of bits) counts[word >>> 16]!++;
      else for (const word of bits) if (word >>> 16 === upper) counts[word & 0xffff]!++;
    },
    next() {
      let at = 0;
      while (at < 65535 && counts[at]! < left) left -= counts[at++]!;
      if (upper === undefined) upper = at;
      else lower = at;
      counts.fill(0);
    },
    result() {
      const value = new Float32Array(Uint32Array.of((((upper ?? 0) << 16) | lower) >>> 0).buffer)[0]!;
      return { value, ties: left };
    },
  };
}
