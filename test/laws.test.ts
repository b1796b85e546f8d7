import { describe, expect, test } from "vitest";
import type { Dataset } from "../src/data/dataset.ts";
import { requiredInputs, syntheticFeeds } from "../src/data/synthetic.ts";
import { messageOf } from "../src/errors.ts";
import { encodeOnnx, readOnnx } from "../src/formats/onnx/index.ts";
import { memorySource } from "../src/formats/source.ts";
import { type Graph, nodeLabel, opKey } from "../src/graph/graph.ts";
import { validate } from "../src/graph/validate.ts";
import { runtime } from "../src/platform/node.ts";
import type { Tensors } from "../src/platform/runtime.ts";
import { random } from "../src/random.ts";
import type { Exhibit } from "../src/techniques/exhibit.ts";
import { simplify, techniques } from "../src/techniques/index.ts";
import type { Context, Technique } from "../src/techniques/technique.ts";
import { float32, toFloat32 } from "../src/tensor/tensor.ts";
import { networks } from "./graphs.ts";

// What holds of every technique, on every kind of network. A new row of the table of techniques is covered as it is.

const onnx = await runtime({ threads: 1 });
const rows = 2;

interface Skip {
  readonly node: string;
  readonly reason: string;
}

function contextFor(graph: Graph, skips: Skip[] = [], exhibits: Exhibit[] = []): Context {
  return {
    runtime: onnx,
    data: samplesFor(graph),
    random: random(7),
    log() {},
    progress() {},
    skip: (node, reason) => void skips.push({ node, reason }),
    show: (exhibit) => void exhibits.push(exhibit),
    signal: new AbortController().signal,
  };
}

/** Twelve made-up samples, the same each time. */
function samplesFor(graph: Graph): Dataset {
  const total = 12;
  return {
    name: "made up",
    splits: ["all"],
    size: () => total,
    async *batches({ batch, limit = total, skip = 0 }) {
      const end = Math.min(total, skip + limit);
      for (let at = skip; at + batch <= end; at += batch) {
        yield { inputs: syntheticFeeds(graph, random(100 + at), { batch }), size: batch };
      }
    },
  };
}

async function run(graph: Graph): Promise<Tensors> {
  const session = await onnx.open(graph);
  try {
    return await session.run(syntheticFeeds(graph, random(5), { batch: rows }));
  } finally {
    await session.release();
  }
}

const signature = (graph: Graph): unknown => ({
  inputs: requiredInputs(graph).map(({ name, type }) => ({ name, type })),
  outputs: graph.outputs.map(({ name, type }) => ({ name, type })),
});
const shapes = (values: Tensors): unknown =>
  Object.entries(values).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
const labels = (graph: Graph): string[] => graph.nodes.map((node) => `${nodeLabel(node)} ${opKey(node)}`);
const selective = (technique: Technique): boolean =>
  ["include", "exclude"].every((key) => key in technique.options.shape);

describe.each(Object.values(techniques).map((technique) => ({ name: technique.name, technique })))(
  "$name",
  ({ technique }) => {
    describe.each(Object.entries(networks))("%s", (_, make) => {
      test("leaves its input alone, keeps the signature, is repeatable, survives saving", async () => {
        const graph = make();
        const before = encodeOnnx(graph);
        const exhibits: Exhibit[] = [];
        const result = await technique().apply(graph, contextFor(graph, [], exhibits));
        const bytes = encodeOnnx(result);
        expect(encodeOnnx(graph)).toEqual(before);
        expect(validate(result).filter(({ level }) => level === "error")).toEqual([]);
        expect(signature(result)).toEqual(signature(graph));
        const exhibitsAgain: Exhibit[] = [];
        expect(encodeOnnx(await technique().apply(make(), contextFor(graph, [], exhibitsAgain)))).toEqual(bytes);
        expect(exhibitsAgain).toEqual(exhibits);
        expect(JSON.parse(JSON.stringify(exhibits))).toStrictEqual(exhibits);
        const again = readOnnx(memorySource(bytes));
        expect(encodeOnnx(again)).toEqual(bytes);
        const outputs = await run(result);
        expect(shapes(outputs)).toEqual(shapes(await run(graph)));
        for (const [name, value] of Object.entries(await run(again))) {
          expect(toFloat32(value)).toEqual(toFloat32(outputs[name]!));
          expect(toFloat32(value).every(Number.isFinite)).toBe(true);
        }
      });

      if (technique.identity)
        test("changes nothing at zero strength", async () => {
          const graph = make();
          const result = await technique(technique.identity).apply(graph, contextFor(graph));
          expect(encodeOnnx(result)).toEqual(encodeOnnx(graph));
        });

      if (selective(technique))
        test("changes no node but those included", async () => {
          const graph = make();
          const [first] = graph.nodes;
          const chosen = async (options: Record<string, unknown>): Promise<string[]> =>
            labels(await technique(options).apply(graph, contextFor(graph)));
          const untouched = await chosen({ exclude: ["*"] });
          expect(labels(graph)).toEqual(expect.arrayContaining(untouched));
          const label = `${nodeLabel(first!)} ${opKey(first!)}`;
          // other techniques may simplify the whole graph before they choose nodes
          const kept =
            technique.name === "simplify" ? untouched : labels(await simplify().apply(graph, contextFor(graph)));
          const others = untouched.filter((other) => other !== label && kept.includes(other));
          expect(await chosen({ include: [first!.name] })).toEqual(expect.arrayContaining(others));
          if (untouched.includes(label)) expect(await chosen({ exclude: [first!.name] })).toContain(label);
        });

      test("hides no weight that is not a number", async () => {
        const sound = make();
        const [name, weight] = [...sound.weights].find(([, t]) => t.dtype === "float32" && t.size > 16)!;
        const values = toFloat32(weight).slice();
        values[3] = Number.NaN;
        const graph = { ...sound, weights: new Map(sound.weights).set(name, float32(weight.shape, values)) };
        const skips: Skip[] = [];
        const reader = graph.nodes.find(({ inputs }) => inputs.includes(name))!;
        const outcome = await technique()
          .apply(graph, contextFor(graph, skips))
          .catch((error: unknown) => messageOf(error));
        if (typeof outcome === "string") {
          expect(outcome).toMatch(new RegExp(`'(${name}|${nodeLabel(reader)})'|not finite|' is NaN`));
          return;
        }
        const named = skips.some(({ node, reason }) => node === nodeLabel(reader) || reason.includes(`'${name}'`));
        const stored = [...outcome.weights.values()].filter(({ dtype }) => dtype === "float32" || dtype === "float16");
        const shown = [...stored, ...Object.values(await run(outcome))].some((t) => toFloat32(t).some(Number.isNaN));
        expect(named || shown).toBe(true);
      });
    });
  },
);
