import { expect, test } from "vitest";
import { pruningSchedule, pruningScheduleOptions } from "./schedules.ts";

const schedule = (options: Parameters<typeof pruningScheduleOptions.parse>[0]) =>
  pruningSchedule(pruningScheduleOptions.parse(options));

test("polynomial decay rises by the cube of what is left", () => {
  const at = schedule({ initialSparsity: 0.5, finalSparsity: 0.9, beginStep: 100, endStep: 500 });
  expect([0, 100, 200, 300, 500, 900].map((step) => at(step).sparsity)).toEqual(
    [0.5, 0.5, 0.9 - 0.4 * 0.75 ** 3, 0.9 - 0.4 * 0.125, 0.9, 0.9].map((value) => expect.closeTo(value, 12)),
  );
  expect(schedule({ initialSparsity: 0.5, finalSparsity: 0.9, endStep: 400, power: 1 })(100).sparsity).toBeCloseTo(
    0.6,
    12,
  );
});

test("masks are made anew from the begin to the end step, both included, every so often", () => {
  const at = schedule({ beginStep: 50, endStep: 250, frequency: 100 });
  const turns = (until: number, of: typeof at): number[] =>
    Array.from({ length: until }, (_, step) => step).filter((step) => of(step).prune);
  expect(turns(400, at)).toEqual([50, 150, 250]);
  // the last turn before an end step that the frequency misses
  expect(turns(400, schedule({ beginStep: 0, endStep: 150, frequency: 100 }))).toEqual([0, 100]);
  const constant = schedule({ pruningSchedule: "constant", finalSparsity: 0.8, beginStep: 10, frequency: 100 });
  expect(turns(400, constant)).toEqual([10, 110, 210, 310]);
  expect([0, 10, 1e6].map((step) => constant(step).sparsity)).toEqual([0.8, 0.8, 0.8]);
});

test("an end before the beginning is refused", () => {
  expect(() => schedule({ beginStep: 10, endStep: 5 })).toThrow(/end step 5/);
  expect(() => schedule({})).toThrow(/end step -1/);
  expect(() => schedule({ pruningSchedule: "constant", beginStep: 10, endStep: 5 })).toThrow(/end step 5/);
});
