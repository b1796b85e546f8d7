import type { z } from "zod";
import type { Graph } from "../../graph/graph.ts";
import type { Random } from "../../random.ts";
import { digitOptions, imageOptions } from "./image.ts";
import { lenet5, lenet300, smallCnn } from "./lenet.ts";
import { dsCnn, keywordOptions, mobilenetV2 } from "./mobile.ts";
import { cifarResnet } from "./resnet.ts";
import { gpt, gptOptions, vit, vitOptions } from "./transformer.ts";

/** A network that can be trained from nothing. */
export interface Architecture<Options extends z.ZodObject = z.ZodObject> {
  readonly summary: string;
  readonly options: Options;
  /** The network with fresh weights drawn from `random`. */
  build(options: z.output<Options>, random: Random): Graph;
}

function architecture<Options extends z.ZodObject>(
  summary: string,
  options: Options,
  build: Architecture<Options>["build"],
): Architecture {
  return { summary, options, build: (given, random) => build(options.parse(given) as z.output<Options>, random) };
}

/** Every architecture by name. */
export const architectures: Readonly<Record<string, Architecture>> = {
  "lenet-300-100": architecture("two hidden layers over all pixels", digitOptions, lenet300),
  "lenet-5": architecture("two convolutions and a hidden layer", digitOptions, lenet5),
  "small-cnn": architecture("six convolutions with batch normalization", imageOptions, smallCnn),
  resnet20: architecture("the CIFAR ResNet of 20 layers", imageOptions, cifarResnet(20)),
  resnet32: architecture("the CIFAR ResNet of 32 layers", imageOptions, cifarResnet(32)),
  resnet56: architecture("the CIFAR ResNet of 56 layers", imageOptions, cifarResnet(56)),
  "mobilenet-v2": architecture("inverted residuals with depthwise convolutions", imageOptions, mobilenetV2),
  "ds-cnn": architecture("keyword spotting over a spectrogram", keywordOptions, dsCnn),
  vit: architecture("a vision transformer over patches", vitOptions, vit),
  gpt: architecture("a decoder-only language model", gptOptions, gpt),
};
