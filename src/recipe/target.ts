import type { Gain, KernelChange } from "./judge.ts";

/** What `compress` is to improve. */
export type Target = "balanced" | "size" | "latency" | "memory";

/** Every target, the default first. */
export const targets: readonly Target[] = ["balanced", "size", "latency", "memory"];

/**
 * What plans are ranked by: below 1 is an improvement, the smaller the better. Balanced, it is time * sqrt(bytes): halving
 * the time is worth as much as quartering the file, since sizes give way more easily than times.
 */
export function objective(gain: Gain, target: Target): number {
  if (target === "size") return gain.bytes;
  if (target === "latency") return gain.latency;
  return target === "memory" ? gain.memory : gain.latency * Math.sqrt(gain.bytes);
}

/** An improvement below this is not worth a changed model. */
const worthwhile = 0.99;

/**
 * Why a gain is none: undefined if it is one. With latency as target the whole interval must lie below 1; balanced, the
 * file must not grow nor the time rise measurably.
 */
export function shortcoming(gain: Gain, target: Target, slower: readonly KernelChange[]): string | undefined {
  const [low, high] = gain.latencyInterval;
  const [worst] = slower;
  const where = worst
    ? `; '${worst.node}' (${worst.op}) went from ${worst.before.toFixed(3)} to ${worst.after.toFixed(3)} ms`
    : "";
  const times = `${gain.latency.toFixed(2)} times the original's time [${low.toFixed(2)}, ${high.toFixed(2)}]`;
  if (target === "latency" && high >= 1) return `not measurably faster: ${times}${where}`;
  if (target === "balanced" && low > 1) return `slower: ${times}${where}`;
  if (target === "balanced" && gain.bytes > 1) return `larger: ${gain.bytes.toFixed(2)} times the original's bytes`;
  const value = objective(gain, target);
  return value > worthwhile ? `no gain: ${value.toFixed(3)} of the original` : undefined;
}
