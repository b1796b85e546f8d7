import { intAttribute, intsAttribute } from "../graph/graph.ts";
import { sizeOf, type Tensor } from "../tensor/tensor.ts";
import type { Product } from "./products.ts";

/** Where the weight of a layer holds what belongs to which channels. */
export interface Layout {
  readonly groups: number;
  /** Input channels of a group. */
  readonly perGroup: number;
  /** Output channels of all groups. */
  readonly outputs: number;
  /** Numbers that belong to an output and an input channel: taps of a kernel. */
  readonly taps: number;
  /** Share of the taps that a pixel of the outputs sees, in the mean over them and borders aside. */
  readonly seen: number;
  /** Where those of a pair of an output and an input channel of the same group begin. */
  at(output: number, channel: number): number;
}

/** Where the weight of a layer, as it stands, holds what. */
export function layoutOf({ node, inputs }: Product, { shape }: Tensor): Layout {
  const taps = sizeOf(shape.slice(2));
  if (node.op === "Conv") {
    const [outputs, perGroup] = shape as [number, number];
    const groups = intAttribute(node, "group", 1);
    return { groups, perGroup, outputs, taps, seen: 1, at: (o, i) => (o * perGroup + (i % perGroup)) * taps };
  }
  if (node.op === "ConvTranspose") {
    const groups = intAttribute(node, "group", 1);
    const [channels, share] = shape as [number, number];
    const at = (o: number, i: number): number => (i * share + (o % share)) * taps;
    // every pixel of the inputs gives all taps, to as many times the pixels
    const seen = 1 / sizeOf(intsAttribute(node, "strides") ?? []);
    return { groups, perGroup: channels / groups, outputs: groups * share, taps, seen, at };
  }
  const [perGroup, outputs] = [shape[inputs]!, shape[1 - inputs]!];
  const at = inputs === 1 ? (o: number, i: number) => o * perGroup + i : (o: number, i: number) => i * outputs + o;
  return { groups: 1, perGroup, outputs, taps: 1, seen: 1, at };
}

/** The outputs of the group that a channel is in. */
export function outputsOf(
  { outputs, groups, perGroup }: Layout,
  channel: number,
): readonly [first: number, end: number] {
  const share = outputs / groups;
  const group = Math.floor(channel / perGroup);
  return [group * share, (group + 1) * share];
}
