import { z } from "zod";
import type { Batch } from "../data/dataset.ts";
import { fail } from "../errors.ts";
import type { Graph, Node } from "../graph/graph.ts";
import { convertOpset } from "../ops/convert.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { lossPrefix, targetName, teacherPrefix, withLoss, withTeacher } from "./join.ts";
import { accuracyOf, distillationLoss, losses, lossOptions } from "./losses.ts";
import { logitsOf, trainingOpset } from "./prepare.ts";
import type { StepOptions } from "./step.ts";
import { targetFor } from "./target.ts";

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
  /** Which input holds images; with `classes`, labels become distributions over these, so that they can be blended. */
  readonly images?: { readonly input: string; readonly classes?: number };
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
  const types = await observeTypes(student, runtime, sample.inputs);
  const output = student.outputs.find(({ name }) => {
    const dtype = types.get(name)?.dtype;
    return dtype !== undefined && dtypes[dtype].kind === "float";
  })?.name;
  if (output === undefined) return fail("train", "the model has no float output to put a loss on");
  const logits = logitsOf(student, output);
  const shape = types.get(logits)!.shape;
  const labels = sample.labels;
  if (!labels && !teacher && !lossGraph)
    return fail("train", "the data has no labels", "Give labels, or a teacher model");
  const converted = (graph: Graph): Graph => convertOpset(graph, trainingOpset);
  let model = student;
  if (teacher) model = withTeacher(converted(model), converted(teacher));
  if (lossGraph) model = withLoss(converted(model), converted(lossGraph), { output, labels });
  const target = labels && !lossGraph ? targetFor(labels, shape, options.loss, softLabels) : undefined;
  const takesLabels = target !== undefined || model.inputs.some(({ name }) => name === targetName);
  const teacherOutput = teacher && `${teacherPrefix}${teacher.outputs[0]!.name}`;
  const share = teacher ? (options.teacherWeight ?? (target || lossGraph ? 0.9 : 1)) : 0;
  const imageInput = student.inputs.find(({ name }) => isImages(sample.inputs[name]))?.name;
  return {
    model,
    extraInputs: target ? [targetName] : [],
    feeds: ({ inputs, labels: given }) => ({
      ...inputs,
      ...(takesLabels && given && { [targetName]: target?.feed(given) ?? given }),
    }),
    classes: shape[target?.classAxis ?? shape.length - 1] ?? 1,
    own: ({ name }) => !name.startsWith(teacherPrefix) && !name.startsWith(lossPrefix),
    summary: summaryOf(lossGraph ? "a graph" : target?.loss, share, options.temperature),
    ...(imageInput !== undefined && {
      images: { input: imageInput, ...(softLabels && target?.classes && { classes: target.classes }) },
    }),
    objective: (a, network) => {
      const prediction =
        target?.loss === "binary-cross-entropy" ? logitsOf(student, output, "Sigmoid") : network.logits(output);
      const classAxis = target?.classAxis ?? (shape.length === 3 ? 2 : 1);
      const parts = {
        prediction,
        shape: network.type(prediction).shape,
        classAxis,
        target: targetName,
        soft: target?.soft ?? false,
      };
      const report = target?.classes ? { accuracy: accuracyOf(a, parts, options.ignore) } : {};
      let hard = target && share < 1 ? losses[target.loss](a, parts, options) : undefined;
      if (lossGraph && share < 1)
        hard = a.op("ReduceMean", [`${lossPrefix}${lossGraph.outputs[0]!.name}`], { keepdims: 0 });
      if (teacherOutput === undefined || share === 0) return { loss: hard!, report };
      const soft = distillationLoss(a, prediction, network.logits(teacherOutput), classAxis, options.temperature);
      if (!hard) return { loss: soft, report };
      return { loss: a.add(a.mul(hard, a.scalar(1 - share)), a.mul(soft, a.scalar(share))), report };
    },
  };
}

function summaryOf(loss: string | undefined, share: number, temperature: number): string {
  if (share === 0) return loss!;
  const soft = `the teacher's soft targets at temperature ${temperature}`;
  return loss === undefined || share === 1
    ? soft
    : `${1 - share} ${loss} + ${share} ${soft}`.replace(/0\.\d+/g, (n) => `${Number(n).toPrecision(2)}`);
}

function isImages(t: Tensor | undefined): boolean {
  return t?.dtype === "float32" && t.shape.length === 4 && (t.shape[1] === 1 || t.shape[1] === 3);
}
