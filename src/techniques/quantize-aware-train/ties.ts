/** What single precision may be off by, about: a sum of terms that add up to hundreds of steps, and the sum itself. */
const blur = (v: number): number => 2 ** -17 + Math.abs(v) * 2 ** -22;

/** Numbers that are so many blurs from the middle between two integers are rounded alike by everyone. */
const enough = 4;

/** Factors tried, and how far one is from the next: together less than 0.1 %. */
const tries = 256;
const apart = 2 ** -18;

/**
 * For each of some steps the factor that keeps its sums farthest from ties, the first that keeps them far enough.
 *
 * @param at says for a factor how far those of step `i` are then, in blurs; anything from `least` down will do below it
 */
export function clearest(
  steps: number,
  at: (factor: number) => (i: number, least: number) => number,
): readonly number[] {
  const factors = new Array<number>(steps).fill(1);
  const found = new Array<number>(steps).fill(0);
  for (let j = 0; j < tries && found.some((distance) => distance < enough); j++) {
    const factor = 1 + j * apart;
    const distanceOf = at(factor);
    for (const [i, known] of found.entries()) {
      const distance = known < enough ? distanceOf(i, known) : known;
      if (distance > known) [found[i], factors[i]] = [distance, factor];
    }
  }
  return factors;
}

/** Numbers between two of these magnitudes are as blurred as the larger one. The largest range, of the most numbers, first. */
const magnitudes = [256, 64, 16, 4, 0];

/**
 * How far the numbers offset + k stride, for whole k from `first` to `last`, are from the middle between two integers: the
 * least distance, in blurs.
 *
 * @param stride above zero
 */
export function clearance(offset: number, stride: number, first: number, last: number, least: number): number {
  let found = Number.POSITIVE_INFINITY;
  const between = (low: number, high: number): void => {
    const from = Math.max(first, Math.ceil((low - offset) / stride));
    const until = Math.min(last, Math.floor((high - offset) / stride));
    if (until < from || found <= least) return;
    const distance = distanceToTies(offset + from * stride, stride, until - from + 1);
    found = Math.min(found, distance / blur(Math.max(Math.abs(low), Math.abs(high))));
  };
  for (const [i, lower] of magnitudes.slice(1).entries()) {
    between(lower, magnitudes[i]!);
    between(-magnitudes[i]!, -lower);
  }
  return found;
}

/** The least distance of `count` numbers, each a stride behind the last, from the middle between two integers. */
export function distanceToTies(start: number, stride: number, count: number): number {
  return Math.min(leastRemainder(start - 0.5, stride, 1, count), leastRemainder(0.5 - start, -stride, 1, count));
}

/**
 * The least of the remainders of start + k stride by m, k < count, in as many steps as Euclid's algorithm takes. With a
 * stride of m / 2 at most, the least one is the first or stands behind a multiple of m, and those that do are remainders of
 * start - j m by the stride.
 */
function leastRemainder(start: number, stride: number, m: number, count: number): number {
  let [first, by] = [remainder(start, m), remainder(stride, m)];
  if (2 * by > m) [first, by] = [remainder(first + by * (count - 1), m), m - by];
  const turns = by > 0 ? Math.floor((first + by * (count - 1)) / m) : 0;
  return turns === 0 ? first : Math.min(first, leastRemainder(first - m, -m, by, turns));
}

function remainder(x: number, m: number): number {
  return x - Math.floor(x / m) * m;
}
