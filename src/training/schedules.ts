import { z } from "zod";
import { didYouMean, fail } from "../errors.ts";

/** A learning-rate schedule: the factor on the base rate at a step, steps counted from 0. */
export type Schedule = (step: number) => number;

/** Options of every schedule; each reads what it knows. */
export const scheduleOptions = z.object({
  schedule: z
    .enum(["constant", "step", "cosine", "polynomial", "one-cycle"])
    .default("cosine")
    .describe("how the learning rate moves over the steps"),
  warmup: z.number().min(0).max(1).default(0.05).describe("share of the steps over which the rate rises from 0"),
  finalRate: z.number().min(0).max(1).default(0).describe("factor on the rate at the last step (cosine, polynomial)"),
  power: z.number().positive().default(1).describe("exponent of the polynomial schedule; 1 is linear"),
  milestones: z
    .array(z.number().min(0).max(1))
    .default([0.5, 0.75])
    .describe("shares of the steps at which the step schedule drops"),
  dropFactor: z.number().positive().max(1).default(0.1).describe("factor at each milestone"),
});

/** Options of a schedule, defaults filled in. */
export type ScheduleOptions = z.output<typeof scheduleOptions>;

type Shape = (t: number, options: ScheduleOptions) => number;

/** The schedules, as functions of the share t of the steps after the warm-up that is done. */
export const schedules: Readonly<Record<ScheduleOptions["schedule"], Shape>> = {
  constant: () => 1,
  step: (t, { milestones, dropFactor }) => dropFactor ** milestones.filter((m) => t >= m).length,
  /** f + (1 - f) (1 + cos πt) / 2 (Loshchilov and Hutter 2017). */
  cosine: (t, { finalRate }) => finalRate + ((1 - finalRate) * (1 + Math.cos(Math.PI * t))) / 2,
  polynomial: (t, { finalRate, power }) => finalRate + (1 - finalRate) * (1 - t) ** power,
  /** Up for 30 % of the steps from 1/25, then down to 1/10000 of that, both by half a cosine (Smith and Topin 2018). */
  "one-cycle": (t) => {
    const between = (from: number, to: number, share: number): number =>
      to + ((from - to) * (1 + Math.cos(Math.PI * share))) / 2;
    return t < 0.3 ? between(1 / 25, 1, t / 0.3) : between(1, 1 / 250_000, (t - 0.3) / 0.7);
  },
};

/**
 * The schedule over a number of steps. One-cycle brings its own warm-up.
 *
 * @throws PareError for an unknown name
 */
export function makeSchedule(options: ScheduleOptions, steps: number): Schedule {
  const shape = schedules[options.schedule];
  if (!shape) fail("schedule", `unknown '${options.schedule}'`, didYouMean(options.schedule, Object.keys(schedules)));
  const warm = options.schedule === "one-cycle" ? 0 : Math.round(options.warmup * steps);
  return (step) => {
    if (step < warm) return (step + 1) / warm;
    const rest = Math.max(1, steps - warm - 1);
    return shape(Math.min(1, (step - warm) / rest), options);
  };
}
