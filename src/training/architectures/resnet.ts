import type { Graph } from "../../graph/graph.ts";
import type { Random } from "../../random.ts";
import { float32, int64 } from "../../tensor/tensor.ts";
import { type ImageOptions, imageInput, logits } from "./image.ts";
import { type Network, network } from "./network.ts";

/**
 * The CIFAR ResNets: 6n + 2 layers of 16, 32 and 64 channels, shortcuts without weights (every second pixel, new
 * channels zero: option A) (He et al. 2016).
 */
export function cifarResnet(depth: 20 | 32 | 56): (options: ImageOptions, random: Random) => Graph {
  const blocks = (depth - 2) / 6;
  return (options, random) =>
    network(`resnet${depth}`, [imageInput(options)], logits(options), random, (net) => {
      const width = Math.round(16 * options.width);
      let x = net.relu(net.batchNorm("bn1", net.conv("conv1", "image", options.inputChannels, width), width));
      let channels = width;
      for (let stage = 0; stage < 3; stage++) {
        for (let block = 0; block < blocks; block++) {
          const to = width << stage;
          x = basicBlock(net, `layer${stage + 1}.${block}`, x, channels, to, stage > 0 && block === 0 ? 2 : 1);
          channels = to;
        }
      }
      const pooled = net.op("Flatten", [net.op("GlobalAveragePool", [x])]);
      return net.linear("fc", pooled, channels, options.classes);
    });
}

function basicBlock(net: Network, name: string, x: string, from: number, to: number, stride: number): string {
  const first = net.relu(net.batchNorm(`${name}.bn1`, net.conv(`${name}.conv1`, x, from, to, { stride }), to));
  const second = net.batchNorm(`${name}.bn2`, net.conv(`${name}.conv2`, first, to, to), to);
  return net.relu(net.op("Add", [second, shortcut(net, x, from, to, stride)]));
}

function shortcut(net: Network, x: string, from: number, to: number, stride: number): string {
  let y = x;
  const far = 2 ** 31 - 1;
  if (stride > 1) {
    const [starts, ends] = [net.constant("starts", int64([0, 0])), net.constant("ends", int64([far, far]))];
    y = net.op("Slice", [
      y,
      starts,
      ends,
      net.constant("axes", int64([2, 3])),
      net.constant("steps", int64([stride, stride])),
    ]);
  }
  if (to === from) return y;
  const before = Math.floor((to - from) / 2);
  const pads = net.constant("pads", int64([0, before, 0, 0, 0, to - from - before, 0, 0]));
  return net.op("Pad", [y, pads, net.constant("zero", float32([], [0]))]);
}
