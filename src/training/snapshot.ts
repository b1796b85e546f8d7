import { float32, type Tensor } from "../tensor/tensor.ts";
import type { Constraint, LearningWeight, Moment } from "./constraint.ts";

/** Changes nothing, and keeps the parameters as they were after some updates: to rewind to. */
export class Snapshot implements Constraint {
  readonly #step: number;
  #kept: ReadonlyMap<string, Tensor> = new Map();

  /** @param step updates done; 0 is the start */
  constructor(step: number) {
    this.#step = step;
  }

  /** The parameters by name; none where the run did not come so far. */
  get weights(): ReadonlyMap<string, Tensor> {
    return this.#kept;
  }

  apply({ step }: Moment, weights: ReadonlyMap<string, LearningWeight>): void {
    if (step !== this.#step) return;
    this.#kept = new Map([...weights].map(([name, { shape, value }]) => [name, float32(shape, value.slice())]));
  }

  state(): ReadonlyMap<string, Tensor> {
    return this.#kept;
  }

  restore(state: ReadonlyMap<string, Tensor>): void {
    this.#kept = state;
  }
}
