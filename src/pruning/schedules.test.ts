import { expect, test } from "vitest";
import { z } from "zod";
import { pruningSchedule, pruningScheduleOptions } from "./schedules.ts";

const schema = z.object(pruningScheduleOptions);
const schedule = (options: z.input<typeof schema>, sparsity: number, steps = 1000) =>
  pruningSchedule(schema.parse(options), sparsity, steps);
const turns = (until: number, of: ReturnType<typeof schedule>): number[] =>
  Array.from({ length: until }, (_, step) => step).filter((step) => of.prunes(step));

test("polynomial decay rises by the cube of what is left", () => {
  const rising = { pruningSchedule: "polynomial", initialSparsity: 0.5 } as const;
  const { sparsityAt, settled } = schedule({ ...rising, beginStep: 100, endStep: 500, frequency: 100 }, 0.9);
  expect([0, 100, 200, 300, 500, 900].map(sparsityAt)).toEqual(
    [0.5, 0.5, 0.9 - 0.4 * 0.75 ** 3, 0.9 - 0.4 * 0.125, 0.9, 0.9].map((value) => expect.closeTo(value, 12)),
  );
  expect(settled).toBe(500);
  const linear = schedule({ ...rising, endStep: 400, pruningPower: 1 }, 0.9);
  expect(linear.sparsityAt(100)).toBeCloseTo(0.6, 12);
});

test("weights go from the begin to the end step, both included, every so often", () => {
  const kind = "polynomial";
  const all = schedule({ pruningSchedule: kind, beginStep: 50, endStep: 250, frequency: 100 }, 0.9);
  expect(turns(400, all)).toEqual([50, 150, 250]);
  // the last turn before an end step that the frequency misses
  const missed = schedule({ pruningSchedule: kind, endStep: 150, frequency: 100 }, 0.9);
  expect(turns(400, missed)).toEqual([0, 100]);
  expect(missed.settled).toBe(100);
  const constant = schedule({ pruningSchedule: "constant", beginStep: 10, frequency: 100 }, 0.8);
  expect(turns(400, constant)).toEqual([10, 110, 210, 310]);
  expect(constant.settled).toBe(10);
  expect([0, 10, 1e6].map(constant.sparsityAt)).toEqual([0.8, 0.8, 0.8]);
});

test("what is not given suits the length of the run", () => {
  const long = schedule({ pruningSchedule: "polynomial", beginStep: 20 }, 0.9, 4000);
  expect(turns(4000, long).slice(-2)).toEqual([2820, 2920]);
  expect(long.sparsityAt(2920)).toBe(0.9);
  const short = schedule({ pruningSchedule: "polynomial" }, 0.9, 60);
  expect(turns(60, short)).toEqual(Array.from({ length: 16 }, (_, i) => 3 * i));
  expect(short.settled).toBe(45);
});

test("an end before the beginning is refused, and a beginning behind the run", () => {
  const kind = "polynomial";
  expect(() => schedule({ pruningSchedule: kind, beginStep: 10, endStep: 5 }, 0.9)).toThrow(/end step 5/);
  expect(() => schedule({ pruningSchedule: kind, endStep: -1 }, 0.9)).toThrow(/end step -1/);
  expect(() => schedule({ pruningSchedule: "constant", beginStep: 10, endStep: 5 }, 0.9)).toThrow(/end step 5/);
  expect(() => schedule({ pruningSchedule: "constant", beginStep: 100 }, 0.9, 100)).toThrow(/step 100 of 100/);
});
