import { fail } from "../errors.ts";
import { edit } from "../graph/edit.ts";
import { type Graph, makeNode, type Subgraph } from "../graph/graph.ts";
import { links, reads } from "../graph/walk.ts";
import { type DType, packedBytes } from "../tensor/dtype.ts";
import { type Tensor, toNumbers } from "../tensor/tensor.ts";
import type { Runtime, Tensors } from "./runtime.ts";

/** Type and concrete shape that a value had in a run. */
export interface ObservedType {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

const typeCache = new WeakMap<Graph, Map<string, ReadonlyMap<string, ObservedType>>>();

/**
 * Types and shapes of all tensors of the main graph (weights, inputs, intermediates, outputs), found by running it once
 * on `feeds` with a Shape behind every value: every operator the runtime knows is covered, and only shapes leave the
 * run. Values inside control flow, and those that are not tensors or of a type the runtime can't name, are absent.
 * Cached by graph and shapes fed.
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
  const { dtypes, shapes } = await run(graph, runtime, feeds);
  for (const [name, dtype] of dtypes) {
    const shape = shapes.get(name);
    if (shape) found.set(name, { dtype, shape });
  }
  const perGraph = typeCache.get(graph) ?? new Map<string, ReadonlyMap<string, ObservedType>>();
  typeCache.set(graph, perGraph.set(key, found));
  return found;
}

async function run(
  graph: Graph,
  runtime: Runtime,
  feeds: Tensors,
): Promise<{ dtypes: Map<string, DType>; shapes: Map<string, number[]> }> {
  const dtypes = await intermediateTypes(graph, runtime);
  const shapeName = new Map([...dtypes.keys()].map((name, i) => [`pare_shape_${i}`, name]));
  const probes = [...shapeName].map(([shape, name]) => makeNode("Shape", [name], [shape]));
  const probed: Graph = {
    ...graph,
    nodes: [...graph.nodes, ...probes],
    outputs: [...shapeName.keys()].map((name) => ({ name, type: { kind: "tensor", dtype: "int64" } })),
  };
  if (probes.length === 0) return { dtypes, shapes: new Map() };
  const session = await runtime.open(probed, { optimize: "disabled" });
  try {
    const results = await session.run(feeds);
    return { dtypes, shapes: new Map(Object.entries(results).map(([key, t]) => [shapeName.get(key)!, toNumbers(t)])) };
  } finally {
    await session.release();
  }
}

/** Element types of all intermediate tensors, as the runtime infers them while loading. */
async function intermediateTypes(graph: Graph, runtime: Runtime): Promise<Map<string, DType>> {
  const session = await runtime.open(exposed(graph, intermediates(graph)), { optimize: "disabled" });
  try {
    return new Map(session.outputs.flatMap(({ name, type }) => (type?.kind === "tensor" ? [[name, type.dtype]] : [])));
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
  /** Bytes of observed values held at one time; 512 MiB by default. A single larger value is observed alone. */
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
  const types = await observeTypes(graph, runtime, first);
  for (const part of split(names, types, options.budget ?? 2 ** 29)) {
    const session = await runtime.open(exposed(graph, part));
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
    const bytes = type
      ? packedBytes(
          type.dtype,
          type.shape.reduce((a, b) => a * b, 1),
        )
      : 0;
    if (held + bytes > budget && parts.at(-1)!.length > 0) {
      parts.push([]);
      held = 0;
    }
    parts.at(-1)!.push(name);
    held += bytes;
  }
  return parts.filter((part) => part.length > 0);
}
