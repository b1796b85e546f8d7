import { expect, test } from "vitest";
import type { Dataset } from "../data/dataset.ts";
import { datasetOf } from "../data/samples.ts";
import { fail } from "../errors.ts";
import { edit } from "../graph/edit.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import type { Context, Step } from "../techniques/technique.ts";
import { normal, testContext } from "../techniques/testing.ts";
import { float32, toFloat32 } from "../tensor/tensor.ts";
import type { StepCache } from "./cache.ts";
import { type IterateRound, iterate } from "./iterate.ts";
import { type Cutter, cutter } from "./iterate-cutters.ts";
import { parseSizeTarget } from "./iterate-size.ts";
import { type Judge, makeJudge } from "./judge.ts";
import type { LedgerEntry } from "./ledger.ts";
import { splitData } from "./split.ts";

const onnx = await runtime({ threads: 1 });

const graph: Graph = makeGraph({
  nodes: [
    makeNode("MatMul", ["x", "w1"], ["h"]),
    makeNode("Relu", ["h"], ["a"]),
    makeNode("MatMul", ["a", "w2"], ["y"]),
  ],
  weights: new Map([
    ["w1", normal([16, 64])],
    ["w2", normal([64, 8], 2)],
  ]),
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 16] } }],
  outputs: [{ name: "y" }],
});

function noise(count: number): Dataset {
  const read = async (indices: readonly number[]) => {
    const rows = indices.map((i) => {
      const stream = random(i);
      return Array.from({ length: 16 }, () => stream.normal());
    });
    return { inputs: { x: float32([indices.length, 16], rows.flat()) }, size: indices.length };
  };
  return datasetOf("noise", new Map([["all", { count, read }]]));
}

const parts = await splitData(noise(250), { seed: 1 });
const context: Context = { ...testContext(onnx), data: parts.calibration };
const signal = new AbortController().signal;
const judge = (): Promise<Judge> => makeJudge(graph, { runtime: onnx, parts, seed: 1, signal, seconds: 0.01 });

function sparsityOf({ weights }: Graph): number {
  const all = [...weights.values()].flatMap((weight) => [...toFloat32(weight)]);
  return all.filter((value) => value === 0).length / all.length;
}

/** Sets a share of the weights that are not zero to zero, the smallest first; counts how often it is applied. */
function zeroing(counter = { calls: 0 }): Cutter {
  return {
    name: "weights",
    reduces: ["sparsity"],
    cut: (share) => ({
      name: "zero",
      options: { share },
      async apply(before) {
        counter.calls++;
        return edit(before, (draft) => {
          for (const [name, weight] of before.weights) {
            const values = toFloat32(weight).slice();
            const sizes = values
              .map(Math.abs)
              .filter((size) => size > 0)
              .sort();
            const least = sizes[Math.floor(share * sizes.length)]!;
            const kept = values.map((value) => (Math.abs(value) < least ? 0 : value));
            draft.weights.set(name, float32(weight.shape, kept));
          }
        });
      },
    }),
  };
}

test("cuts until the budget is used up, keeps the best, and halves steps that went too far", async () => {
  const seen: [IterateRound, Graph | undefined][] = [];
  const result = await iterate(graph, context, await judge(), {
    cutters: [cutter("weights", { minElements: 0, ends: "prune" })],
    maxDrop: 0.12,
    onRound: (round, made) => void seen.push([round, made]),
  });
  const { rounds } = result;
  expect(seen.map(([round]) => round)).toEqual(rounds);
  const kept = rounds.filter(({ outcome }) => outcome === "kept");
  const over = rounds.filter(({ outcome }) => outcome === "over budget");
  expect(kept.length).toBeGreaterThan(0);
  expect(over.length).toBeGreaterThan(2);
  for (const { verdict } of kept) expect(verdict!.drop).toBeLessThanOrEqual(0.12);
  for (const { verdict } of over) expect(verdict!.drop).toBeGreaterThan(0.12);
  expect(over.map(({ share }) => share)).toEqual([...over.map((_, i) => 0.2 / 2 ** i)]);
  expect(result.stopped).toBe("weights: smaller steps are below the tolerance");
  // sparsity of what is kept rises, and every round goes on from the best before it
  const sparsities = kept.map(({ size }) => size!.sparsity);
  expect(sparsities).toEqual(sparsities.toSorted((a, b) => a - b));
  expect(result.graph).toBe(seen.findLast(([round]) => round.round === result.chosen)![1]);
  expect(result.confirmed!.drop).toBeLessThanOrEqual(0.12);
  expect(result.ledger.length).toBe(kept.filter(({ round }) => round <= result.chosen!).length);
  const [exhibit] = result.ledger.at(-1)!.exhibits.filter(({ kind }) => kind === "progress");
  if (exhibit?.kind !== "progress") throw new Error("the rounds are not shown");
  expect(exhibit.rounds).toHaveLength(rounds.length + 1);
  expect(exhibit.rounds.filter((round) => round.kept)).toHaveLength(1);
  expect(exhibit.limit).toBeCloseTo(0.88, 12);
});

test("several cutters take turns until every target is reached", async () => {
  const result = await iterate(graph, context, await judge(), {
    cutters: [cutter("channels", { roundTo: 1 }), cutter("weights", { minElements: 0, ends: "prune" })],
    targets: ["macs=0.6", "sparsity=0.5"].map(parseSizeTarget),
    step: 0.3,
  });
  expect(result.stopped).toBe("every target is reached");
  expect(result.open).toEqual([]);
  expect(result.size!.macs).toBeLessThanOrEqual(0.6 * result.original.macs);
  // not far beyond: the last cuts are no larger than needed
  expect(result.size!.macs).toBeGreaterThan(0.55 * result.original.macs);
  expect(result.size!.sparsity).toBeGreaterThanOrEqual(0.5);
  expect(result.rounds.slice(0, 3).map((round) => round.cutter)).toEqual(["channels", "weights", "channels"]);
  expect(result.rounds.every(({ outcome }) => outcome === "kept")).toBe(true);
});

/** Finished steps in memory, for every chain of steps. */
function stepCaches(): (steps: readonly Step[]) => Promise<StepCache> {
  const kept = new Map<string, { graph: Graph; entry: LedgerEntry }>();
  return async (steps: readonly Step[]): Promise<StepCache> => {
    const key = (index: number): string => JSON.stringify(steps.slice(0, index + 1).map(({ options }) => options));
    return {
      get: async (index) => kept.get(key(index)),
      put: async (index, _, made, entry) =>
        void kept.set(key(index), { graph: made, entry: { ...entry, resumed: true } }),
    };
  };
}

test("a search that is started again takes finished rounds from the cache, and comes to the same", async () => {
  const cache = stepCaches();
  const counter = { calls: 0 };
  const stop = new AbortController();
  const best: Graph[] = [];
  const options = { cutters: [zeroing(counter)], maxDrop: 0.12, cache };
  const stopped = iterate(graph, { ...context, signal: stop.signal }, await judge(), {
    ...options,
    onRound(_, made) {
      if (made) best.push(made);
      if (best.length === 2) stop.abort("stop");
    },
  });
  // whoever interrupts has the best so far
  await expect(stopped).rejects.toBe("stop");
  expect(best).toHaveLength(2);
  const before = counter.calls;
  const resumed = await iterate(graph, context, await judge(), options);
  expect(counter.calls).toBe(resumed.rounds.length);
  expect(before).toBeGreaterThan(0);
  expect(resumed.ledger.slice(0, 2).map((entry) => entry.resumed)).toEqual([true, true]);
  const anew = await iterate(graph, context, await judge(), { cutters: [zeroing()], maxDrop: 0.12 });
  const summary = (rounds: readonly IterateRound[]) =>
    rounds.map(({ share, outcome, size, verdict }) => [share, outcome, size!.sparsity, verdict!.drop]);
  expect(summary(resumed.rounds)).toEqual(summary(anew.rounds));
});

test("a search for a time that is started again goes by the times of its first run", async () => {
  const files = new Map<string, Uint8Array>();
  const store = {
    read: async (name: string) => files.get(name),
    write: async (name: string, bytes: Uint8Array) => void files.set(name, bytes),
  };
  // times that follow from the weights, on a machine that is slower the second time
  const on = async (slowness: number): Promise<Judge> => {
    const measured = await judge();
    return {
      ...measured,
      async measure(made) {
        const { latency, ...rest } = await measured.measure(made);
        const median = slowness * (1 - 0.5 * sparsityOf(made));
        return { ...rest, latency: { ...latency!, median, quartiles: [median, median] } };
      },
    };
  };
  const counter = { calls: 0 };
  const timed = (count = { calls: 0 }): Cutter => ({ ...zeroing(count), reduces: ["ms", "sparsity"] });
  const stop = new AbortController();
  const options = { targets: [parseSizeTarget("ms=0.7")], cache: stepCaches() };
  const first = { ...context, signal: stop.signal, training: { store } };
  const cutters = [timed(counter)];
  const onRound = ({ round }: IterateRound): void => void (round === 2 && stop.abort("stop"));
  await expect(iterate(graph, first, await on(1), { ...options, cutters, onRound })).rejects.toBe("stop");
  const resumed = await iterate(graph, { ...context, training: { store } }, await on(1.25), { ...options, cutters });
  const anew = await iterate(graph, context, await on(1), { ...options, cutters: [timed()], cache: stepCaches() });
  const summary = (rounds: readonly IterateRound[]) => rounds.map(({ share, size }) => [share, size!.ms!.toFixed(12)]);
  expect(summary(resumed.rounds)).toEqual(summary(anew.rounds));
  expect(resumed.original).toEqual(anew.original);
  expect(counter.calls).toBe(resumed.rounds.length);
  expect(resumed.rounds.length).toBeGreaterThan(3);

  // of another model nothing is known
  const other = edit(graph, (draft) => void draft.weights.set("w2", normal([64, 8], 3)));
  const asked = { targets: options.targets, cutters: [timed()], rounds: 1 };
  const unlike = await iterate(other, { ...context, training: { store } }, await on(1.25), asked);
  expect(unlike.original.ms).toBe(1.25);
});

test("what the confirmation samples do not bear out gives way to the round before", async () => {
  const measured = await judge();
  const asked: Graph[] = [];
  const confirm: Judge["confirm"] = async (made) => {
    asked.push(made);
    const verdict = await measured.confirm(made);
    return asked.length === 1 ? { ...verdict, drop: 0.5 } : { ...verdict, drop: 0.01 };
  };
  const result = await iterate(graph, context, { ...measured, confirm }, { cutters: [zeroing()], maxDrop: 0.12 });
  const kept = result.rounds.filter(({ outcome }) => outcome === "kept").map(({ round }) => round);
  expect(result.unconfirmed).toEqual([kept.at(-1)]);
  expect(result.chosen).toBe(kept.at(-2));
  expect(result.graph).toBe(asked[1]);

  const never: Judge["confirm"] = async (made) => ({ ...(await measured.confirm(made)), drop: 0.5 });
  const none = await iterate(graph, context, { ...measured, confirm: never }, { cutters: [zeroing()], maxDrop: 0.12 });
  expect(none.graph).toBeUndefined();
  expect(none.unconfirmed).toHaveLength(3);
  expect(none.ledger).toEqual([]);
});

test("rounds that change nothing are no progress, and end it", async () => {
  const idle: Cutter = {
    name: "idle",
    reduces: ["bytes"],
    cut: (share) => ({ name: "idle", options: { share }, apply: async (same) => same }),
  };
  const result = await iterate(graph, context, await judge(), { cutters: [idle] });
  expect(result.rounds.map(({ share, outcome }) => [share, outcome])).toEqual([
    [0.2, "no change"],
    [0.4, "no change"],
    [0.8, "no change"],
  ]);
  expect(result.stopped).toBe("idle: nothing is left to cut");
  expect(result.graph).toBeUndefined();
});

test("without a tolerance, a target that is nearly reached is reached", async () => {
  const result = await iterate(graph, context, await judge(), {
    cutters: [zeroing()],
    targets: [parseSizeTarget("sparsity=0.19922")],
    tolerance: 0,
    rounds: 20,
  });
  expect(result.stopped).toBe("every target is reached");
  // the last of the 1536 weights takes a share that is not nothing
  const shares = result.rounds.map(({ share }) => share);
  expect(shares.slice(shares.indexOf(0.0001)).slice(0, 3)).toEqual([0.0001, 0.0002, 0.0004]);
});

test("retraining learns from the original, each round with checkpoints of its own", async () => {
  const teachers = new Set<Graph | undefined>();
  const written: string[] = [];
  const store = {
    read: async () => undefined,
    write: async (name: string) => void written.push(name),
  };
  const inner = zeroing();
  const learning: Cutter = {
    ...inner,
    async cut(share, ...rest) {
      const step = (await inner.cut(share, ...rest))!;
      return {
        ...step,
        async apply(before, world) {
          teachers.add(world.training?.teacher);
          await world.training?.store?.write("last", new Uint8Array());
          return step.apply(before, world);
        },
      };
    },
  };
  const options = { cutters: [learning], rounds: 3 };
  const { stopped } = await iterate(graph, { ...context, training: { store } }, await judge(), options);
  expect(stopped).toBe("3 rounds were allowed");
  expect(teachers).toEqual(new Set([graph]));
  expect(new Set(written).size).toBe(3);
});

test("targets that the cutters can't reach, and cutters that refuse, are refused", async () => {
  const measured = await judge();
  const asked = (by: Cutter, ...targets: readonly string[]) =>
    iterate(graph, context, measured, { cutters: [by], targets: targets.map(parseSizeTarget) });
  await expect(asked(cutter("weights"), "macs=0.5")).rejects.toThrow("cutting weights does not change macs");
  await expect(asked(cutter("channels"), "sparsity=0.5")).rejects.toThrow("Cut weights too");
  await expect(asked(cutter("channels"), "bytes=1GB")).rejects.toThrow("as small as asked for already");
  const refusing: Cutter = {
    ...zeroing(),
    cut: () => ({ name: "no", options: {}, apply: async () => fail("no", "does not want to") }),
  };
  await expect(asked(refusing, "sparsity=0.5")).rejects.toThrow("no: does not want to");
  expect(() => cutter("channels", { ratio: 0.5 })).toThrow("'ratio' is what the rounds choose");
  expect(() => cutter("channels", { imprtance: "l1" })).toThrow("Did you mean 'importance'?");
});

test("a cutter that can do no more of its own leaves what it did before", async () => {
  const inner = zeroing();
  const once: Cutter = {
    ...inner,
    cut: (share, before, world, last) => (last ? fail("once", "does it once") : inner.cut(share, before, world)),
  };
  const { stopped, rounds, graph: made } = await iterate(graph, context, await judge(), { cutters: [once] });
  expect(stopped).toBe("weights: once: does it once.");
  expect(rounds).toHaveLength(1);
  expect(made).toBeDefined();
});

test("of layers a share of those is cut that may go, as the data shows them", async () => {
  const border = (name: string) => ({
    name,
    type: { kind: "tensor", dtype: "float32", shape: ["n", 2, "h", "w"] } as const,
  });
  const names = ["a", "b", "c", "d"];
  // what comes out of the first layer of an image of one pixel is nothing
  const nodes = [makeNode("Conv", ["x", "stem"], ["h0"])];
  for (const [i, name] of names.entries()) {
    nodes.push(makeNode("Conv", [`h${i}`, name], [`f${i}`], {}, `${name}/conv`));
    nodes.push(makeNode("Add", [`h${i}`, `f${i}`], [i === 3 ? "y" : `h${i + 1}`], {}, `${name}/sum`));
  }
  const weights = new Map([
    ["stem", normal([2, 2, 3, 3])],
    ...names.map((name) => [name, normal([2, 2, 1, 1])] as const),
  ]);
  const network = makeGraph({ nodes, weights, inputs: [border("x")], outputs: [border("y")] });
  const read = async (indices: readonly number[]) => ({
    inputs: { x: normal([indices.length, 2, 6, 6]) },
    size: indices.length,
  });
  const images = { ...context, data: datasetOf("images", new Map([["all", { count: 8, read }]])) };
  const countOf = async (share: number, options = {}) =>
    (await cutter("layers", options).cut(share, network, images))?.options.count;
  expect(await countOf(0.5)).toBe(2);
  expect(await countOf(0.5, { exclude: ["a/*", "b/*"] })).toBe(1);
  expect(await countOf(0.5, { exclude: ["*/sum"] })).toBeUndefined();
});

test("of weights a share of those is cut that are not zero yet", async () => {
  const pruned = await cutter("weights").cut(0.2, graph, context);
  expect(pruned?.options.sparsity).toBeCloseTo(0.2, 9);
  const sparse = edit(graph, (draft) => {
    for (const [name, weight] of graph.weights) {
      const kept = toFloat32(weight).map((value, i) => (i % 5 < 3 ? 0 : value));
      draft.weights.set(name, float32(weight.shape, kept));
    }
  });
  const further = await cutter("weights").cut(0.2, sparse, context);
  expect(further?.options.sparsity).toBeCloseTo(1 - 0.4 * 0.8, 3);
  const next = await cutter("weights").cut(0.2, sparse, context, further);
  expect(next?.options.sparsity).toBeCloseTo(1 - 0.4 * 0.8 * 0.8, 3);
});
