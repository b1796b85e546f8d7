import { expect, test } from "vitest";
import type { Step } from "../techniques/technique.ts";
import type { Cutter } from "./iterate-cutters.ts";
import { type Lane, nextShare, noteKept, noteTooLittle, noteTooMuch, openTargets, startLane } from "./iterate-lanes.ts";
import { type ModelSize, parseSizeTarget } from "./iterate-size.ts";

const step: Step = { name: "cut", options: {}, apply: async (graph) => graph };
const cutter: Cutter = { name: "channels", reduces: ["macs", "bytes"], cut: () => step };
const size = (macs: number, bytes = macs): ModelSize => ({ sparsity: 0, macs, parameters: macs, bytes });
const original = size(100);
const share = (lane: Lane, macs: number, ...targets: readonly string[]): number | undefined => {
  const open = openTargets(lane, targets.map(parseSizeTarget), size(macs), original);
  return nextShare(lane, open, size(macs), original, 0.02);
};

test("a step, less where the target is near, at least the tolerance", () => {
  const lane = startLane(cutter, 0.2);
  expect(share(lane, 100)).toBe(0.2);
  expect(share(lane, 100, "macs=0.5")).toBe(0.2);
  expect(share(lane, 55, "macs=0.5")).toBeCloseTo(1 - 50 / 55, 4);
  expect(share(lane, 50.1, "macs=0.5")).toBe(0.02);
  // the farther of two targets counts, and one that is reached or another's does not
  expect(share(lane, 55, "macs=0.5", "bytes=0.45")).toBeCloseTo(1 - 45 / 55, 4);
  expect(openTargets(lane, ["macs=0.5", "sparsity=0.5"].map(parseSizeTarget), size(50), original)).toEqual([]);
});

test("what the last cut did foretells what the next one will", () => {
  const lane = startLane(cutter, 0.5);
  // 20 % cut where 36 % went: the square
  noteKept([lane], lane, { step, share: 0.2, before: size(100), after: size(64) });
  expect(share(lane, 64, "macs=0.5")).toBeCloseTo(1 - Math.sqrt(50 / 64), 4);
});

test("a cut that went too far is halved until the tolerance, one that changed nothing doubled", () => {
  const lane = startLane(cutter, 0.16);
  noteTooMuch(lane, 0.16, 0.02, "a");
  expect(share(lane, 100)).toBe(0.08);
  noteTooLittle(lane, 0.08);
  expect(share(lane, 100)).toBeUndefined();
  expect(lane.done).toBe("smaller cuts change nothing");

  const other = startLane(cutter, 0.16);
  noteTooLittle(other, 0.16);
  expect(share(other, 100)).toBe(0.32);
  // a kept cut of any cutter makes another model, of which nothing is known
  noteKept([lane, other], lane, { step, share: 0.1, before: size(100), after: size(90) });
  expect(share(other, 90)).toBe(0.16);
  for (const tried of [0.16, 0.08, 0.04]) {
    expect(other.done).toBeUndefined();
    noteTooMuch(other, tried, 0.02, "b");
  }
  expect(other.step).toBe(0.02);
  noteTooMuch(other, 0.02, 0.02, "b");
  expect(other.done).toBe("smaller steps are below the tolerance");
});

test("where even the largest cut changes nothing, nothing is left", () => {
  const lane = startLane(cutter, 0.3);
  for (const tried of [0.3, 0.6]) noteTooLittle(lane, tried);
  expect(share(lane, 100)).toBeUndefined();
  expect(lane.done).toBe("nothing is left to cut");
});
