import { decompose } from "../autodiff/decompose.ts";
import { isUsualRecurrence } from "../autodiff/rules/recurrent.ts";
import { fail } from "../errors.ts";
import { edit } from "../graph/edit.ts";
import { float, floatAttribute, type Graph, isNode, makeNode, type Node, type PlainAttribute } from "../graph/graph.ts";
import { consumersOf, links } from "../graph/walk.ts";
import { convertOpset } from "../ops/convert.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { float32, sizeOf, type Tensor, toFloat32 } from "../tensor/tensor.ts";

/** A running average that training updates beside the parameters. */
export interface Running {
  /** Name of the weight that holds it. */
  readonly name: string;
  readonly start: Tensor;
  /** Value of this batch. */
  readonly batch: string;
  /** Share of the old value that is kept. */
  readonly momentum: number;
}

/** A model made ready to be differentiated. */
export interface Prepared {
  readonly graph: Graph;
  /** The value to put a loss on: logits where the model ends in a softmax. */
  readonly logits: ReadonlyMap<string, string>;
  readonly running: readonly Running[];
  /** Shapes of the dropout masks to feed, by input name, with the share of elements kept. */
  readonly masks: ReadonlyMap<string, { readonly shape: readonly number[]; readonly keep: number }>;
}

/** How a model is prepared. */
export interface PrepareOptions {
  /** Batch normalization uses the batch's statistics and updates its running averages; otherwise it is frozen. */
  readonly batchStatistics: boolean;
  /** Nodes that stay in inference form. */
  readonly frozen?: (node: Node) => boolean;
}

/** Operator set of training graphs: every gradient rule writes nodes of at least this one. */
export const trainingOpset = 21;

/**
 * Rewrites an inference graph for training: newer operator set, unusual recurrent and fused operators written out, batch
 * normalization over batch statistics, dropout by masks that are fed (so that a run can be repeated exactly).
 *
 * @param feeds one batch; its sizes become those of the training graph
 * @throws PareError where the runtime refuses, or an operator can't be converted
 */
export async function prepare(
  model: Graph,
  runtime: Runtime,
  feeds: Tensors,
  options: PrepareOptions,
): Promise<Prepared> {
  let graph = convertOpset(model, trainingOpset);
  graph = decompose(graph, await observeTypes(graph, runtime, feeds), undefined, isUsualRecurrence);
  const logits = new Map(graph.outputs.map(({ name }) => [name, logitsOf(graph, name)]));
  const running: Running[] = [];
  const masks = new Map<string, { shape: readonly number[]; keep: number }>();
  const types = await observeTypes(graph, runtime, feeds);
  const trained = edit(graph, (draft) => {
    for (const node of graph.nodes) {
      if (options.frozen?.(node)) continue;
      if (isNode(node, "BatchNormalization") && options.batchStatistics) {
        const shape = types.get(node.inputs[0]!)?.shape ?? fail(node.name, "its input's shape is unknown");
        for (const average of batchNormalization(draft, node, shape)) {
          const start = graph.weights.get(average.name);
          if (start) running.push({ ...average, start });
        }
      }
      if (isNode(node, "Dropout")) {
        const shape = types.get(node.inputs[0]!)?.shape;
        const mask = shape && dropout(draft, node, graph);
        if (mask) masks.set(mask.name, { shape, keep: mask.keep });
      }
    }
  });
  return { graph: trained, logits, running, masks };
}

/** The input of the softmax (or sigmoid) that a model ends in, looking through reshapes; the output itself otherwise. */
export function logitsOf(graph: Graph, output: string, activation: "Softmax" | "Sigmoid" = "Softmax"): string {
  const { producer } = links(graph);
  let name = output;
  for (let node = producer.get(name); node; node = producer.get(name)) {
    if (isNode(node, activation)) return node.inputs[0]!;
    if (!["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"].includes(node.op) || node.domain !== "") break;
    name = node.inputs[0]!;
  }
  return output;
}

/**
 * Batch statistics feeding pare's own normalization, whose gradient knows that they depend on the input; it becomes the
 * plain inference operator once the gradient is written: cheaper than the runtime's training operator.
 */
function batchNormalization(
  draft: Parameters<Parameters<typeof edit>[1]>[0],
  node: Node,
  shape: readonly number[],
): readonly Omit<Running, "start">[] {
  const op = (
    name: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, PlainAttribute>> = {},
  ): string => draft.emit(name, inputs, attributes, 1, `${node.outputs[0]}_batch`);
  const x = node.inputs[0]!;
  const samples = sizeOf(shape) / shape[1]!;
  const share = draft.constant("share", float32([], [1 / samples]));
  const mean = op("Mul", [op("pare:ChannelSum", [x], { shape: [...shape] }), share]);
  // in two passes: a mean square less the squared mean loses all digits where the mean is large
  const ones = draft.constant("ones", float32([shape[1]!], new Float32Array(shape[1]!).fill(1)));
  const centred = op("pare:ChannelAffine", [x, ones, op("Neg", [mean])], { shape: [...shape] });
  const variance = op("Mul", [op("pare:ChannelDot", [centred, centred], { shape: [...shape] }), share]);
  const epsilon = float(floatAttribute(node, "epsilon", 1e-5));
  const inputs = [x, node.inputs[1]!, node.inputs[2]!, centred, variance];
  const {
    outputs: [y],
  } = node;
  draft.replace(node, makeNode("pare:BatchNormalization", inputs, [y!], { epsilon, shape: [...shape] }, node.name));
  const momentum = floatAttribute(node, "momentum", 0.9);
  // running variances are unbiased, as every framework keeps them
  const unbiased = op("Mul", [variance, draft.constant("unbiased", float32([], [samples / Math.max(1, samples - 1)]))]);
  return [
    { name: node.inputs[3]!, batch: mean, momentum },
    { name: node.inputs[4]!, batch: unbiased, momentum },
  ];
}

/** Dropout as a product with a fed mask of 0 and 1 / keep; none where its ratio is 0, or its own mask is read. */
function dropout(
  draft: Parameters<Parameters<typeof edit>[1]>[0],
  node: Node,
  graph: Graph,
): { name: string; keep: number } | undefined {
  const ratio = node.inputs[1] ? graph.weights.get(node.inputs[1]) : undefined;
  const keep = 1 - (ratio ? toFloat32(ratio)[0]! : 0.5);
  const own = node.outputs[1] ?? "";
  const ownIsRead = consumersOf(graph, own).length > 0 || graph.outputs.some(({ name }) => name === own);
  if (keep >= 1 || (own !== "" && ownIsRead)) return undefined;
  const name = draft.fresh(`${node.outputs[0]}_mask`);
  draft.replace(node, makeNode("Mul", [node.inputs[0]!, name], [node.outputs[0]!], {}, node.name));
  return { name, keep };
}
