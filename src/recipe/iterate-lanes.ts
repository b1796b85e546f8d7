import type { Step } from "../techniques/technique.ts";
import type { Cutter } from "./iterate-cutters.ts";
import { leftOf, limitOf, type ModelSize, type SizeTarget } from "./iterate-size.ts";

/** How far a cutter's search for the size of its cuts has come. */
export interface Lane {
  readonly cutter: Cutter;
  /** Share of what is left that it takes away next. */
  step: number;
  /** The largest share that changed nothing, and the smallest that went too far, from the best model so far on. */
  tooLittle: number;
  tooMuch: number;
  /** The step that went too far, as text: the same one need not be tried again. */
  refused?: string;
  /** The last cut that was kept. */
  last?: { readonly step: Step; readonly share: number; readonly before: ModelSize; readonly after: ModelSize };
  /** Why it is out; absent while it is not. */
  done?: string;
}

/** More is not taken away at a time. */
const largestShare = 0.95;

/** Decimals of shares: steps whose numbers differ by less are the same. */
const decimals = 4;

/** Less is not taken away at a time. */
export const smallestShare = 10 ** -decimals;

/** A cutter at the beginning. */
export function startLane(cutter: Cutter, step: number): Lane {
  return { cutter, step, tooLittle: 0, tooMuch: Number.POSITIVE_INFINITY };
}

/** Whether a target is reached. */
export function isReached(target: SizeTarget, size: ModelSize, original: ModelSize): boolean {
  return leftOf(size, target.quantity) <= limitOf(target, original);
}

/** The targets of a cutter that are not reached. */
export function openTargets(
  { cutter }: Lane,
  targets: readonly SizeTarget[],
  size: ModelSize,
  original: ModelSize,
): SizeTarget[] {
  return targets.filter((target) => cutter.reduces.includes(target.quantity) && !isReached(target, size, original));
}

/**
 * The share to take away next: a step, or what is missing to the farthest of the targets if that is less. At least
 * `least`, and twice what changed nothing; undefined where that is known to be too much, which ends the lane.
 *
 * @param least {@link smallestShare} or more
 */
export function nextShare(
  lane: Lane,
  open: readonly SizeTarget[],
  size: ModelSize,
  original: ModelSize,
  least: number,
): number | undefined {
  const missing = open.map((target) => missingShare(lane, target, size, original));
  const wanted = missing.length > 0 ? Math.min(lane.step, Math.max(...missing)) : lane.step;
  const share = Number(Math.max(wanted, least, 2 * lane.tooLittle).toFixed(decimals));
  if (share < lane.tooMuch && share <= largestShare) return share;
  lane.done = lane.tooMuch <= 1 ? "smaller cuts change nothing" : "nothing is left to cut";
  return undefined;
}

/**
 * The share that leads to a target, were its effect that of the last cut: what is left of the quantity is taken to be a
 * power of what is left to the cutter. q' / q = (1 - share)^e.
 */
function missingShare({ last }: Lane, target: SizeTarget, size: ModelSize, original: ModelSize): number {
  const { quantity } = target;
  const ratio = limitOf(target, original) / leftOf(size, quantity);
  const effect =
    last && Math.log(leftOf(last.after, quantity) / leftOf(last.before, quantity)) / Math.log(1 - last.share);
  const exponent = effect !== undefined && effect > 0.1 && effect < 10 ? effect : 1;
  return 1 - ratio ** (1 / exponent);
}

/** Notes a cut that was kept: what was found out of larger and smaller ones holds for the model before alone. */
export function noteKept(lanes: readonly Lane[], lane: Lane, last: NonNullable<Lane["last"]>): void {
  lane.last = last;
  for (const each of lanes) {
    each.tooLittle = 0;
    each.tooMuch = Number.POSITIVE_INFINITY;
    delete each.refused;
  }
}

/** Notes a cut that went too far: the next one is half of it, and none if that is below `least`. */
export function noteTooMuch(lane: Lane, share: number, least: number, refused: string): void {
  lane.tooMuch = share;
  lane.refused = refused;
  lane.step = share / 2;
  if (lane.step < least) lane.done = "smaller steps are below the tolerance";
}

/** Notes a cut that changed nothing: the next one is twice as large. */
export function noteTooLittle(lane: Lane, share: number): void {
  lane.tooLittle = share;
}
