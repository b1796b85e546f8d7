import { fail } from "../errors.ts";
import { edit } from "../graph/edit.ts";
import { type Dim, type Graph, makeNode, type Subgraph, type Value } from "../graph/graph.ts";
import { links, reads } from "../graph/walk.ts";
import { type DType, packedBytes } from "../tensor/dtype.ts";
import { sizeOf, type Tensor, toNumbers } from "../tensor/tensor.ts";
import type { Runtime, Tensors } from "./runtime.ts";

/** Type and concrete shape that a value had in a run. */
export interface ObservedType {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

const typeCache = new WeakMap<Graph, Map<string, ReadonlyMap<string, ObservedType>>>();

/**
 * Types and shapes of all tensors of the main graph (weights, inputs, intermediates, outputs) for feeds of these shapes:
 * proven by the runtime's shape inference, and where that does not suffice found by running the graph on `feeds` with a
 * Shape behind the values in question, so that every operator the runtime knows is covered. Values inside control flow,
 * and those that are not tensors or of a type the runtime can't name, are absent. Cached by graph and shapes fed.
 *
 * @throws PareError where the runtime refuses the model or the feeds
 */
export async function observeTypes(
  graph: Graph,
  runtime: Runtime,
  feeds: Tensors,
): Promise<ReadonlyMap<string, ObservedType>> {
  const key = Object.entries(feeds)
    .map(([name, { shape }]) => `${name}:${shape.join("x")}`)
    .join();
  const known = typeCache.get(graph)?.get(key);
  if (known) return known;
  const found = new Map<string, ObservedType>();
  for (const [name, { dtype, shape }] of graph.weights) found.set(name, { dtype, shape });
  for (const [name, { dtype, shape }] of Object.entries(feeds)) found.set(name, { dtype, shape });
  const open: [name: string, dtype: DType][] = [];
  for (const { name, type } of await inferred(graph, runtime, feeds)) {
    if (type?.kind !== "tensor") continue;
    // the runtime tells a scalar and an unknown rank alike
    if (type.shape?.length && isConcrete(type.shape)) found.set(name, { dtype: type.dtype, shape: type.shape });
    else open.push([name, type.dtype]);
  }
  const shapes = await observedShapes(
    graph,
    runtime,
    feeds,
    open.map(([name]) => name),
  );
  for (const [name, dtype] of open) found.set(name, { dtype, shape: shapes.get(name)! });
  const perGraph = typeCache.get(graph) ?? new Map<string, ReadonlyMap<string, ObservedType>>();
  typeCache.set(graph, perGraph.set(key, found));
  return found;
}

function isConcrete(shape: readonly Dim[]): shape is readonly number[] {
  return shape.every((dim) => typeof dim === "number");
}

/** All intermediate values with the types that the runtime infers for feeds of these shapes while loading. */
async function inferred(graph: Graph, runtime: Runtime, feeds: Tensors): Promise<readonly Value[]> {
  const names = [...new Set(intermediates(graph))];
  if (names.length === 0) return [];
  const inputs = graph.inputs.map(({ name, type }): Value => {
    const feed = feeds[name];
    return feed
      ? { name, type: { kind: "tensor", dtype: feed.dtype, shape: feed.shape } }
      : { name, ...(type && { type }) };
  });
  const loaded = async (probe: Graph): Promise<readonly Value[]> => {
    const session = await runtime.open(probe, { optimize: "disabled" });
    await session.release();
    return session.outputs;
  };
  try {
    return await loaded(typeProbe({ ...graph, inputs }, names));
  } catch {
    return loaded(exposed(graph, names)); // some operators want their weights as constants
  }
}

/** Weights up to this many elements stay in the probe, since shapes may be computed from them. */
const smallWeight = 4096;

/** The graph with `names` as its outputs, and its large weights as inputs of the same type: loads in milliseconds. */
export function typeProbe(graph: Graph, names: readonly string[]): Graph {
  const inputs = new Map<string, Value>(graph.inputs.map((input) => [input.name, input]));
  const weights = new Map(graph.weights);
  for (const [name, { dtype, shape, size }] of graph.weights) {
    if (size <= smallWeight) {
      inputs.delete(name);
      continue;
    }
    weights.delete(name);
    inputs.set(name, { name, type: { kind: "tensor", dtype, shape } });
  }
  return {
    ...graph,
    weights,
    inputs: [...inputs.values()],
    outputs: names.map((name) => ({ name })),
    declared: new Map(),
    irVersion: Math.max(4, graph.irVersion),
  };
}

async function observedShapes(
  graph: Graph,
  runtime: Runtime,
  feeds: Tensors,
  names: readonly string[],
): Promise<ReadonlyMap<string, readonly number[]>> {
  if (names.length === 0) return new Map();
  const shapeName = new Map(names.map((name, i) => [name, `pare_shape_${i}`]));
  // each Shape right behind its value, so that the value is freed as early as ever
  const nodes = graph.nodes.flatMap((node) => [
    node,
    ...node.outputs.flatMap((name) => {
      const shape = shapeName.get(name);
      return shape ? [makeNode("Shape", [name], [shape])] : [];
    }),
  ]);
  const session = await runtime.open(exposed({ ...graph, nodes }, [...shapeName.values()]), { optimize: "disabled" });
  try {
    const results = await session.run(feeds);
    return new Map(names.map((name) => [name, toNumbers(results[shapeName.get(name)!]!)]));
  } finally {
    await session.release();
  }
}

/** Names of all values that nodes of the main graph make. */
export function intermediates(graph: Subgraph): string[] {
  return graph.nodes.flatMap(({ outputs }) => outputs.filter((name) => name !== ""));
}

/** The graph with `names` as its outputs, and only the nodes these need. */
export function exposed(graph: Graph, names: readonly string[]): Graph {
  const { producer } = links(graph);
  for (const name of names) {
    if (!producer.has(name) && !graph.inputs.some((input) => input.name === name) && !graph.weights.has(name)) {
      fail("observe", `the graph has no value '${name}'`);
    }
  }
  const declared = new Map(graph.outputs.map((output) => [output.name, output]));
  return prune({ ...graph, outputs: names.map((name) => declared.get(name) ?? { name }) });
}

function prune(graph: Graph): Graph {
  const needed = new Set(graph.outputs.map(({ name }) => name));
  const kept = new Set(
    graph.nodes.toReversed().filter((node) => {
      if (!node.outputs.some((output) => needed.has(output))) return false;
      for (const name of reads(node)) needed.add(name);
      return true;
    }),
  );
  return edit({ ...graph, nodes: graph.nodes.filter((node) => kept.has(node)) }, (draft) => {
    for (const name of draft.weights.keys()) if (!needed.has(name)) draft.weights.delete(name);
    draft.inputs = draft.inputs.filter(({ name }) => needed.has(name) || !graph.weights.has(name));
  });
}

/** Bounds of {@link observeValues}. */
export interface ObserveOptions {
  /**
   * Bytes of observed values held at one time; 512 MiB by default. A single larger value is observed alone. Infinity
   * spares finding out how large they are.
   */
  readonly budget?: number;
  readonly signal?: AbortSignal;
}

/**
 * Runs a graph over a stream of feeds and hands every named value of every run to `visit`, then drops it. Where one
 * run's values would pass the budget, the names are split and the stream is run through once per part, so the stream
 * must be one that can be iterated again.
 *
 * @param visit gets the value's name, the value and the index of the feeds in the stream; awaited. Values of one run
 *   come in the order of `names`.
 * @throws PareError for an unknown name, an empty stream, or where the runtime refuses
 */
export async function observeValues(
  graph: Graph,
  runtime: Runtime,
  names: readonly string[],
  stream: AsyncIterable<Tensors> | Iterable<Tensors>,
  visit: (name: string, value: Tensor, index: number) => void | Promise<void>,
  options: ObserveOptions = {},
): Promise<void> {
  const first = await firstOf(stream);
  const { budget = 2 ** 29 } = options;
  const parts = Number.isFinite(budget) ? split(names, await observeTypes(graph, runtime, first), budget) : [names];
  for (const part of parts) {
    const session = await runtime.open(exposed(graph, part), { memoryPattern: false });
    try {
      let index = 0;
      for await (const feeds of stream) {
        options.signal?.throwIfAborted();
        const values = await session.run(feeds, part);
        for (const name of part) await visit(name, values[name]!, index);
        index++;
      }
    } finally {
      await session.release();
    }
  }
}

async function firstOf(stream: AsyncIterable<Tensors> | Iterable<Tensors>): Promise<Tensors> {
  for await (const feeds of stream) return feeds;
  return fail("observe", "there is no data to run the model on", "Give at least one sample");
}

function split(
  names: readonly string[],
  types: ReadonlyMap<string, ObservedType>,
  budget: number,
): readonly (readonly string[])[] {
  const parts: string[][] = [[]];
  let held = 0;
  for (const name of names) {
    const type = types.get(name);
    const bytes = type ? packedBytes(type.dtype, sizeOf(type.shape)) : 0;
    if (held + bytes > budget && parts.at(-1)!.length > 0) {
      parts.push([]);
      held = 0;
    }
    parts.at(-1)!.push(name);
    held += bytes;
  }
  return parts.filter((part) => part.length > 0);
}
