import type { Graph } from "../../graph/graph.ts";
import type { Random } from "../../random.ts";
import { type ImageOptions, imageInput, logits } from "./image.ts";
import { network } from "./network.ts";

/** LeNet-300-100: two hidden layers over all pixels (LeCun et al. 1998). */
export function lenet300(options: ImageOptions, random: Random): Graph {
  const pixels = options.inputChannels * options.size ** 2;
  return network("lenet-300-100", [imageInput(options)], logits(options), random, (net) => {
    const flat = net.op("Flatten", ["image"]);
    const first = net.relu(net.linear("fc1", flat, pixels, 300, 2));
    return net.linear("fc3", net.relu(net.linear("fc2", first, 300, 100, 2)), 100, options.classes);
  });
}

/** LeNet-5 as Caffe has it: 20 and 50 kernels of 5x5, one hidden layer of 500 (430,500 weights at 28x28). */
export function lenet5(options: ImageOptions, random: Random): Graph {
  const side = Math.floor((Math.floor((options.size - 4) / 2) - 4) / 2);
  return network("lenet-5", [imageInput(options)], logits(options), random, (net) => {
    const layer = (name: string, x: string, from: number, to: number): string => {
      const y = net.conv(name, x, from, to, { kernel: 5, pads: [0, 0, 0, 0], bias: true });
      return net.op("MaxPool", [y], { kernel_shape: [2, 2], strides: [2, 2] });
    };
    const features = net.op("Flatten", [layer("conv2", layer("conv1", "image", options.inputChannels, 20), 20, 50)]);
    const hidden = net.relu(net.linear("fc1", features, 50 * side * side, 500, 2));
    return net.linear("fc2", hidden, 500, options.classes);
  });
}

/** A small convolutional network: three stages of two convolutions with batch normalization, 0.3 M weights. */
export function smallCnn(options: ImageOptions, random: Random): Graph {
  const width = Math.round(32 * options.width);
  return network("small-cnn", [imageInput(options)], logits(options), random, (net) => {
    let x = "image";
    let channels = options.inputChannels;
    for (let stage = 0; stage < 3; stage++) {
      const to = width << stage;
      for (const part of ["a", "b"]) {
        const name = `stage${stage + 1}.${part}`;
        x = net.relu(net.batchNorm(`${name}.bn`, net.conv(name, x, channels, to), to));
        channels = to;
      }
      if (stage < 2) x = net.op("MaxPool", [x], { kernel_shape: [2, 2], strides: [2, 2] });
    }
    const pooled = net.op("Flatten", [net.op("GlobalAveragePool", [x])]);
    return net.linear("fc", pooled, channels, options.classes);
  });
}
