import { timeNodes } from "../analysis/timing.ts";
import { type Graph, intAttribute, makeGraph, type Node } from "../graph/graph.ts";
import { channelBlock } from "../platform/channel-block.ts";
import type { Runtime } from "../platform/runtime.ts";
import { dtypes, packedBytes } from "../tensor/dtype.ts";
import { float32, sizeOf, type Tensor, tensor } from "../tensor/tensor.ts";
import type { Couplings, Group } from "./couplings.ts";
import { isDepthwise, type Product, productsOf } from "./products.ts";
import { type LayerSizes, layerSizes, type Widths } from "./widths.ts";

/** Measured times of the layers of a graph at any widths of its groups. */
export interface LayerTimes {
  /** Milliseconds of all layers with weights, one sample. */
  total(widths: Widths): number;
  /** Milliseconds of those layers alone whose sizes follow one group. */
  around(group: Group, widths: Widths): number;
  /**
   * What a group's width has to be a multiple of so that its values stay in the layout of blocked kernels: next to one
   * another, layers of other widths lose to reordering what each alone gains. 1 where there is no such layout.
   */
  multiple(group: Group): number;
}

/** The same with what was measured: milliseconds by what a layer is. */
export interface MeasuredTimes extends LayerTimes {
  readonly measured: ReadonlyMap<string, number>;
}

/** Sizes of an axis at which layers are timed, from the smallest; between them times are interpolated. */
const steps = 8;

/** Bytes of inputs and weights in one session. */
const sessionBytes = 2 ** 27;

/** Milliseconds that a session of layers is timed for. */
const budget = 400;

/** Times by runtime (its provider, its threads) and by what a layer is. */
const known = new WeakMap<Runtime, Map<string, number>>();

/**
 * Times the convolutions and matrix products of a graph, each alone and by its kernel, at eight sizes of its inputs by
 * eight of its outputs: what narrower layers really save on this runtime, whose kernels work on blocks of channels.
 *
 * @param timed called with how many layer shapes are done
 * @param kept times measured before, which count again: no two measurements give the same
 * @throws PareError where the runtime can't profile
 */
export async function layerTimes(
  found: Couplings,
  groups: readonly Group[],
  runtime: Runtime,
  signal: AbortSignal,
  timed: (done: number, total: number) => void = () => {},
  kept: ReadonlyMap<string, number> = new Map(),
): Promise<MeasuredTimes> {
  const cache = new Map([...(known.get(runtime) ?? []), ...kept]);
  known.set(runtime, cache);
  const layers = layerSizes(found, groups, productsOf(found)).map((layer) => tableOf(found, layer));
  const missing = new Map<string, Single>();
  for (const { cells } of layers) {
    for (const single of cells.flat()) if (!cache.has(single.key)) missing.set(single.key, single);
  }
  let done = 0;
  for (const part of partsOf([...missing.values()])) {
    signal.throwIfAborted();
    await timeTogether(part, runtime, cache);
    done += part.length;
    timed(done, missing.size);
  }
  const times = layers.map(({ layer, cells, coordinates }) => {
    const table = monotone(cells.map((row) => row.map(({ key }) => cache.get(key)!)));
    return { layer, at: (widths: Widths): number => interpolated(table, coordinates(widths)) };
  });
  const block = (await channelBlock(runtime)) ?? 1;
  const byGroup = new Map(groups.map((group) => [group, times.filter(({ layer }) => layer.groups.includes(group))]));
  const sum = (some: typeof times, widths: Widths): number => some.reduce((total, { at }) => total + at(widths), 0);
  const keys = layers.flatMap(({ cells }) => cells.flat().map(({ key }) => key));
  return {
    total: (widths) => sum(times, widths),
    around: (group, widths) => sum(byGroup.get(group)!, widths),
    multiple: (group) => (byGroup.get(group)!.some(({ layer }) => layer.product.node.op === "Conv") ? block : 1),
    measured: new Map(keys.map((key) => [key, cache.get(key)!])),
  };
}

/** One layer at one size, as a graph of its own. */
interface Single {
  readonly key: string;
  readonly node: Node;
  readonly x: Tensor["shape"];
  readonly weight: Tensor["shape"];
  readonly dtype: Tensor["dtype"];
}

interface Table {
  readonly layer: LayerSizes;
  /** By size of the outputs and of the inputs; one column where these go together. */
  readonly cells: readonly (readonly Single[])[];
  /** Where some widths lie in the table, in steps. */
  coordinates(widths: Widths): readonly [outputs: number, inputs: number];
}

function tableOf(found: Couplings, layer: LayerSizes): Table {
  const { product } = layer;
  const { node, channels, inputs, weight: name } = product;
  const whole = layer.shapes(new Map());
  const depthwise = isDepthwise(product, found);
  const outputs = node.op === "Conv" ? 0 : node.op === "ConvTranspose" ? 1 : 1 - inputs;
  const part = (size: number, step: number): number => Math.max(1, Math.round((size * step) / steps));
  const cell = (o: number, i: number): Single => {
    const [x, weight] = [[...whole.x], [...whole.weight]];
    x[channels] = part(whole.x[channels]!, i);
    if (depthwise) {
      const own = node.op === "Conv" ? 0 : inputs;
      weight[own] = (x[channels]! * whole.weight[own]!) / whole.x[channels]!;
    } else {
      // the side of the weight that holds the channels of all groups is a multiple of their number
      const groups = intAttribute(node, "group", 1);
      const multiple = (size: number): number => Math.max(groups, Math.round(size / groups) * groups);
      weight[inputs] = part(whole.weight[inputs]!, i);
      weight[outputs] = part(whole.weight[outputs]!, o);
      weight[0] = node.op.startsWith("Conv") ? multiple(weight[0]!) : weight[0]!;
      x[channels] = weight[inputs]! * (node.op === "Conv" ? groups : 1);
    }
    return singleOf(product, x, weight, found.structure.constantOf(name)!.dtype, depthwise);
  };
  const counts = Array.from({ length: steps }, (_, i) => i + 1);
  return {
    layer,
    cells: depthwise ? [counts.map((i) => cell(i, i))] : counts.map((o) => counts.map((i) => cell(o, i))),
    coordinates(widths) {
      const { x, weight } = layer.shapes(widths);
      const at = (size: number, all: number): number => (size * steps) / all - 1;
      const i = at(x[channels]!, whole.x[channels]!);
      return [depthwise ? 0 : at(weight[outputs]!, whole.weight[outputs]!), i];
    },
  };
}

function singleOf(
  { node }: Product,
  x: readonly number[],
  weight: readonly number[],
  dtype: Tensor["dtype"],
  depthwise: boolean,
): Single {
  const group = { type: "int", value: x[1]! } as const;
  const attributes = depthwise ? { ...node.attributes, group } : node.attributes;
  const plain = JSON.stringify(attributes, (_, value) => (typeof value === "bigint" ? `${value}` : value));
  return { key: `${node.op} ${dtype} ${x} ${weight} ${plain}`, node: { ...node, attributes }, x, weight, dtype };
}

function partsOf(all: readonly Single[]): Single[][] {
  const parts: Single[][] = [[]];
  let held = 0;
  for (const single of all) {
    const bytes = packedBytes(single.dtype, sizeOf(single.x) + sizeOf(single.weight));
    if (held + bytes > sessionBytes && parts.at(-1)!.length > 0) {
      parts.push([]);
      held = 0;
    }
    parts.at(-1)!.push(single);
    held += bytes;
  }
  return parts.filter((part) => part.length > 0);
}

async function timeTogether(all: readonly Single[], runtime: Runtime, cache: Map<string, number>): Promise<void> {
  const feeds: Record<string, Tensor> = {};
  const weights = new Map<string, Tensor>();
  const filled = new Map<string, Tensor>();
  const ofOnes = (dtype: Tensor["dtype"], shape: readonly number[]): Tensor => {
    const key = `${dtype} ${shape}`;
    const made = filled.get(key) ?? ones(dtype, shape);
    filled.set(key, made);
    return made;
  };
  const nodes = all.map(({ node, x, weight, dtype }, i): Node => {
    feeds[`x${i}`] = ofOnes(dtype, x);
    weights.set(`w${i}`, ofOnes(dtype, weight));
    return { ...node, name: `layer${i}`, inputs: [`x${i}`, `w${i}`], outputs: [`y${i}`] };
  });
  const graph: Graph = makeGraph({
    nodes,
    weights,
    inputs: Object.entries(feeds).map(([name, { dtype, shape }]) => ({ name, type: { kind: "tensor", dtype, shape } })),
    outputs: nodes.map(({ outputs }) => ({ name: outputs[0]! })),
  });
  const timing = await timeNodes(graph, runtime, feeds, { budget });
  for (const [i, { key }] of all.entries()) cache.set(key, timing.nodes.get(graph.nodes[i]!) ?? 0);
}

function ones(dtype: Tensor["dtype"], shape: readonly number[]): Tensor {
  if (dtype === "float32") return float32(shape, new Float32Array(sizeOf(shape)).fill(1));
  if (dtype === "float64") return tensor(dtype, shape, new Float64Array(sizeOf(shape)).fill(1));
  return tensor(dtype, shape, new Uint16Array(sizeOf(shape)).fill(dtypes[dtype].bits === 16 ? 0x3c00 : 0));
}

/** Times that do not fall where a layer grows: what did was noise. */
function monotone(table: readonly (readonly number[])[]): number[][] {
  const made = table.map((row) => [...row]);
  for (let o = made.length - 1; o >= 0; o--) {
    for (let i = made[o]!.length - 1; i >= 0; i--) {
      made[o]![i] = Math.min(made[o]![i]!, made[o + 1]?.[i] ?? Infinity, made[o]![i + 1] ?? Infinity);
    }
  }
  return made;
}

/** Bilinear between cells; below the smallest the time is that of the smallest. */
function interpolated(table: readonly (readonly number[])[], [row, column]: readonly [number, number]): number {
  const along = (at: number, count: number): readonly [number, number, number] => {
    const clipped = Math.min(count - 1, Math.max(0, at));
    const low = Math.min(Math.floor(clipped), Math.max(0, count - 2));
    return [low, Math.min(low + 1, count - 1), clipped - low];
  };
  const [r0, r1, r] = along(row, table.length);
  const [c0, c1, c] = along(column, table[0]!.length);
  const between = (values: readonly number[]): number => values[c0]! * (1 - c) + values[c1]! * c;
  return between(table[r0]!) * (1 - r) + between(table[r1]!) * r;
}
