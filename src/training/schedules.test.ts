import { expect, test } from "vitest";
import { makeSchedule, scheduleOptions } from "./schedules.ts";

const at = (input: object, steps: number, step: number): number =>
  makeSchedule(scheduleOptions.parse(input), steps)(step);

test.each([
  [{ schedule: "constant", warmup: 0 }, 10, 5, 1],
  [{ schedule: "constant", warmup: 0.5 }, 10, 0, 0.2],
  [{ schedule: "constant", warmup: 0.5 }, 10, 4, 1],
  [{ schedule: "cosine", warmup: 0 }, 11, 0, 1],
  [{ schedule: "cosine", warmup: 0 }, 11, 5, 0.5],
  [{ schedule: "cosine", warmup: 0, finalRate: 0.1 }, 11, 10, 0.1],
  [{ schedule: "step", warmup: 0 }, 101, 49, 1],
  [{ schedule: "step", warmup: 0 }, 101, 50, 0.1],
  [{ schedule: "step", warmup: 0 }, 101, 75, 0.01],
  [{ schedule: "polynomial", warmup: 0, power: 2 }, 11, 5, 0.25],
  [{ schedule: "one-cycle" }, 101, 0, 1 / 25],
  [{ schedule: "one-cycle" }, 101, 30, 1],
  [{ schedule: "one-cycle" }, 101, 100, 1 / 250_000],
])("%j of %d steps, step %d", (input, steps, step, expected) => {
  expect(at(input, steps, step)).toBeCloseTo(expected, 6);
});

test("one step is a whole schedule", () => {
  expect(at({ schedule: "cosine", warmup: 0 }, 1, 0)).toBe(1);
});
