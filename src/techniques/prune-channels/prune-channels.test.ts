import { describe, expect, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { type Graph, makeGraph, makeNode } from "../../graph/graph.ts";
import { assertValid } from "../../graph/validate.ts";
import { runtime } from "../../platform/node.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { Exhibit } from "../exhibit.ts";
import { normal, outputOf, type Skip, testContext } from "../testing.ts";
import { pruneChannels } from "./index.ts";

const ort = await runtime({ threads: 1 });

function samplesOf(count: number): Dataset {
  return {
    name: "made up",
    splits: ["all"],
    size: () => count,
    async *batches({ batch, limit = count }) {
      for (let at = 0; at < Math.min(count, limit); at += batch) {
        yield { inputs: { x: normal([Math.min(batch, count - at), 3, 8, 8], at + 1) }, size: batch };
      }
    },
  };
}

/** conv1 -> relu -> conv2 (depthwise) -> conv3 -> pool -> dense. */
function network(): Graph {
  const weights = new Map<string, Tensor>([
    ["w1", normal([16, 3, 3, 3], 1)],
    ["b1", normal([16], 2)],
    ["w2", normal([16, 1, 3, 3], 3)],
    ["w3", normal([24, 16, 1, 1], 4)],
    ["w4", normal([24, 5], 5)],
  ]);
  const pads = [1, 1, 1, 1];
  const nodes = [
    makeNode("Conv", ["x", "w1", "b1"], ["h1"], { pads }, "conv1"),
    makeNode("Relu", ["h1"], ["a1"]),
    makeNode("Conv", ["a1", "w2"], ["h2"], { pads, group: 16 }, "conv2"),
    makeNode("Relu", ["h2"], ["a2"]),
    makeNode("Conv", ["a2", "w3"], ["h3"], {}, "conv3"),
    makeNode("Relu", ["h3"], ["a3"]),
    makeNode("GlobalAveragePool", ["a3"], ["p"]),
    makeNode("Flatten", ["p"], ["f"]),
    makeNode("Gemm", ["f", "w4"], ["y"], {}, "dense"),
  ];
  const value = (name: string, shape: readonly (string | number)[]) => ({
    name,
    type: { kind: "tensor", dtype: "float32", shape } as const,
  });
  return makeGraph({ nodes, weights, inputs: [value("x", ["n", 3, 8, 8])], outputs: [value("y", ["n", 5])] });
}

const shapes = (graph: Graph): Record<string, readonly number[]> =>
  Object.fromEntries([...graph.weights].slice(0, 5).map(([name, { shape }]) => [name, shape]));
const feeds = { x: normal([2, 3, 8, 8], 77) };

describe("prune-channels", () => {
  test("cuts channels out of every weight that shares them, and says what went and what must stay", async () => {
    const skips: Skip[] = [];
    const lines: string[] = [];
    const context = { ...testContext(ort, skips), log: (line: string) => lines.push(line) };
    const cut = await pruneChannels({ ratio: 0.5, of: "units" }).apply(network(), context);
    assertValid(cut);
    expect(shapes(cut)).toEqual({ w1: [8, 3, 3, 3], b1: [8], w2: [8, 1, 3, 3], w3: [12, 8, 1, 1], w4: [12, 5] });
    expect((await outputOf(ort, cut, feeds)).length).toBe(10);
    expect(lines).toContain("w1[0]: 16 -> 8");
    expect(lines.at(-1)).toBe("MACs 61,560 -> 24,636 (-60.0 %), parameters 1,096 -> 452 (-58.8 %)");
    expect(skips).toEqual([
      { node: "w1[1]", reason: "input 'x'" },
      { node: "w4[1]", reason: "output 'y'" },
    ]);
  });

  test("reaches a share of the MACs; the smallest norms go", async () => {
    const graph = network();
    const values = toFloat32(graph.weights.get("w1")!).slice();
    values.fill(1e-4, 3 * 27, 4 * 27);
    const weights = new Map(graph.weights).set("w1", float32([16, 3, 3, 3], values));
    const weak = toFloat32(weights.get("w2")!).slice();
    weak.fill(1e-4, 3 * 9, 4 * 9);
    weights.set("w2", float32([16, 1, 3, 3], weak));
    const cut = await pruneChannels({ ratio: 0.05 }).apply({ ...graph, weights }, testContext(ort));
    const left = toFloat32(cut.weights.get("w1")!);
    expect(cut.weights.get("w1")!.shape[0]).toBe(15);
    expect([...left].every((v, i) => v === values[i < 81 ? i : i + 27])).toBe(true);
  });

  test("chooses groups by the layers that make them", async () => {
    const of = { ratio: 0.5, of: "units" } as const;
    const context = testContext(ort);
    const kept = shapes(await pruneChannels({ ...of, exclude: ["conv1"] }).apply(network(), context));
    expect([kept.w1![0], kept.w3![0]]).toEqual([16, 12]);
    const only = shapes(await pruneChannels({ ...of, include: ["conv1"] }).apply(network(), context));
    expect([only.w1![0], only.w3![0]]).toEqual([8, 24]);
    // the depthwise convolution makes channels too
    const both = shapes(await pruneChannels({ ...of, exclude: ["conv2"] }).apply(network(), context));
    expect([both.w1![0], both.w3![0]]).toEqual([16, 12]);
  });

  test("gives groups shares of their own, by layer or by the group's name", async () => {
    const options = { ratio: 0, of: "units", groupRatio: { conv1: 0.25, "w3*": 0.75 } } as const;
    const cut = await pruneChannels(options).apply(network(), testContext(ort));
    expect(shapes(cut)).toMatchObject({ w1: [12, 3, 3, 3], w3: [6, 12, 1, 1] });
    await expect(pruneChannels({ groupRatio: { conv: 0.5 } }).apply(network(), testContext(ort))).rejects.toThrow(
      "no group that can be cut fits --group-ratio 'conv'. Did you mean",
    );
  });

  test("with data, repairs bring the outputs nearer to the original's", async () => {
    const graph = network();
    const original = await outputOf(ort, graph, feeds);
    const error = async (repair: "auto" | "none" | "mean" | "regression" | "refit", count = 40): Promise<number> => {
      const context = { ...testContext(ort), data: samplesOf(count) };
      const cut = await pruneChannels({ ratio: 0.4, repair }).apply(graph, context);
      const y = await outputOf(ort, cut, feeds);
      return y.reduce((sum, v, i) => sum + (v - original[i]!) ** 2, 0);
    };
    const [none, mean, regression] = [await error("none"), await error("mean"), await error("regression")];
    expect(mean).toBeLessThan(none / 2);
    expect(regression).toBeLessThan(mean);
    const refit = await error("refit");
    expect(refit).toBeLessThan(regression);
    expect(await error("auto")).toBe(refit);
    // fewer samples than a batch
    expect(await error("mean", 5)).toBeLessThan(none);
  });

  test("takes the batch from the inputs that are fed, not from weights that are listed as inputs", async () => {
    const graph = network();
    const [w1] = graph.weights;
    const value = { name: "w1", type: { kind: "tensor", dtype: "float32", shape: [...w1![1].shape] } as const };
    const lines: string[] = [];
    const context = { ...testContext(ort), data: samplesOf(4), log: (line: string) => lines.push(line) };
    await pruneChannels().apply({ ...graph, inputs: [value, ...graph.inputs] }, context);
    expect(lines.at(-1)).toMatch(/^\d layers make up/);
    // of one sample, whatever the batch
    expect(lines.at(-2)).toMatch(/^MACs 61,560 -> /);
  });

  test("finds sizes for free dimensions where there is no data", async () => {
    const graph = network();
    const [conv1, ...rest] = graph.nodes;
    const shape = ["n", 3, "height", "width"];
    const inputs = [{ name: "x", type: { kind: "tensor", dtype: "float32", shape } as const }];
    // a kernel of 3 x 3 without padding does not fit into one pixel
    const free = { ...graph, inputs, nodes: [{ ...conv1!, attributes: {} }, ...rest] };
    const lines: string[] = [];
    const context = { ...testContext(ort), log: (line: string) => lines.push(line) };
    await pruneChannels({ ratio: 0.5, of: "units" }).apply(free, context);
    // 14 x 14 positions of 16 are left
    expect(lines.at(-1)).toMatch(
      new RegExp(`^MACs ${(196 * (16 * 27 + 16 * 9 + 16 * 24) + 120).toLocaleString("en-US")} -> `),
    );
  });

  test("shows all groups, with what went and why others stay", async () => {
    const shown: Exhibit[] = [];
    const context = { ...testContext(ort), show: (exhibit: Exhibit) => shown.push(exhibit) };
    await pruneChannels({ ratio: 0.5, of: "units", exclude: ["conv3"] }).apply(network(), context);
    const [exhibit] = shown;
    expect(exhibit?.kind === "groups" && exhibit.groups).toEqual([
      { name: "w1[1]", members: ["conv1"], before: 3, after: 3, frozen: "input 'x'" },
      { name: "w1[0]", members: ["conv1", "conv2", "conv3"], before: 16, after: 8 },
      { name: "w3[0]", members: ["conv3", "dense"], before: 24, after: 24 },
      { name: "w4[1]", members: ["dense"], before: 5, after: 5, frozen: "output 'y'" },
    ]);
  });

  test("cuts by measured time", async () => {
    const lines: string[] = [];
    const context = { ...testContext(ort), log: (line: string) => lines.push(line) };
    const cut = await pruneChannels({ ratio: 0.2, of: "latency", allocation: "latency" }).apply(network(), context);
    assertValid(cut);
    expect(lines.some((line) => /measured ms of layers \S+ -> \S+ \(-\d/.test(line))).toBe(true);
  });

  test("continues training after a cut by measured time, without measuring anew", async () => {
    const files = new Map<string, Uint8Array>();
    const store = {
      read: async (name: string) => files.get(name),
      write: async (name: string, bytes: Uint8Array) => void files.set(name, bytes),
    };
    const options = { ratio: 0.4, allocation: "latency", epochs: 2, batch: 8, holdOut: 0 } as const;
    const run = async (stopAt: number) => {
      const stop = new AbortController();
      const seen: string[] = [];
      const progress = (done: number, _: number, unit?: string): void => {
        seen.push(`${unit} ${done}`);
        if (unit === "steps" && done === stopAt) stop.abort();
      };
      // a runtime of its own has measured nothing yet
      const own = await runtime({ threads: 1 });
      const context = { ...testContext(own), data: samplesOf(32), training: { store }, progress, signal: stop.signal };
      const cut = await Promise.allSettled([pruneChannels(options).apply(network(), context)]);
      return { cut: cut[0], seen };
    };
    const first = await run(3);
    expect(first.cut.status).toBe("rejected");
    expect(first.seen.some((line) => line.startsWith("layer shapes"))).toBe(true);
    const second = await run(-1);
    expect(second.cut.status).toBe("fulfilled");
    expect(second.seen.some((line) => line.startsWith("layer shapes"))).toBe(false);
    expect(second.seen.find((line) => line.startsWith("steps"))).not.toBe("steps 1");
    files.set("layer-times", Uint8Array.of(1));
    const damaged = await run(-1);
    expect(damaged.cut).toMatchObject({ reason: { message: expect.stringContaining("layer-times: is damaged") } });
  });

  test.each(["group-lasso", "growing"] as const)("trains before the cut (%s) and after it", async (regularize) => {
    const shown: Exhibit[] = [];
    const lines: string[] = [];
    const context = {
      ...testContext(ort),
      data: samplesOf(32),
      show: (exhibit: Exhibit) => shown.push(exhibit),
      log: (line: string) => lines.push(line),
    };
    const options = { ratio: 0.3, regularize, regularizeEpochs: 2, epochs: 1, batch: 8, repair: "none" } as const;
    const cut = await pruneChannels(options).apply(network(), context);
    assertValid(cut);
    expect(cut.weights.get("w1")!.shape[0]).toBeLessThan(16);
    const trainings = shown.flatMap((exhibit) => (exhibit.kind === "training" ? [exhibit] : []));
    expect(trainings.map(({ name, epochs }) => [name, epochs.length])).toEqual([
      [regularize, 2],
      [undefined, 1],
    ]);
    expect(shown.findIndex(({ kind }) => kind === "groups")).toBe(regularize === "growing" ? 0 : 1);
  });

  test("says which options need data", async () => {
    const apply = (options: Parameters<typeof pruneChannels>[0]) =>
      pruneChannels(options).apply(network(), testContext(ort));
    await expect(apply({ epochs: 1 })).rejects.toThrow("training needs data");
    await expect(apply({ regularize: "growing" })).rejects.toThrow("regularize growing needs data");
    for (const repair of ["mean", "regression", "refit", "batch-norm"] as const) {
      await expect(apply({ repair })).rejects.toThrow(`repair ${repair} needs data`);
    }
    for (const repair of ["auto", "none"] as const) expect((await apply({ repair })).nodes).toHaveLength(9);
  });

  test("needs data for importances that are measured", async () => {
    await expect(pruneChannels({ importance: "taylor" }).apply(network(), testContext(ort))).rejects.toThrow(
      "importance taylor needs data",
    );
  });
});
