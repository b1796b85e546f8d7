import { z } from "zod";
import type { Batch } from "../data/dataset.ts";
import type { ImageInput } from "../data/plan.ts";
import { fail } from "../errors.ts";
import type { Graph, Node } from "../graph/graph.ts";
import { convertOpset } from "../ops/convert.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import type { Arithmetic } from "./emit.ts";
import { lossPrefix, targetName, teacherPrefix, withLoss, withTeacher } from "./join.ts";
import { accuracyOf, distillationLoss, losses, lossOptions, relativeError } from "./losses.ts";
import { logitsOf, trainingOpset } from "./prepare.ts";
import type { StepOptions } from "./step.ts";
import { type Target, targetFor } from "./target.ts";

/** What a model is trained towards. */
export const objectiveOptions = z.object({
  ...lossOptions.shape,
  temperature: z.number().positive().default(4).describe("softening of the teacher's and the student's logits"),
  teacherWeight: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe("share of the teacher's soft targets in the loss; 0.9 with labels, 1 without"),
  teacherLoss: z
    .enum(["auto", "kl", "mse"])
    .default("auto")
    .describe(
      "distance to the teacher: kl of softened class scores, or squared error of all outputs as a share of the teacher's squares; auto: kl for scores of classes, mse for everything else",
    ),
});

/** Options of an objective, defaults filled in. */
export type ObjectiveOptions = z.output<typeof objectiveOptions>;

/** How to train one model on one kind of data. */
export interface Objective {
  /** The model to differentiate: with the teacher's nodes in it, where there is one. */
  readonly model: Graph;
  readonly objective: StepOptions["objective"];
  /** The feeds of a step. */
  feeds(batch: Batch): Tensors;
  /** Feeds that the model itself does not take. */
  readonly extraInputs: readonly string[];
  /** Which input holds images, if one does. */
  readonly images?: ImageInput;
  /** Classes that the labels are out of, or the width of the model's output. */
  readonly classes: number;
  /** Whether a node belongs to the model, not to the teacher. */
  readonly own: (node: Node) => boolean;
  /** The losses in words. */
  readonly summary: string;
}

/**
 * The objective that suits a model and its data: cross-entropy for class labels and tokens, binary cross-entropy for 0 and 1
 * and a single score, mean squared error for quantities, or a loss that is a graph of the user's; and a teacher's soft
 * targets beside them or alone (Hinton et al. 2015).
 *
 * @param sample one batch, by whose labels to choose
 * @param more.softLabels labels as distributions, so that mixup can blend them
 * @param more.loss a graph whose first output is the loss, or values whose mean is: its input "labels" takes the labels,
 *   the others outputs or inputs of the model, by name; a single one of any other name the model's first float output
 * @throws PareError where there are neither labels nor a teacher, or they do not fit the model
 */
export async function objectiveFor(
  student: Graph,
  runtime: Runtime,
  sample: Batch,
  options: ObjectiveOptions,
  more: { readonly teacher?: Graph; readonly loss?: Graph; readonly softLabels?: boolean } = {},
): Promise<Objective> {
  const { teacher, loss: lossGraph, softLabels = false } = more;
  const labels = sample.labels;
  if (!labels && !teacher && !lossGraph)
    return fail("train", "the data has no labels", "Give labels, or a teacher model");
  const types = await observeTypes(student, runtime, sample.inputs);
  const outputs = floatOutputs(student, types);
  const output = outputs[0] ?? fail("train", "the model has no float output to put a loss on");
  const shape = types.get(logitsOf(student, output))!.shape;
  const converted = (graph: Graph): Graph => convertOpset(graph, trainingOpset);
  let model = student;
  if (teacher) model = withTeacher(converted(model), converted(teacher));
  if (lossGraph) model = withLoss(converted(model), converted(lossGraph), { output, labels });
  const target = labels && !lossGraph ? targetFor(labels, shape, options.loss, softLabels, options.ignore) : undefined;
  const hard = target ? labelLoss(student, output, target, options) : lossGraph && graphLoss(lossGraph);
  const share = teacher ? (options.teacherWeight ?? (hard ? 0.9 : 1)) : 0;
  const soft = teacher && share > 0 ? teacherLoss(teacher, { student, outputs, shape, target }, options) : undefined;
  const takesLabels = target !== undefined || model.inputs.some(({ name }) => name === targetName);
  const images = imagesOf(student, sample);
  return {
    model,
    extraInputs: target ? [targetName] : [],
    feeds: ({ inputs, labels: given }) => ({
      ...inputs,
      ...(takesLabels && given && { [targetName]: target?.feed(given) ?? given }),
    }),
    classes: shape[target?.classAxis ?? shape.length - 1] ?? 1,
    own: ({ name }) => !name.startsWith(teacherPrefix) && !name.startsWith(lossPrefix),
    summary: summaryOf(lossGraph ? "a graph" : target?.loss, soft?.summary, share),
    ...(images && { images: { ...images, ...(softLabels && target?.classes && { classes: target.classes }) } }),
    objective: (a, network) => {
      const labelled = hard?.(a, network, share < 1);
      const report = labelled?.report ?? {};
      if (!soft) return { loss: labelled!.loss!, report };
      const distance = soft.write(a, network);
      if (labelled?.loss === undefined) return { loss: distance, report };
      return { loss: a.add(a.mul(labelled.loss, a.scalar(1 - share)), a.mul(distance, a.scalar(share))), report };
    },
  };
}

type Network = Parameters<StepOptions["objective"]>[1];

/** Writes the loss against the labels where it is wanted, and what of it is reported. */
type LabelLoss = (
  a: Arithmetic,
  network: Network,
  wanted: boolean,
) => { readonly loss?: string; readonly report: Readonly<Record<string, string>> };

function labelLoss(student: Graph, output: string, target: Target, options: ObjectiveOptions): LabelLoss {
  return (a, network, wanted) => {
    const prediction =
      target.loss === "binary-cross-entropy" ? logitsOf(student, output, "Sigmoid") : network.logits(output);
    const { shape } = network.type(prediction);
    const parts = { prediction, shape, classAxis: target.classAxis, target: targetName, soft: target.soft };
    return {
      report: target.classes ? { accuracy: accuracyOf(a, parts, options.ignore) } : {},
      ...(wanted && { loss: losses[target.loss](a, parts, options) }),
    };
  };
}

function graphLoss(graph: Graph): LabelLoss {
  const value = `${lossPrefix}${graph.outputs[0]!.name}`;
  return (a, _, wanted) => ({ report: {}, ...(wanted && { loss: a.op("ReduceMean", [value], { keepdims: 0 }) }) });
}

/** The distance to a teacher: see {@link objectiveOptions}. */
function teacherLoss(
  teacher: Graph,
  {
    student,
    outputs,
    shape,
    target,
  }: {
    readonly student: Graph;
    readonly outputs: readonly string[];
    readonly shape: readonly number[];
    readonly target: Target | undefined;
  },
  { teacherLoss: wanted, temperature }: ObjectiveOptions,
): { readonly summary: string; write(a: Arithmetic, network: Network): string } {
  const twins = outputs.map((name): [string, string] => {
    const place = student.outputs.findIndex((output) => output.name === name);
    const twin =
      teacher.outputs.find((output) => output.name === name) ??
      teacher.outputs[place] ??
      fail("teacher", `has no output ${place + 1}, the student's '${name}'`);
    return [name, `${teacherPrefix}${twin.name}`];
  });
  // scores of classes: labels say so, or a single output of a row a sample or a token
  const classes = target ? target.classes !== undefined : outputs.length === 1 && (shape.at(-1) ?? 1) > 1;
  const ranked = target ? true : shape.length === 2 || shape.length === 3;
  if (wanted === "mse" || (wanted === "auto" && !(classes && ranked))) {
    return {
      summary: "the teacher's outputs, squared error",
      write(a, network) {
        const errors = twins.map(([own, its]) => relativeError(a, network.logits(own), network.logits(its)));
        return errors.length === 1 ? errors[0]! : a.mul(a.op("Sum", errors), a.scalar(1 / errors.length));
      },
    };
  }
  const [own, its] = twins[0]!;
  const classAxis = target?.classAxis ?? (shape.length === 3 ? 2 : 1);
  return {
    summary: `the teacher's soft targets at temperature ${temperature}`,
    write: (a, network) => distillationLoss(a, network.logits(own), network.logits(its), classAxis, temperature),
  };
}

function floatOutputs({ outputs }: Graph, types: Awaited<ReturnType<typeof observeTypes>>): readonly string[] {
  const float = (name: string): boolean => {
    const dtype = types.get(name)?.dtype;
    return dtype !== undefined && dtypes[dtype].kind === "float";
  };
  return outputs.map(({ name }) => name).filter(float);
}

function summaryOf(hard: string | undefined, soft: string | undefined, share: number): string {
  if (soft === undefined) return hard!;
  if (hard === undefined || share === 1) return soft;
  return `${1 - share} ${hard} + ${share} ${soft}`.replace(/0\.\d+/g, (n) => `${Number(n).toPrecision(2)}`);
}

/** The first input of 1, 3 or 4 channels a pixel, on the second axis or the last. */
function imagesOf({ inputs }: Graph, sample: Batch): Pick<ImageInput, "input" | "channelsLast"> | undefined {
  for (const channels of [[1, 3], [4]]) {
    for (const { name } of inputs) {
      const t = sample.inputs[name];
      if (t?.dtype !== "float32" || t.shape.length !== 4) continue;
      if (channels.includes(t.shape[1]!)) return { input: name, channelsLast: false };
      if (channels.includes(t.shape[3]!)) return { input: name, channelsLast: true };
    }
  }
  return undefined;
}
