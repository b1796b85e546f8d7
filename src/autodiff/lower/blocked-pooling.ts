import { intAttribute, intsAttribute } from "../../graph/graph.ts";
import { sizeOf } from "../../tensor/tensor.ts";
import { windowOf } from "../rules/convolution.ts";
import { div, mul } from "../rules/helpers.ts";
import { scalar } from "../writer.ts";
import { type BlockedLowering, nchwc } from "./blocked.ts";
import { geometry } from "./convolution.ts";

/** MaxPool and AveragePool of images that are in blocks already. */
export const blockedPool: BlockedLowering = (node, layout) => {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const [from, to] = [layout.shape(x), layout.shape(y)];
  if (!layout.isBlocked(x) || from?.length !== 4 || to?.length !== 4 || node.outputs.length > 1) return false;
  if (node.op === "GlobalAveragePool") {
    layout.give(y, layout.g.op(`${nchwc}:GlobalAveragePool`, [layout.blocked(x)]), to);
    return true;
  }
  const window = windowOf(node, intsAttribute(node, "kernel_shape") ?? [], from.slice(2), to.slice(2));
  const { kernel, strides, dilations, begins, ends } = window;
  const average = node.op === "AveragePool";
  // operator sets differ in what the mean of a window beyond the padding is over
  if (dilations.some((dilation) => dilation > 1) || (average && intAttribute(node, "ceil_mode", 0) === 1)) return false;
  const attributes = {
    kernel_shape: [...kernel],
    strides: [...strides],
    pads: [...begins, ...ends],
    ceil_mode: intAttribute(node, "ceil_mode", 0),
    ...(average && { count_include_pad: intAttribute(node, "count_include_pad", 0) }),
  };
  layout.give(y, layout.g.op(`${nchwc}:${node.op}`, [layout.blocked(x)], attributes), to);
  return true;
};

/**
 * dx of a max pool whose windows tile the image, by arithmetic: with y and dy spread over their windows, the places with
 * x = y get the window's share of dy. Where several tie they share it evenly.
 */
export const blockedMaxPoolGradient: BlockedLowering = (node, layout) => {
  const [x, y, dy] = node.inputs as [string, string, string];
  const { window, input, output } = geometry(node);
  const { kernel, begins } = window;
  const tiles = kernel.every((k, i) => input[i + 2] === output[i + 2]! * k && begins[i] === 0);
  if (!layout.isBlocked(x) || input.length !== 4 || !tiles) return false;
  const { g } = layout;
  const spread = (value: string): string =>
    g.op(`${nchwc}:Upsample`, [value], { scales: [1, 1, ...kernel], mode: "nearest" });
  const channels = layout.padded(input[1]!);
  // 1 where x - y = 0 and 0 below: a copying convolution adds -y and steps, in one pass
  const mask = g.op(
    `${nchwc}:Conv`,
    [layout.blocked(x), layout.tap(input[1]!), "", spread(g.op("Neg", [layout.blocked(y, output)]))],
    {
      kernel_shape: [1, 1],
      group: channels,
      activation: "HardSigmoid",
      activation_params: { type: "floats", value: [2 ** 100, 1] },
    },
  );
  const size = sizeOf(kernel);
  const hits = g.op(`${nchwc}:AveragePool`, [mask], { kernel_shape: [...kernel], strides: [...kernel] });
  // at least one, so that the filling of y, which need not be that of x, divides nothing by zero
  const ties = g.op("Max", [mul(g, hits, scalar(g, size)), scalar(g, 1)]);
  layout.give(node.outputs[0]!, mul(g, mask, spread(div(g, layout.blocked(dy, output), ties))), input);
  return true;
};
