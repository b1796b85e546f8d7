import { type Graph, isNode, nodeLabel, opKey } from "../graph/graph.ts";
import { links } from "../graph/walk.ts";
import { exposed, intermediates, observeTypes } from "../platform/observe.ts";
import type { Runtime, Session, Tensors } from "../platform/runtime.ts";
import { dtypes, packedBytes } from "../tensor/dtype.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import { addSums, type Closeness, closenessOf } from "./closeness.ts";

/** How far one value inside a model has moved from the original's. */
export interface LayerDivergence extends Closeness {
  /** Label and operator of the node that makes the value in the original. */
  readonly node: string;
  readonly op: string;
  readonly value: string;
}

/** What {@link measureDivergence} finds: plain JSON. */
export interface Divergence {
  readonly version: 1;
  /** In the original's order of execution. */
  readonly layers: readonly LayerDivergence[];
  /** The first node whose value is below the threshold. */
  readonly firstBad?: string;
  /** The node at which the signal to noise falls most below that of the worst value it reads. */
  readonly largestDrop?: { readonly node: string; readonly decibels: number };
  readonly threshold: number;
}

/** Choices for {@link measureDivergence}. */
export interface DivergenceOptions {
  /** A value below this many decibels is bad; 10 if absent (noise at a tenth of the signal's power). */
  readonly threshold?: number;
  /** Bytes of values held at one time, both models together; 512 MiB if absent. */
  readonly budget?: number;
  readonly signal?: AbortSignal;
}

/**
 * Compares a changed model with the original value by value: floating-point values that both have under one name, of
 * equal size, on the same feeds.
 *
 * @param feeds a stream that can be iterated again: it is, once for every chunk of values
 * @throws PareError where the runtime refuses a model or the feeds
 */
export async function measureDivergence(
  original: Graph,
  changed: Graph,
  runtime: Runtime,
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
  options: DivergenceOptions = {},
): Promise<Divergence> {
  const { threshold = 10, budget = 2 ** 29, signal } = options;
  const { names, bytes } = await comparable(original, changed, runtime, feeds);
  const sums = new Map<string, ReturnType<typeof addSums>>();
  for (const part of chunks(names, bytes, budget / 2)) {
    const there = part.map((name) => handedOn(changed, name));
    const sessions: Session[] = [];
    try {
      for (const graph of [exposed(original, part), exposed(changed, there)]) sessions.push(await runtime.open(graph));
      for await (const fed of feeds) {
        signal?.throwIfAborted();
        const [expected, got] = [await sessions[0]!.run(fed, part), await sessions[1]!.run(fed, there)];
        for (const [i, name] of part.entries()) {
          const [value, wanted] = [got[there[i]!]!, expected[name]!];
          if (value.size !== wanted.size) continue;
          sums.set(name, addSums(sums.get(name), toFloat32(value), toFloat32(wanted)));
        }
      }
    } finally {
      for (const session of sessions) await session.release();
    }
  }
  const { producer } = links(original);
  const layers = names.flatMap((value): LayerDivergence[] => {
    const [node, sum] = [producer.get(value)!, sums.get(value)];
    return sum ? [{ node: nodeLabel(node), op: opKey(node), value, ...closenessOf(sum) }] : [];
  });
  const firstBad = layers.find(({ sqnr }) => !(sqnr >= threshold))?.node;
  const largestDrop = steepest(original, layers);
  return {
    version: 1,
    layers,
    ...(firstBad !== undefined && { firstBad }),
    ...(largestDrop && { largestDrop }),
    threshold,
  };
}

/**
 * The value that carries a value's content on: behind a QuantizeLinear that alone reads it, what DequantizeLinear makes
 * of the integers. There the range of the integers may stand for a Relu or Clip that is no longer in the graph.
 */
function handedOn(graph: Graph, name: string): string {
  const { consumers, outputs } = links(graph);
  const [reader, ...others] = consumers.get(name) ?? [];
  if (outputs.has(name) || others.length > 0 || !reader || !isNode(reader, "QuantizeLinear")) return name;
  const restored = (consumers.get(reader.outputs[0]!) ?? []).find((node) => isNode(node, "DequantizeLinear"));
  return restored?.outputs[0] ?? name;
}

async function comparable(
  original: Graph,
  changed: Graph,
  runtime: Runtime,
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
): Promise<{ names: string[]; bytes: ReadonlyMap<string, number> }> {
  for await (const first of feeds) {
    const [before, after] = [await observeTypes(original, runtime, first), await observeTypes(changed, runtime, first)];
    const there = new Set(intermediates(changed));
    const isFloat = (types: typeof before, name: string): boolean => {
      const type = types.get(name);
      return type !== undefined && dtypes[type.dtype].kind === "float";
    };
    const names = intermediates(original).filter(
      (name) => there.has(name) && isFloat(before, name) && isFloat(after, name),
    );
    const bytesOf = (name: string): number => {
      const { dtype, shape } = before.get(name)!;
      return packedBytes(
        dtype,
        shape.reduce((a, b) => a * b, 1),
      );
    };
    return { names, bytes: new Map(names.map((name) => [name, bytesOf(name)])) };
  }
  return { names: [], bytes: new Map() };
}

function chunks(names: readonly string[], bytes: ReadonlyMap<string, number>, budget: number): string[][] {
  const parts: string[][] = [];
  let held = Number.POSITIVE_INFINITY;
  for (const name of names) {
    if (held + bytes.get(name)! > budget) {
      parts.push([]);
      held = 0;
    }
    parts.at(-1)!.push(name);
    held += bytes.get(name)!;
  }
  return parts;
}

/** The largest fall of the signal to noise from the worst value that a node depends on to its own. */
function steepest(graph: Graph, layers: readonly LayerDivergence[]): Divergence["largestDrop"] {
  const own = new Map(layers.map((layer) => [layer.value, layer.sqnr]));
  const clean = 200;
  /** The worst of the compared values that a value depends on, looked through values that were not compared. */
  const upstream = new Map<string, number>();
  let found: { node: string; decibels: number } | undefined;
  for (const node of graph.nodes) {
    const sources = node.inputs.map((name) => own.get(name) ?? upstream.get(name) ?? clean);
    const before = Math.min(clean, ...sources);
    for (const output of node.outputs) {
      upstream.set(output, before);
      const sqnr = own.get(output);
      if (sqnr === undefined) continue;
      const drop = Math.min(before, 60) - sqnr;
      if (drop > 0 && drop > (found?.decibels ?? 0)) found = { node: nodeLabel(node), decibels: drop };
    }
  }
  return found;
}
