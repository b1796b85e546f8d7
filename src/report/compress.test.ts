import { expect, test } from "vitest";
import { makeGraph } from "../graph/graph.ts";
import type { CompressResult } from "../recipe/compress.ts";
import { proofFinding, verdictReport } from "./compress.ts";

const samples = { calibration: 10, selection: 100, confirmation: 100 };
const graph = makeGraph({ nodes: [], inputs: [], outputs: [] });

function findings(latencyInterval: readonly [low: number, high: number], target: "balanced" | "size"): string[] {
  const gain = { bytes: 0.25, latency: 0.99, latencyInterval, memory: 1 };
  const result: CompressResult = { graph, ledger: [], plans: [], gain };
  return [...verdictReport(result, { target, maxDrop: 0.01 }, "top-1", samples).findings];
}

test("a balanced result that is not measurably faster says so", () => {
  expect(findings([0.98, 1.012], "balanced")).toEqual([
    "Smaller, but no faster: 0.98 to 1.01 times the original's time.",
  ]);
  expect(findings([0.9, 0.95], "balanced")).toEqual([]);
  expect(findings([1.2, 1.3], "size")).toEqual([]);
});

test("without an interval nothing is proved, and that is said", () => {
  expect(proofFinding({ drop: 0 }, 20, 0.01)).toEqual(["20 samples are too much alike to tell how sure the loss is."]);
  expect(proofFinding({ drop: 0, interval: [-0.01, 0.005] }, 20, 0.01)).toEqual([]);
});
