import { float, floatAttribute, intsAttribute, type Node } from "../../graph/graph.ts";
import { float32 } from "../../tensor/tensor.ts";
import { mul, sumOver } from "../rules/helpers.ts";
import type { Writer } from "../writer.ts";

/** Σ x over everything but channels. */
export function channelSum(g: Writer, node: Node): string {
  const rank = shapeOf(node).length;
  const axes = Array.from({ length: rank }, (_, i) => i).filter((axis) => axis !== 1);
  return sumOver(g, node.inputs[0]!, axes, false);
}

/** Σ x y over everything but channels. */
export function channelDot(g: Writer, node: Node): string {
  const [x, y] = node.inputs as [string, string];
  return channelSum(g, { ...node, inputs: [mul(g, x, y)] });
}

/** a x + b channel by channel: the inference form of batch normalization does it in one pass. */
export function channelAffine(g: Writer, node: Node): string {
  const [x, a, b] = node.inputs as [string, string, string | undefined];
  const channels = shapeOf(node)[1]!;
  const vector = (value: number): string => g.constant(float32([channels], new Float32Array(channels).fill(value)));
  const inputs = [x, a, b ?? vector(0), vector(0), vector(1)];
  return g.op("BatchNormalization", inputs, { epsilon: float(0) });
}

/** γ c / √(var + ε) + β: the operator as the runtime knows it for inference, of an image whose mean is gone. */
export function batchNormalization(g: Writer, node: Node): string {
  const [, gamma, beta, centred, variance] = node.inputs as [string, string, string, string, string];
  const channels = shapeOf(node)[1]!;
  const inputs = [centred, gamma, beta, g.constant(float32([channels], new Float32Array(channels))), variance];
  return g.op("BatchNormalization", inputs, { epsilon: float(floatAttribute(node, "epsilon", 1e-5)) });
}

/** Shape of a channel operator's input. */
export function shapeOf(node: Node): readonly number[] {
  return intsAttribute(node, "shape") ?? [];
}
