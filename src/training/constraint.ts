import type { Tensor } from "../tensor/tensor.ts";

/** A parameter as a constraint sees it; its values may be changed in place. */
export interface LearningWeight {
  readonly shape: readonly number[];
  readonly value: Float32Array;
  /** What it was before the last update; anything before the first. Not to be changed. */
  readonly before: Float32Array;
  /** The running average of it, where one is kept: that is what is saved. */
  readonly average?: Float32Array;
}

/** Where a run is when a constraint acts. */
export interface Moment {
  /** Updates done: 0 before the first. */
  readonly step: number;
  /** Updates in all. */
  readonly steps: number;
  /** Learning rate of the last update; of the first before it. */
  readonly rate: number;
}

/**
 * Acts on the weights of a model while it trains: holds weights at zero, prunes more of them on a schedule, shrinks groups.
 * Whatever it keeps between steps it puts into checkpoints, so that a run that was killed goes on bit by bit as before.
 */
export interface Constraint {
  /** Changes weights in place: before the first step, and after every update. Frozen weights are absent. */
  apply(at: Moment, weights: ReadonlyMap<string, LearningWeight>): void;
  /**
   * Whether weights at this moment may be the result of the run; always, if absent. Until then no epoch counts as the
   * best one. The last step counts in any case.
   */
  ready?(at: Omit<Moment, "rate">): boolean;
  /** What it has to remember, by name. */
  state?(): ReadonlyMap<string, Tensor>;
  /** Takes back what {@link state} gave. */
  restore?(state: ReadonlyMap<string, Tensor>): void;
  /** Numbers for the metrics log, by name: sparsity, norms. */
  summaries?(): Readonly<Record<string, number>>;
}

/** Several constraints, one after the other. */
export class Constraints {
  readonly #all: readonly Constraint[];

  constructor(all: readonly Constraint[]) {
    this.#all = all;
  }

  apply(at: Moment, weights: ReadonlyMap<string, LearningWeight>): void {
    for (const each of this.#all) each.apply(at, weights);
  }

  ready(at: Omit<Moment, "rate">): boolean {
    return this.#all.every((each) => each.ready?.(at) ?? true);
  }

  state(): ReadonlyMap<string, Tensor> {
    const entries = this.#all.flatMap((each, i) =>
      [...(each.state?.() ?? [])].map(([name, t]): [string, Tensor] => [`${prefix(i)}${name}`, t]),
    );
    return new Map(entries);
  }

  restore(state: ReadonlyMap<string, Tensor>): void {
    for (const [i, each] of this.#all.entries()) {
      const own = [...state].filter(([name]) => name.startsWith(prefix(i)));
      each.restore?.(new Map(own.map(([name, t]) => [name.slice(prefix(i).length), t])));
    }
  }

  /** All numbers; undefined where there is nothing to tell. */
  summaries(): Readonly<Record<string, number>> | undefined {
    const found = this.#all.flatMap((each) => Object.entries(each.summaries?.() ?? {}));
    return found.length === 0 ? undefined : Object.fromEntries(found);
  }
}

/** Names of the state of one constraint among all; no weight's name begins so. */
const prefix = (index: number): string => `pare:constraint/${index}/`;
