import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { lazyTensor } from "../tensor/tensor.ts";
import { placeWeights } from "./node-place.ts";

test("a weight that can't be read leaves no temporary file", () => {
  const folder = mkdtempSync(join(tmpdir(), "pare-test-"));
  vi.stubEnv("TMPDIR", folder);
  const gone = lazyTensor("float32", [2 ** 25], () => {
    throw new Error("the file is gone");
  });
  const graph = makeGraph({
    nodes: [makeNode("Identity", ["w"], ["y"])],
    inputs: [],
    outputs: [{ name: "y" }],
    weights: new Map([["w", gone]]),
  });
  try {
    expect(() => placeWeights(graph)).toThrow("the file is gone");
    expect(readdirSync(folder)).toEqual([]);
  } finally {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  }
});
