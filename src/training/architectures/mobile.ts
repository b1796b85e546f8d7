import { z } from "zod";
import type { Graph } from "../../graph/graph.ts";
import type { Random } from "../../random.ts";
import { float32 } from "../../tensor/tensor.ts";
import { type ImageOptions, imageInput, logits, scaledChannels } from "./image.ts";
import { type Network, network } from "./network.ts";

/** Expansion, channels, repeats and first stride of MobileNetV2's stages (Sandler et al. 2018, table 2). */
const stages = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

function relu6(net: Network, x: string): string {
  return net.op("Clip", [x, net.constant("min", float32([], [0])), net.constant("max", float32([], [6]))]);
}

/**
 * MobileNetV2: inverted residuals with linear bottlenecks. Images of 64 pixels or less keep the size of the first two
 * strides, as is usual for CIFAR.
 */
export function mobilenetV2(options: ImageOptions, random: Random): Graph {
  const small = options.size <= 64;
  return network("mobilenet-v2", [imageInput(options)], logits(options), random, (net) => {
    const unit = (name: string, x: string, from: number, to: number, conv: Parameters<Network["conv"]>[4]): string =>
      net.batchNorm(`${name}.bn`, net.conv(name, x, from, to, conv), to);
    let channels = scaledChannels(32, options.width);
    let x = relu6(net, unit("stem", "image", options.inputChannels, channels, { stride: small ? 1 : 2 }));
    for (const [stage, [expansion, wanted, repeats, firstStride]] of stages.entries()) {
      const to = scaledChannels(wanted, options.width);
      for (let block = 0; block < repeats; block++) {
        const name = `stage${stage + 1}.${block}`;
        const stride = block > 0 || (small && stage === 1) ? 1 : firstStride;
        const inner = channels * expansion;
        let y = x;
        if (expansion > 1) y = relu6(net, unit(`${name}.expand`, y, channels, inner, { kernel: 1 }));
        y = relu6(net, unit(`${name}.depthwise`, y, inner, inner, { stride, group: inner }));
        y = unit(`${name}.project`, y, inner, to, { kernel: 1 });
        x = stride === 1 && channels === to ? net.op("Add", [x, y]) : y;
        channels = to;
      }
    }
    const last = Math.max(1280, scaledChannels(1280, options.width));
    x = relu6(net, unit("head", x, channels, last, { kernel: 1 }));
    return net.linear("fc", net.op("Flatten", [net.op("GlobalAveragePool", [x])]), last, options.classes);
  });
}

/** Options of the keyword spotter. */
export const keywordOptions = z.object({
  frames: z.number().int().positive().default(49).describe("frames of the spectrogram"),
  features: z.number().int().positive().default(10).describe("features a frame"),
  classes: z.number().int().positive().default(12).describe("number of keywords"),
  width: z.number().positive().default(1).describe("factor on the 64 channels"),
});

/** DS-CNN: one convolution and four depthwise separable ones over a spectrogram (Zhang et al. 2017; MLPerf Tiny). */
export function dsCnn(options: z.output<typeof keywordOptions>, random: Random): Graph {
  const { frames, features } = options;
  const input = {
    name: "mfcc",
    type: { kind: "tensor", dtype: "float32", shape: ["batch", 1, frames, features] },
  } as const;
  return network("ds-cnn", [input], logits(options), random, (net) => {
    const channels = Math.max(8, Math.round(64 * options.width));
    const unit = (name: string, x: string, from: number, conv: Parameters<Network["conv"]>[4]): string =>
      net.relu(net.batchNorm(`${name}.bn`, net.conv(name, x, from, channels, conv), channels));
    let x = unit("stem", "mfcc", 1, { kernel: [10, 4], stride: 2, pads: [4, 1, 5, 2] });
    for (let block = 1; block <= 4; block++) {
      x = unit(`block${block}.depthwise`, x, channels, { group: channels });
      x = unit(`block${block}.pointwise`, x, channels, { kernel: 1 });
    }
    return net.linear("fc", net.op("Flatten", [net.op("GlobalAveragePool", [x])]), channels, options.classes);
  });
}
