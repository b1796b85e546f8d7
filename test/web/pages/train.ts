import { digitsNetwork } from "../../../examples/digits/network.ts";
import { digitsData, makePictures } from "../../../examples/digits/pictures.ts";
import { encodeOnnx } from "../../../src/formats/onnx/index.ts";
import { random } from "../../../src/random.ts";
import { finetune } from "../../../src/training/index.ts";
import type { PageFunction } from "../chromium.ts";

/** How long to train the digits model from fresh weights. */
export interface TrainingJob {
  readonly pictures: number;
  readonly batch: number;
  readonly epochs: number;
}

/** What the training did. */
export interface Training {
  readonly model: Uint8Array;
  /** Mean loss of each epoch. */
  readonly losses: readonly number[];
  /** Share of held-out pictures read right after each epoch. */
  readonly accuracies: readonly number[];
}

/** Trains the digits model on pictures drawn on the spot. */
const train: PageFunction<TrainingJob, Training> = async (runtime, { pictures, batch, epochs }) => {
  const data = digitsData({ train: makePictures("train", pictures), val: makePictures("t10k", 100) });
  const losses: number[] = [];
  const accuracies: number[] = [];
  const { model } = await finetune(
    digitsNetwork(random(7)),
    { epochs, batch, optimizer: "sgd", rate: 0.05 },
    {
      runtime,
      data,
      untrained: true,
      record(entry) {
        if (entry.kind !== "epoch") return;
        losses.push(entry.loss);
        accuracies.push(entry.score!);
      },
    },
  );
  return { model: encodeOnnx(model), losses, accuracies };
};

export default train;
