/** A seeded stream of random numbers. Everything random in pare draws from one of these, so a seed fixes the bytes. */
export interface Random {
  /** Uniform in [0, 1), 32 bits of resolution. */
  next(): number;
  /** Uniform integer in [0, n). */
  int(n: number): number;
  /** Normal, mean 0 and standard deviation 1 (Box-Muller). */
  normal(): number;
  /** Shuffles in place (Fisher-Yates) and returns the same array. */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T;
  /** An independent stream, the same for the same label: order of use elsewhere does not change it. */
  fork(label: string): Random;
  /** The four state words; give them to {@link random} to continue the stream exactly here. */
  state(): readonly [number, number, number, number];
}

/**
 * A seeded generator (xoshiro128**, Blackman and Vigna 2018; seeded by splitmix32).
 *
 * @param seed a number, or the four state words of an earlier stream
 */
export function random(seed: number | readonly [number, number, number, number]): Random {
  const s = new Uint32Array(typeof seed === "number" ? seedWords(seed) : seed);
  const origin = [...s];
  const bits = (): number => {
    const result = Math.imul(rotl(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = rotl(s[3]!, 11);
    return result;
  };
  const next = (): number => bits() / 4294967296;
  const int = (n: number): number => Math.floor(next() * n);
  return {
    next,
    int,
    normal: () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
    shuffle(items) {
      for (let i = items.length - 1; i > 0; i--) {
        const j = int(i + 1);
        const kept = items[i];
        (items as { [index: number]: unknown })[i] = items[j];
        (items as { [index: number]: unknown })[j] = kept;
      }
      return items;
    },
    fork(label) {
      let hash = 2166136261;
      for (const character of label) hash = Math.imul(hash ^ character.codePointAt(0)!, 16777619);
      return random((hash ^ origin[0]! ^ rotl(origin[2]!, 7)) >>> 0);
    },
    state: () => [s[0]!, s[1]!, s[2]!, s[3]!],
  };
}

function rotl(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k));
}

function seedWords(seed: number): [number, number, number, number] {
  let state = (Math.floor(seed) ^ Math.floor(seed / 4294967296)) >>> 0;
  const word = (): number => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  return [word(), word(), word(), word()];
}
