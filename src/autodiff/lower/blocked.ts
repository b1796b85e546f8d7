import { edit } from "../../graph/edit.ts";
import { floatAttribute, type Graph, makeNode, type Node, opKey } from "../../graph/graph.ts";
import { reads, soleConsumer } from "../../graph/walk.ts";
import { float32, sizeOf, toNumbers } from "../../tensor/tensor.ts";
import { fakeQuantizeOf } from "../fake-quantize.ts";
import type { ValueType } from "../rule.ts";
import { add, mul, sameShape, sub } from "../rules/helpers.ts";
import { ints, recorder, scalar, type Writer } from "../writer.ts";
import { blockedConv, blockedInputGradient, blockedWeightGradient } from "./blocked-convolution.ts";
import { blockedMaxPoolGradient, blockedPool } from "./blocked-pooling.ts";
import { shapeOf } from "./channels.ts";
import { onGrid } from "./fake-quantize.ts";

/** The domain of ONNX Runtime's operators on blocked images. */
export const nchwc = "com.microsoft.nchwc";

/**
 * Values in two layouts: plain [N, C, H, W], and blocked [N, C/b, H, W, b], which the runtime's fastest convolutions on
 * the CPU want. Each form is made when first asked for. Channels are filled up with zeros to a multiple of the block; in
 * computed values the filling may hold anything finite, since weights and sums leave it out.
 */
export interface Layout {
  readonly g: Writer;
  /** Channels in a block: 8 or 16. */
  readonly block: number;
  /** Channels with the filling. */
  padded(channels: number): number;
  /** Whether so many channels are worth being blocked: not too much filling. */
  fits(channels: number): boolean;
  /** Shape of a value in plain layout, where it is known. */
  shape(name: string): readonly number[] | undefined;
  /** A constant number. */
  number(name: string | undefined): number | undefined;
  isBlocked(name: string): boolean;
  /** @param shape its plain shape, which the layout does not know of all that gradients are made of */
  blocked(name: string, shape?: readonly number[]): string;
  plain(name: string): string;
  /** Has the blocked convolution that makes a value, read by nothing but `reader`, do what `change` says as well. */
  absorbed(name: string, reader: Node, change: (conv: Node) => Node | undefined): boolean;
  /** Lets the last node that made a value make it under another name. */
  rename(made: string, name: string): void;
  /** States the blocked form of a value, and its plain shape. */
  give(name: string, form: string, shape: readonly number[]): void;
  /** A vector of [C] filled up with zeros. */
  vector(name: string, channels: number): string;
  /** A blocked depthwise filter that copies. */
  tap(channels: number): string;
}

/** Writes a node in the blocked layout; false, having written nothing, where it can't. */
export type BlockedLowering = (node: Node, layout: Layout) => boolean;

const handlers: Readonly<Record<string, BlockedLowering>> = {
  Conv: blockedConv,
  "pare:ConvInputGradient": blockedInputGradient,
  "pare:ConvWeightGradient": blockedWeightGradient,
  AveragePool: blockedPool,
  GlobalAveragePool: blockedPool,
  MaxPool: blockedPool,
  "pare:MaxPoolGradient": blockedMaxPoolGradient,
  "pare:ChannelSum": (node, layout) => channelSum(node, layout),
  "pare:ChannelDot": (node, layout) => channelSum(node, layout),
  "pare:ChannelAffine": (node, layout) => affine(node, node.inputs[1]!, node.inputs[2], layout),
  "pare:BatchNormalization": batchNormalization,
  "pare:FakeQuantize": fakeQuantize,
  BatchNormalization: (node, layout) => node.outputs.length === 1 && normalization(node, layout),
};

/** Operators that treat elements one by one and keep zeros finite. */
const elementwise = new Set(
  "Abs Add Clip Elu HardSigmoid HardSwish LeakyRelu Max Min Mul Neg Relu Selu Sigmoid Softplus Sub Sum Tanh".split(" "),
);

/**
 * Rewrites the convolutional parts of a graph in the blocked layout of the runtime's CPU provider; reorderings are
 * inserted where it begins and ends.
 *
 * @param types shapes of the graph's values; what has none stays as it is
 * @param block channels in a block, as the processor wants it
 */
export function inBlocks(graph: Graph, types: ReadonlyMap<string, ValueType>, block: number): Graph {
  return edit(graph, (draft) => {
    const g = recorder(draft, "block");
    const layout = layoutOver(graph, types, block, g);
    let handled = false;
    for (const node of graph.nodes) {
      const handler = elementwise.has(node.op) && node.domain === "" ? elementwiseInBlocks : handlers[opKey(node)];
      if (handler?.(node, layout)) {
        draft.replace(node);
        handled = true;
      } else {
        for (const name of reads(node)) layout.plain(name);
      }
    }
    for (const { name } of graph.outputs) layout.plain(name);
    if (!handled) return;
    draft.opsets[nchwc] = 1;
    draft.opsets["com.microsoft"] ??= 1;
    for (const node of g.nodes) draft.add(node);
  });
}

function layoutOver(
  graph: Graph,
  types: ReadonlyMap<string, ValueType>,
  block: number,
  g: ReturnType<typeof recorder>,
): Layout {
  const forms = new Map<string, string>();
  const shapes = new Map<string, readonly number[]>();
  const unmade = new Set<string>();
  const filters = new Map<number, string>();
  const padded = (channels: number): number => Math.ceil(channels / block) * block;
  const layout: Layout = {
    g,
    block,
    padded,
    // convolutions in plain layout take about four times as long for as many products
    fits: (channels) => padded(channels) <= 1.75 * channels,
    shape: (name) => shapes.get(name) ?? types.get(name)?.shape,
    number(name) {
      const value = name === undefined ? undefined : graph.weights.get(name);
      return value?.size === 1 ? toNumbers(value)[0] : undefined;
    },
    isBlocked: (name) => forms.has(name),
    blocked(name, shape = layout.shape(name)) {
      const form = forms.get(name) ?? g.op(`${nchwc}:ReorderInput`, [wholeFours(g, name, shape![1]!)]);
      forms.set(name, form);
      return form;
    },
    plain(name) {
      if (unmade.delete(name)) {
        const channels = layout.shape(name)![1]!;
        g.nodes.push(makeNode(`${nchwc}:ReorderOutput`, [forms.get(name)!], [name], { channels }));
      }
      return name;
    },
    absorbed(name, reader, change) {
      if (!unmade.has(name) || soleConsumer(graph, name) !== reader) return false;
      const at = g.nodes.findLastIndex(({ outputs }) => outputs[0] === forms.get(name));
      const conv = g.nodes[at]!;
      const whole = conv.op === "Conv" && conv.domain === nchwc ? change(conv) : undefined;
      if (whole) g.nodes[at] = whole;
      return whole !== undefined;
    },
    rename(made, name) {
      const at = g.nodes.findLastIndex(({ outputs }) => outputs[0] === made);
      g.nodes[at] = { ...g.nodes[at]!, outputs: [name] };
    },
    give(name, form, shape) {
      forms.set(name, form);
      shapes.set(name, shape);
      unmade.add(name);
    },
    vector(name, channels) {
      const extra = padded(channels) - channels;
      return extra === 0 ? name : g.op("Pad", [name, ints(g, [0, extra]), scalar(g, 0)]);
    },
    tap(channels) {
      const size = padded(channels);
      const known = filters.get(size) ?? g.constant(float32([size, 1, 1, 1], new Float32Array(size).fill(1)));
      filters.set(size, known);
      return known;
    },
  };
  return layout;
}

/** The runtime reorders channels by fours: where they are no multiple of that, zeros are put behind them. */
function wholeFours(g: Writer, name: string, channels: number): string {
  const missing = -channels & 3;
  return missing === 0 ? name : g.op("Pad", [name, ints(g, [0, 0, 0, 0, 0, missing, 0, 0]), scalar(g, 0)]);
}

/** All inputs of one shape, or single numbers. */
const elementwiseInBlocks: BlockedLowering = (node, layout) => {
  const operands = node.inputs.filter((name) => name !== "");
  const images = operands.filter((name) => sizeOf(layout.shape(name) ?? [0]) !== 1);
  const shape = images[0] === undefined ? undefined : layout.shape(images[0]);
  if (shape?.length !== 4 || !layout.fits(shape[1]!) || !images.some(layout.isBlocked)) return false;
  if (!images.every((name) => sameShape(layout.shape(name) ?? [], shape))) return false;
  const taken = images.find((name) => intoConvolution(node, name, images, layout));
  if (taken !== undefined) {
    layout.give(node.outputs[0]!, layout.blocked(taken), shape);
    return true;
  }
  const inputs = node.inputs.map((name) => (images.includes(name) ? layout.blocked(name) : name));
  const [form] = layout.g.ops(node.op, inputs, node.attributes as Parameters<Writer["ops"]>[2], 1);
  layout.give(node.outputs[0]!, form!, shape);
  return true;
};

/** A sum, a rectifier or a clip that the blocked convolution before it does in the same pass. */
function intoConvolution(node: Node, name: string, images: readonly string[], layout: Layout): boolean {
  if (node.op === "Relu") {
    return layout.absorbed(name, node, (conv) => activated(conv, { activation: { type: "string", value: "Relu" } }));
  }
  if (node.op === "Clip") {
    const [low, high] = [layout.number(node.inputs[1]), layout.number(node.inputs[2])];
    if (low === undefined || high === undefined) return false;
    const bounds = { type: "floats", value: [low, high] } as const;
    const clip = { activation: { type: "string", value: "Clip" }, activation_params: bounds } as const;
    return layout.absorbed(name, node, (conv) => activated(conv, clip));
  }
  const other = images.find((image) => image !== name);
  if (node.op !== "Add" || images.length !== 2 || other === undefined) return false;
  return layout.absorbed(name, node, (conv) => {
    if (conv.attributes.activation || conv.inputs[3]) return undefined;
    return { ...conv, inputs: [conv.inputs[0]!, conv.inputs[1]!, conv.inputs[2] ?? "", layout.blocked(other)] };
  });
}

function activated(conv: Node, attributes: Node["attributes"]): Node | undefined {
  return conv.attributes.activation ? undefined : { ...conv, attributes: { ...conv.attributes, ...attributes } };
}

/**
 * Sums over places, then over the batch: of one value by the runtime's pooling; of a product as a depthwise convolution
 * of one value whose filters are the other, which reads both once and stores nothing of their size. Large planes are
 * summed in strips first, which lie one behind the other as channels do: one long sum in single precision loses digits
 * that gradients multiply from layer to layer.
 */
function channelSum(node: Node, layout: Layout): boolean {
  const [x, y] = node.inputs as [string, string | undefined];
  if (!layout.isBlocked(x) && !(y && layout.isBlocked(y))) return false;
  const { g, block } = layout;
  const shape = shapeOf(node);
  const [n, channels, h, w] = shape as [number, number, number, number];
  const filled = layout.padded(channels);
  const strips = stripsOf(h, w);
  const [all, places] = [n * filled * strips, [h / strips, w]];
  const image = g.op("Reshape", [layout.blocked(x, shape), ints(g, [1, all, ...places])]);
  const products = (): string => {
    const filters = g.op("Reshape", [layout.blocked(y!, shape), ints(g, [all, 1, ...places])]);
    return g.op(`${nchwc}:Conv`, [image, filters], { kernel_shape: places, group: all });
  };
  const perStrip = y === undefined ? g.op(`${nchwc}:GlobalAveragePool`, [image]) : products();
  const byStrip = (): string => g.op("Reshape", [perStrip, ints(g, [all / strips / block, strips, block])]);
  const perPlane = strips === 1 ? perStrip : g.op("ReduceSum", [byStrip(), ints(g, [1])], { keepdims: 0 });
  const rows = g.op("Reshape", [perPlane, ints(g, [n, filled])]);
  const sum = g.op("ReduceSum", [rows, ints(g, [0])], { keepdims: 0 });
  const total = y === undefined ? mul(g, sum, scalar(g, sizeOf(places))) : sum;
  const made = filled === channels ? total : g.op("Slice", [total, ints(g, [0]), ints(g, [channels])]);
  layout.rename(made, node.outputs[0]!);
  return true;
}

/** Strips of at least 256 places that a plane falls into; its height is a multiple of their number. */
function stripsOf(height: number, width: number): number {
  for (let strips = Math.floor((height * width) / 256); strips > 1; strips--) if (height % strips === 0) return strips;
  return 1;
}

/** a x + b as a depthwise convolution of one tap, the cheapest pass there is. */
function affine(node: Node, a: string, b: string | undefined, layout: Layout): boolean {
  const x = node.inputs[0]!;
  const shape = layout.shape(x);
  if (!layout.isBlocked(x) || !shape) return false;
  const { g } = layout;
  const channels = layout.padded(shape[1]!);
  const filter = g.op("Reshape", [layout.vector(a, shape[1]!), ints(g, [channels, 1, 1, 1])]);
  const bias = b ? [layout.vector(b, shape[1]!)] : [];
  const attributes = { kernel_shape: [1, 1], group: channels };
  layout.give(node.outputs[0]!, g.op(`${nchwc}:Conv`, [layout.blocked(x), filter, ...bias], attributes), shape);
  return true;
}

/** One scale for the whole image; the filling becomes zeros, or what clipping makes of them. */
function fakeQuantize(node: Node, layout: Layout): boolean {
  const [x, scale, offset] = node.inputs as [string, string, string | undefined];
  const shape = layout.shape(x);
  const how = fakeQuantizeOf(node);
  if (!layout.isBlocked(x) || !shape || how.view) return false;
  const forms = onGrid(layout.g, layout.blocked(x), scale, offset, how);
  for (const [i, form] of forms.entries()) layout.give(node.outputs[i]!, form, shape);
  return true;
}

/** γ c / √(var + ε) + β of an image whose mean is gone, as an affine map. */
function batchNormalization(node: Node, layout: Layout): boolean {
  const [, gamma, beta, centred, variance] = node.inputs as [string, string, string, string, string];
  if (!layout.isBlocked(centred)) return false;
  return affine({ ...node, inputs: [centred] }, slopeOf(node, gamma, variance, layout), beta, layout);
}

/** γ (x - mean) / √(var + ε) + β as an affine map. */
function normalization(node: Node, layout: Layout): boolean {
  const [x, gamma, beta, mean, variance] = node.inputs as [string, string, string, string, string];
  if (!layout.isBlocked(x)) return false;
  const { g } = layout;
  const slope = slopeOf(node, gamma, variance, layout);
  return affine(node, slope, sub(g, beta, mul(g, mean, slope)), layout);
}

function slopeOf(node: Node, gamma: string, variance: string, { g }: Layout): string {
  const epsilon = scalar(g, floatAttribute(node, "epsilon", 1e-5));
  return g.op("Div", [gamma, g.op("Sqrt", [add(g, variance, epsilon)])]);
}
