import { makeSchedule, type Schedule, type ScheduleOptions } from "./schedules.ts";

/** How a run goes: which of its steps update the weights, and at what rate. */
export class Pace {
  readonly #steps: number;
  readonly #accumulate: number;
  readonly #base: number;
  readonly #schedule: Schedule;

  /** @param part the part of the schedule that these steps are, as shares of it */
  constructor(
    options: ScheduleOptions & { readonly rate: number; readonly accumulate: number },
    steps: number,
    part: readonly [from: number, until: number] = [0, 1],
  ) {
    this.#steps = steps;
    this.#accumulate = options.accumulate;
    this.#base = options.rate;
    this.#schedule = scheduleOf(options, Math.ceil(steps / options.accumulate), part);
  }

  /** Learning rate at a step: schedules run over updates, so that none is at a rate that fell to zero before it. */
  rate(step: number): number {
    return this.#base * this.#schedule(Math.floor(step / this.#accumulate));
  }

  /** Whether the last of some steps updated the weights: the last of all does, by what batches are left. */
  updated(done: number): boolean {
    return done === this.#steps || done % this.#accumulate === 0;
  }

  /** Updates that some steps made, and updates in all. */
  updates(done: number): { readonly step: number; readonly steps: number } {
    const steps = Math.ceil(this.#steps / this.#accumulate);
    return { step: done === this.#steps ? steps : Math.floor(done / this.#accumulate), steps };
  }
}

/** The schedule of some updates that are a part of a longer run. */
function scheduleOf(options: ScheduleOptions, updates: number, [from, until]: readonly [number, number]): Schedule {
  const all = Math.round(updates / (until - from));
  const whole = makeSchedule(options, all);
  return (update) => whole(Math.round(from * all) + update);
}
