import { expect, test } from "vitest";
import { graphDigest } from "../formats/digest.ts";
import { edit } from "../graph/edit.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import type { Context, Step } from "../techniques/technique.ts";
import { float32 } from "../tensor/tensor.ts";
import { type StepCache, stepKeys } from "./cache.ts";
import type { LedgerEntry } from "./ledger.ts";
import { run } from "./run.ts";

const type = { kind: "tensor", dtype: "float32", shape: [2] } as const;
const graph = makeGraph({
  inputs: [{ name: "x", type }],
  outputs: [{ name: "y", type }],
  nodes: [makeNode("Mul", ["x", "w"], ["y"])],
  weights: new Map([["w", float32([2], [1, 2])]]),
});

const relu: Step = {
  name: "relu",
  options: {},
  apply: async (before, context) => {
    context.skip("Mul_y", `random ${context.random.next().toFixed(6)}`);
    context.show({ kind: "note", text: `${before.nodes.length} nodes` });
    return edit(before, (draft) => {
      const last = before.nodes.at(-1)!;
      const name = draft.fresh("t");
      draft.replace(last, { ...last, outputs: [name] }, makeNode("Relu", [name], ["y"], {}, draft.fresh("relu")));
    });
  },
};

async function context(signal = new AbortController().signal): Promise<Context> {
  const engine = await runtime({ threads: 1 });
  return { runtime: engine, random: random(1), log() {}, progress() {}, skip() {}, show() {}, signal };
}

const measure = async (g: Graph) => ({ bytes: 100 * g.nodes.length, scores: [] });

test("every step is measured, its skips, exhibits and changes recorded", async () => {
  const seen: LedgerEntry[] = [];
  const { ledger, graph: result } = await run(graph, [relu], await context(), {
    measure,
    onEntry: (entry) => void seen.push(entry),
  });
  expect(result.nodes.map(({ op }) => op)).toEqual(["Mul", "Relu"]);
  expect(ledger).toEqual(seen);
  expect(ledger[0]).toMatchObject({
    step: "relu",
    before: { bytes: 100 },
    after: { bytes: 200 },
    changes: { nodesBefore: 1, nodesAfter: 2, operators: { Relu: 1 }, weightsChanged: 0 },
    resumed: false,
  });
  expect(ledger[0]!.skips).toHaveLength(1);
  expect(ledger[0]!.exhibits).toEqual([{ kind: "note", text: "1 nodes" }]);
});

test("steps draw from streams of their own, so the same seed gives the same result", async () => {
  const once = await run(graph, [relu, relu], await context(), { measure });
  const again = await run(graph, [relu, relu], await context(), { measure });
  const reasons = once.ledger.map(({ skips }) => skips[0]!.reason);
  expect(again.ledger.map(({ skips }) => skips[0]!.reason)).toEqual(reasons);
  expect(reasons[0]).not.toBe(reasons[1]);
});

test("kept steps are not run again", async () => {
  const kept = new Map<number, { graph: Graph; entry: LedgerEntry }>();
  const cache: StepCache = {
    get: async (index) => kept.get(index),
    put: async (index, _, result, entry) => void kept.set(index, { graph: result, entry: { ...entry, resumed: true } }),
  };
  await run(graph, [relu], await context(), { measure, cache });
  let calls = 0;
  const counting: Step = {
    ...relu,
    apply: async (g) => {
      calls++;
      return g;
    },
  };
  const { ledger } = await run(graph, [counting, counting], await context(), { measure, cache });
  expect(calls).toBe(1);
  expect(ledger.map(({ resumed }) => resumed)).toEqual([true, false]);
  expect(ledger[0]!.exhibits).toEqual([{ kind: "note", text: "1 nodes" }]);
});

test("what is kept is scored anew, its times are those of then", async () => {
  const kept = new Map<number, { graph: Graph; entry: LedgerEntry }>();
  const cache: StepCache = {
    get: async (index) => kept.get(index),
    put: async (index, _, result, entry) => void kept.set(index, { graph: result, entry: { ...entry, resumed: true } }),
  };
  const by = (metric: string, median: number) => async (g: Graph) => ({
    bytes: 1,
    scores: [{ metric, value: g.nodes.length, better: "higher" as const, samples: 1 }],
    latency: { median, quartiles: [median, median] as const, runs: 1, batch: 1 },
  });
  await run(graph, [relu], await context(), { measure: by("top-1", 5), cache });
  const { ledger } = await run(graph, [relu], await context(), { measure: by("f1", 7), cache });
  expect(ledger[0]).toMatchObject({
    resumed: true,
    before: { scores: [{ metric: "f1", value: 1 }], latency: { median: 5 } },
    after: { scores: [{ metric: "f1", value: 2 }], latency: { median: 5 } },
  });
});

test("a broken graph and an aborted signal end the run", async () => {
  const cut: Step = { ...relu, name: "cut", apply: async (before) => ({ ...before, nodes: [] }) };
  await expect(run(graph, [cut], await context(), { measure })).rejects.toThrow("cut: the graph is not valid: ");
  await expect(run(graph, [relu], await context(AbortSignal.abort("stop")), { measure })).rejects.toBe("stop");
});

test("keys depend on the model, the seed and every step so far", async () => {
  const engine = await runtime({ threads: 1 });
  const model = await graphDigest(graph);
  const parts = { model, data: "", runtime: engine, seed: 0 };
  const keys = await stepKeys(parts, [relu, relu]);
  expect(new Set(keys).size).toBe(2);
  expect(await stepKeys(parts, [relu, relu])).toEqual(keys);
  expect((await stepKeys({ ...parts, seed: 1 }, [relu]))[0]).not.toBe(keys[0]);
  expect((await stepKeys(parts, [{ ...relu, options: { a: 1 } }, relu]))[1]).not.toBe(keys[1]);
  const other = edit(graph, (draft) => void draft.weights.set("w", float32([2], [1, 3])));
  expect(await graphDigest(other)).not.toBe(model);
});
