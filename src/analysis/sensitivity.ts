/** An item and the noise it makes alone. */
export interface Noise<T> {
  readonly item: T;
  /** Noise-to-signal ratio of the outputs, as a power ratio: 10^(-dB / 10). */
  readonly noise: number;
}

/**
 * The noise that each item makes alone, loudest first. Noise of layers adds up nearly, so this ranks what to leave out.
 *
 * @param noiseOf noise-to-signal power of the outputs when only these items are changed (quantized, pruned, ...)
 */
export async function sensitivity<T>(
  items: readonly T[],
  noiseOf: (only: readonly T[]) => Promise<number>,
): Promise<Noise<T>[]> {
  const found: Noise<T>[] = [];
  for (const item of items) found.push({ item, noise: await noiseOf([item]) });
  return found.sort((a, b) => b.noise - a.noise);
}

/**
 * The items that alone make more than a share of the noise of all, loudest first, found by halving: halves quieter than
 * that are not looked into. Infinite noise is more than any share. About 2 / share * log2(n) measurements at most, where
 * `sensitivity` takes n.
 *
 * @param items in an order that keeps neighbours together
 * @param share from 0 to 1
 */
export async function loudest<T>(
  items: readonly T[],
  noiseOf: (only: readonly T[]) => Promise<number>,
  share: number,
): Promise<Noise<T>[]> {
  const found: Noise<T>[] = [];
  if (items.length === 0) return found;
  const limit = share * (await noiseOf(items));
  const halve = async (part: readonly T[]): Promise<void> => {
    const middle = part.length >> 1;
    for (const half of [part.slice(0, middle), part.slice(middle)]) {
      if (half.length === 0) continue;
      const noise = await noiseOf(half);
      if (noise <= limit && noise < Number.POSITIVE_INFINITY) continue;
      if (half.length === 1) found.push({ item: half[0]!, noise });
      else await halve(half);
    }
  };
  if (items.length === 1) found.push({ item: items[0]!, noise: limit / share });
  else await halve(items);
  return found.sort((a, b) => b.noise - a.noise);
}
