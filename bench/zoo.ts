import type { Dataset } from "../src/data/dataset.ts";
import { openDataset, type Preprocess } from "../src/data/index.ts";
import { datasetOf } from "../src/data/samples.ts";
import { requiredInputs } from "../src/data/synthetic.ts";
import { writeNpz } from "../src/formats/npy.ts";
import type { Graph } from "../src/graph/graph.ts";
import { boxMatch, type Metric, metricOf } from "../src/metrics/index.ts";
import { load, nodeFiles } from "../src/platform/node.ts";
import type { Runtime } from "../src/platform/runtime.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { keywordClips, mfccs, speechFrames, voiceBlocks } from "./zoo/audio.ts";
import { facesAbove, objectsAbove } from "./zoo/detectors.ts";
import { calibrateAndTest, concatenate, halves, join, pick } from "./zoo/samples.ts";
import { stories } from "./zoo/stories.ts";

/** A trained model with data to calibrate and judge it on; calibration samples are never judged on. */
export interface ZooModel {
  readonly name: string;
  /** Below the data folder. */
  readonly path: string;
  /** The first one leads. */
  readonly metrics: readonly Metric[];
  /** The leading metric of the float model on the whole test split (or on "all"), as its makers or earlier measurements state. */
  readonly stated?: number;
  /** How its images are fed, where the file does not say so. */
  readonly preprocess?: Preprocess;
  /** Splits "calibration" and "test". */
  open(data: string, graph: Graph, runtime: Runtime): Promise<Dataset>;
}

const imagenetStyle = { scale: 1 / 255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const top1 = [metricOf("top-1"), metricOf("cross-entropy"), metricOf("agreement"), metricOf("sqnr")];
const top5 = [metricOf("top-1"), metricOf("top-5"), ...top1.slice(1)];

/** The benchmark models. */
export const zoo: readonly ZooModel[] = [
  cifar("resnet8", "mlperf-tiny-resnet8/resnet8.onnx", 0.8721, { channels: "RGB", scale: 1 }),
  cifar("resnet20", "resnet-cifar10/resnet20.onnx", 0.9173, { channels: "RGB", ...imagenetStyle }),
  cifar("resnet56", "resnet-cifar10/resnet56.onnx", 0.9339, { channels: "RGB", ...imagenetStyle }),
  imagenet("squeezenet1.1", "squeezenet-1.1/squeezenet1.1-fp32.onnx", 0.596, {
    channels: "BGR",
    scale: 1,
    mean: [104, 117, 123],
  }),
  imagenet("mobilenet-v1-0.25", "mobilenet-v1-0.25/mobilenet_v1_0.25_224.onnx", 0.609, {
    channels: "RGB",
    scale: 1 / 127.5,
    mean: 1,
  }),
  {
    name: "kws-dscnn",
    path: "mlperf-tiny-dscnn/kws-dscnn.onnx",
    metrics: top1,
    stated: 0.913,
    open: async (data) => mfccs(data),
  },
  { name: "kwt1", path: "kwt-1/kwt1.onnx", metrics: top1, stated: 180 / 185, open: async (data) => keywordClips(data) },
  {
    name: "stories260K",
    path: "stories260k/stories260K.onnx",
    metrics: [metricOf("perplexity"), metricOf("token-accuracy"), metricOf("agreement"), metricOf("sqnr")],
    open: async (data) => stories(data),
  },
  {
    name: "mnist-8",
    path: "mnist-cnn/mnist-8.onnx",
    metrics: top1,
    stated: 0.9891,
    open: async (data, graph) =>
      calibrateAndTest(await openImages(`${data}/mnist`, graph, { scale: 1 }), "train", "test"),
  },
  detector("ultraface", "ultraface-rfb-320/version-RFB-320.onnx", boxMatch(facesAbove(0.7)), {
    channels: "RGB",
    resize: [240, 320],
    scale: 1 / 128,
    mean: 127 / 128,
  }),
  detector("fastestdet", "fastestdet/FastestDet.onnx", boxMatch(objectsAbove(0.5)), {
    channels: "BGR",
    resize: [352, 352],
  }),
  {
    name: "gtcrn",
    path: "gtcrn/gtcrn_simple.onnx",
    metrics: [metricOf("sqnr"), metricOf("cosine")],
    open: speechFrames,
  },
  {
    name: "silero",
    path: "silero-vad/silero_vad_16k_op15.onnx",
    metrics: [metricOf("agreement"), metricOf("sqnr")],
    open: voiceBlocks,
  },
];

/** The data folder: the argument, or the environment's PARE_DATA. */
export function dataFolder(argument?: string): string {
  const folder = argument ?? process.env.PARE_DATA;
  if (!folder) throw new Error("say where the models and data are: an argument, or PARE_DATA");
  return folder;
}

/** A model of the zoo with its graph and data. */
export async function openZoo(
  model: ZooModel,
  data: string,
  runtime: Runtime,
): Promise<{ graph: Graph; dataset: Dataset }> {
  const graph = await load(`${data}/${model.path}`);
  return { graph, dataset: await model.open(data, graph, runtime) };
}

/**
 * The first `count` samples of a split as an .npz that other tools can be fed the same samples from: arrays with the
 * samples along the first axis, or, where samples can't be stacked, whole feeds under the names `<i>/<input>`.
 */
export async function exportFeeds(dataset: Dataset, split: string, count: number): Promise<Uint8Array> {
  const arrays = new Map<string, Tensor>();
  const batches = [];
  for await (const batch of dataset.batches({ split, batch: 1, limit: count })) batches.push(batch);
  const stackable = batches.every(({ inputs }) => Object.values(inputs).every(({ shape }) => shape[0] === 1));
  const recurrent = Object.keys(batches[0]!.inputs).length > 1;
  if (stackable && !recurrent) return writeNpz(new Map(Object.entries(join(batches).inputs)), 1);
  for (const [i, { inputs }] of batches.entries()) {
    for (const [name, input] of Object.entries(inputs)) arrays.set(`${i}/${name}`, input);
  }
  return writeNpz(arrays, 1);
}

function openImages(path: string, graph: Graph, preprocess: Preprocess): Promise<Dataset> {
  return openDataset(path, nodeFiles, { inputs: requiredInputs(graph), outputs: graph.outputs, preprocess });
}

function cifar(name: string, path: string, stated: number, preprocess: Preprocess): ZooModel {
  return {
    name,
    path,
    metrics: top1,
    stated,
    preprocess,
    open: async (data, graph) =>
      calibrateAndTest(await openImages(`${data}/cifar-10`, graph, preprocess), "train", "test"),
  };
}

function imagenet(name: string, path: string, stated: number, preprocess: Preprocess): ZooModel {
  const sized: Preprocess = { resize: 256, crop: 224, ...preprocess };
  return {
    name,
    path,
    metrics: top5,
    stated,
    open: async (data, graph) => halves(name, await openImages(`${data}/imagenet-samples`, graph, sized), "all"),
  };
}

/** Unlabelled photographs: of both detectors' own and of ImageNet; every second one calibrates. */
function detector(name: string, path: string, metric: Metric, preprocess: Preprocess): ZooModel {
  return {
    name,
    path,
    metrics: [metric, metricOf("sqnr"), metricOf("cosine")],
    async open(data, graph) {
      const folders = ["ultraface-rfb-320/images", "fastestdet/images", "imagenet-samples"];
      const opened = await Promise.all(folders.map((folder) => openImages(`${data}/${folder}`, graph, preprocess)));
      const part = (parity: number) =>
        concatenate(
          opened.map((photographs) => {
            const count = Math.min(100, photographs.size("all")!);
            const places = Array.from({ length: count }, (_, i) => i).filter((i) => i % 2 === parity);
            return { ...pick(photographs, "all", places) };
          }),
        );
      return datasetOf(
        name,
        new Map([
          ["calibration", part(1)],
          ["test", part(0)],
        ]),
      );
    },
  };
}
