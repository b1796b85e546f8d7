import { z } from "zod";
import type { Batch } from "../data/dataset.ts";
import { fail } from "../errors.ts";
import type { Attribute, Graph, Node, Subgraph } from "../graph/graph.ts";
import { convertOpset } from "../ops/convert.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import { float32, type Tensor, toNumbers } from "../tensor/tensor.ts";
import { distillationLoss, type LossName, losses, lossOptions } from "./losses.ts";
import { logitsOf, trainingOpset } from "./prepare.ts";
import type { StepOptions } from "./step.ts";

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
  /** Which feed holds images, and which one labels to blend with them. */
  readonly images?: { readonly input: string; readonly labels?: string };
  /** Whether a node belongs to the model, not to the teacher. */
  readonly own: (node: Node) => boolean;
  /** The losses in words. */
  readonly summary: string;
}

const teacherPrefix = "teacher/";
const targetName = "pare_target";

/**
 * The objective that suits a model and its data: cross-entropy for class labels and tokens, mean squared error for
 * quantities, and a teacher's soft targets beside them or alone (Hinton et al. 2015).
 *
 * @param sample one batch, by whose labels to choose
 * @param softLabels labels as distributions, so that mixup can blend them
 * @throws PareError where there are neither labels nor a teacher, or they do not fit the model
 */
export async function objectiveFor(
  student: Graph,
  runtime: Runtime,
  sample: Batch,
  options: ObjectiveOptions,
  more: { readonly teacher?: Graph; readonly softLabels?: boolean } = {},
): Promise<Objective> {
  const { teacher, softLabels = false } = more;
  const types = await observeTypes(student, runtime, sample.inputs);
  const output = student.outputs.find(({ name }) => {
    const dtype = types.get(name)?.dtype;
    return dtype !== undefined && dtypes[dtype].kind === "float";
  })?.name;
  if (output === undefined) return fail("train", "the model has no float output to put a loss on");
  const logits = logitsOf(student, output);
  const shape = types.get(logits)!.shape;
  const labels = sample.labels;
  if (!labels && !teacher) return fail("train", "the data has no labels", "Give labels, or a teacher model");
  const target = labels && targetFor(labels, shape, options.loss, softLabels);
  const converted = (graph: Graph): Graph => convertOpset(graph, trainingOpset);
  const model = teacher ? withTeacher(converted(student), converted(teacher)) : student;
  const teacherOutput = teacher && `${teacherPrefix}${teacher.outputs[0]!.name}`;
  const share = options.teacherWeight ?? (target ? 0.9 : 1);
  const imageInput = student.inputs.find(({ name }) => isImages(sample.inputs[name]))?.name;
  return {
    model,
    extraInputs: target ? [targetName] : [],
    feeds: (batch) => ({ ...batch.inputs, ...(target && { [targetName]: target.feed(batch.labels!) }) }),
    own: (node) => !node.name.startsWith(teacherPrefix),
    summary: summaryOf(target?.loss, teacherOutput === undefined ? undefined : share, options.temperature),
    ...(imageInput !== undefined && { images: { input: imageInput, ...(target?.soft && { labels: targetName }) } }),
    objective: (a, network) => {
      const prediction = network.logits(output);
      const classAxis = target?.classAxis ?? (shape.length === 3 ? 2 : 1);
      const parts = {
        prediction,
        shape: network.type(prediction).shape,
        classAxis,
        target: targetName,
        soft: target?.soft ?? false,
      };
      const hard = target && share < 1 ? losses[target.loss](a, parts, options) : undefined;
      if (teacherOutput === undefined) return { loss: hard ?? losses[target!.loss](a, parts, options) };
      const soft = distillationLoss(a, prediction, network.logits(teacherOutput), classAxis, options.temperature);
      if (!hard) return { loss: soft };
      return { loss: a.add(a.mul(hard, a.scalar(1 - share)), a.mul(soft, a.scalar(share))) };
    },
  };
}

function summaryOf(loss: LossName | undefined, share: number | undefined, temperature: number): string {
  if (share === undefined || share === 0) return loss!;
  const soft = `the teacher's soft targets at temperature ${temperature}`;
  return loss === undefined || share === 1
    ? soft
    : `${1 - share} ${loss} + ${share} ${soft}`.replace(/0\.\d+/g, (n) => `${Number(n).toPrecision(2)}`);
}

function isImages(t: Tensor | undefined): boolean {
  return t?.dtype === "float32" && t.shape.length === 4 && (t.shape[1] === 1 || t.shape[1] === 3);
}

interface Target {
  readonly loss: LossName;
  readonly classAxis: number;
  readonly soft: boolean;
  feed(labels: Tensor): Tensor;
}

/** How labels become the target of a loss over logits of a shape. */
function targetFor(
  labels: Tensor,
  shape: readonly number[],
  wanted: LossName | undefined,
  softLabels: boolean,
): Target {
  const classes = dtypes[labels.dtype].kind !== "float";
  if (!classes) {
    const fitting = labels.size === shape.reduce((a, b) => a * b, 1);
    if (!fitting) misfit(labels, shape);
    const inner = shape.slice(1);
    return { loss: wanted ?? "mse", classAxis: 1, soft: true, feed: (t) => ({ ...t, shape: [t.shape[0]!, ...inner] }) };
  }
  const loss = wanted ?? "cross-entropy";
  const classAxis = labels.shape.length === 2 && shape.length === 3 ? 2 : 1;
  const places = shape.filter((_, axis) => axis !== classAxis);
  if (labels.size !== places.reduce((a, b) => a * b, 1)) misfit(labels, shape);
  const count = shape[classAxis]!;
  if (softLabels || loss === "binary-cross-entropy") {
    if (shape.length !== 2) fail("train", "blended labels need one class a sample", "Turn mixup off");
    return { loss, classAxis, soft: true, feed: (t) => oneHot(t, count) };
  }
  const inner = places.slice(1);
  return { loss, classAxis, soft: false, feed: (t) => ({ ...t, shape: [t.shape[0]!, ...inner] }) };
}

function misfit(labels: Tensor, shape: readonly number[]): never {
  const what = `labels of shape [${labels.shape.join(", ")}] for outputs of shape [${shape.join(", ")}]`;
  return fail("train", what, "Check that data and model belong together");
}

function oneHot(labels: Tensor, classes: number): Tensor {
  const out = new Float32Array(labels.size * classes);
  for (const [i, label] of toNumbers(labels).entries()) {
    if (!(label >= 0 && label < classes)) fail("train", `label ${label} for ${classes} classes`);
    out[i * classes + label] = 1;
  }
  return float32([labels.size, classes], out);
}

/**
 * Teacher and student in one graph, fed by the same inputs; the teacher's values and nodes are prefixed.
 *
 * @throws PareError where the teacher takes inputs the student does not have
 */
function withTeacher(student: Graph, teacher: Graph): Graph {
  const shared = new Map<string, string>();
  const free = teacher.inputs.filter(({ name }) => !teacher.weights.has(name));
  for (const [i, { name }] of free.entries()) {
    const same =
      student.inputs.find((input) => input.name === name) ?? (free.length === 1 ? student.inputs[0] : undefined);
    if (!same) fail("teacher", `takes the input '${name}', which the student does not have (input ${i})`);
    shared.set(name, same!.name);
  }
  const rename = (name: string): string => (name === "" ? "" : (shared.get(name) ?? `${teacherPrefix}${name}`));
  return {
    ...student,
    nodes: [...renamed(teacher, rename).nodes, ...student.nodes],
    weights: new Map([...student.weights, ...[...teacher.weights].map(([name, w]) => [rename(name), w] as const)]),
    sparse: new Map([...student.sparse, ...[...teacher.sparse].map(([name, s]) => [rename(name), s] as const)]),
    outputs: [...student.outputs, ...teacher.outputs.map((value) => ({ ...value, name: rename(value.name) }))],
    opsets: { ...teacher.opsets, ...student.opsets },
    functions: [...student.functions, ...teacher.functions],
  };
}

function renamed(graph: Subgraph, rename: (name: string) => string): Subgraph {
  const attribute = (value: Attribute): Attribute => {
    if (value.type === "graph") return { type: "graph", value: renamed(value.value, rename) };
    return value.type === "graphs" ? { type: "graphs", value: value.value.map((g) => renamed(g, rename)) } : value;
  };
  return {
    ...graph,
    nodes: graph.nodes.map((node) => ({
      ...node,
      name: `${teacherPrefix}${node.name}`,
      inputs: node.inputs.map(rename),
      outputs: node.outputs.map(rename),
      attributes: Object.fromEntries(Object.entries(node.attributes).map(([key, value]) => [key, attribute(value)])),
    })),
    weights: new Map([...graph.weights].map(([name, w]) => [rename(name), w])),
    sparse: new Map([...graph.sparse].map(([name, s]) => [rename(name), s])),
    inputs: graph.inputs.map((value) => ({ ...value, name: rename(value.name) })),
    outputs: graph.outputs.map((value) => ({ ...value, name: rename(value.name) })),
    declared: new Map(),
  };
}
