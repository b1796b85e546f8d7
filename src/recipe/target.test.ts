import { expect, test } from "vitest";
import type { Gain } from "./judge.ts";
import { objective, shortcoming } from "./target.ts";

const gain = (
  bytes: number,
  latency: number,
  latencyInterval: readonly [number, number] = [latency, latency],
): Gain => ({
  bytes,
  latency,
  latencyInterval,
  memory: bytes,
});

test("balanced, halving the time is worth as much as quartering the file", () => {
  expect(objective(gain(1, 0.5), "balanced")).toBe(objective(gain(0.25, 1), "balanced"));
  expect(objective(gain(0.25, 0.7), "size")).toBe(0.25);
  expect(objective(gain(0.25, 0.7), "latency")).toBe(0.7);
});

test("for latency the whole interval must be below 1, and the slowest node is named", () => {
  expect(shortcoming(gain(0.3, 0.9, [0.85, 0.95]), "latency", [])).toBeUndefined();
  const slower = [{ node: "conv1", op: "Conv", before: 0.1, after: 0.4 }];
  const reason = shortcoming(gain(0.3, 0.98, [0.9, 1.05]), "latency", slower);
  expect(reason).toBe(
    "not measurably faster: 0.98 times the original's time [0.90, 1.05]; 'conv1' (Conv) went from 0.100 to 0.400 ms",
  );
});

test("balanced, neither may get worse", () => {
  expect(shortcoming(gain(0.3, 1.2, [1.1, 1.3]), "balanced", [])).toMatch(/^slower: /);
  expect(shortcoming(gain(1.1, 0.5), "balanced", [])).toMatch(/^larger: /);
  expect(shortcoming(gain(0.3, 1.02, [0.97, 1.07]), "balanced", [])).toBeUndefined();
});

test("next to nothing is no gain", () => {
  expect(shortcoming(gain(0.995, 1), "size", [])).toBe("no gain: 0.995 of the original");
});
