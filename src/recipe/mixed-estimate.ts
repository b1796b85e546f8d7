import type { OutputMeasure } from "../analysis/directions.ts";
import { exactWeight } from "../analysis/effective-weight.ts";
import type { Reference } from "../analysis/output-error.ts";
import { type InputCurvature, secondOrder, type WeightDifference } from "../analysis/second-order.ts";
import { fail, PareError } from "../errors.ts";
import { type Graph, intAttribute, type Node, nodeLabel } from "../graph/graph.ts";
import type { Runtime } from "../platform/runtime.ts";
import type { Context } from "../techniques/technique.ts";
import { dtypes } from "../tensor/dtype.ts";
import { type Tensor, toFloat32 } from "../tensor/tensor.ts";
import type { Format } from "./mixed-formats.ts";
import type { Layer } from "./mixed-layers.ts";

/** What a format makes of a layer. */
export interface LayerChange {
  readonly layer: Layer;
  readonly format: Format;
  readonly weights: readonly WeightDifference[];
}

/**
 * What became of the weights and the bias of a layer in a changed graph; undefined where a weight is there in no readable
 * form. A bias that is not counts as unchanged.
 *
 * @throws PareError where the runtime refuses the constants of the changed graph
 */
export async function changeOf(
  graph: Graph,
  made: Graph,
  { nodes }: Layer,
  runtime: Runtime,
): Promise<readonly WeightDifference[] | undefined> {
  const labels = new Set(nodes);
  const found = new Map<string, WeightDifference>();
  let weights = 0;
  for (const node of graph.nodes.filter((each) => labels.has(nodeLabel(each)))) {
    for (const [input, name] of node.inputs.entries()) {
      const tensor = graph.weights.get(name);
      const axis = tensor && outputAxis(node, input, tensor);
      if (!tensor || axis === undefined || found.has(name)) continue;
      const changed = await exactWeight(made, { node, input, name, tensor }, runtime);
      const isBias = tensor.shape.length === 1;
      if (!changed && isBias) continue;
      if (!changed) return undefined;
      const original = toFloat32(tensor);
      found.set(name, { name, axis, shape: tensor.shape, added: changed.map((value, i) => value - original[i]!) });
      if (!isBias) weights++;
    }
  }
  return weights > 0 ? [...found.values()] : undefined;
}

/** The axis of the outputs of a weight or a bias; undefined where an input is neither. */
function outputAxis(node: Node, input: number, { dtype, shape }: Tensor): number | undefined {
  if (dtypes[dtype].kind !== "float" || node.domain !== "") return undefined;
  const rank = shape.length;
  const axes: readonly (number | undefined)[] = axesOf(node, rank);
  const axis = axes[input];
  return axis !== undefined && axis < rank && (rank > 1 || input === 2) ? axis : undefined;
}

/** By input. */
function axesOf(node: Node, rank: number): readonly (number | undefined)[] {
  switch (node.op) {
    case "Conv":
      return [undefined, 0, 0];
    case "ConvTranspose":
      return [undefined, intAttribute(node, "group", 1) > 1 ? 0 : 1];
    case "Gemm":
      return [intAttribute(node, "transA", 0), 1 - intAttribute(node, "transB", 0), rank === 1 ? 0 : undefined];
    case "MatMul":
      return [rank - 2, rank - 1];
    case "Gather":
      return [0];
    case "LSTM":
    case "GRU":
    case "RNN":
      return [undefined, 1, 1];
    default:
      return [];
  }
}

/** Backward passes for each sample. */
const draws = 4;

/** Integers that span a range of activations. */
const levels = 255;

/**
 * Estimates what each change alone does to the outputs, without running the model so changed: by the second derivatives
 * by its weights ({@link secondOrder}), and ½ Σ h s² / 12 over what the layer reads where that is rounded to steps s, h its
 * second derivatives (roundings of activations are spread evenly, and unrelated). All changes are in memory, as are the
 * gradients of all weights.
 *
 * @param wanted what the graph gives
 * @returns NaN for a change of a weight that has no gradient
 * @throws PareError where an operator has no gradient
 */
export async function estimateDamages(
  graph: Graph,
  changes: readonly LayerChange[],
  wanted: Reference,
  by: OutputMeasure,
  context: Context,
): Promise<readonly number[]> {
  const { runtime, signal } = context;
  const { damages, inputs } = await secondOrder(graph, wanted, runtime, {
    ...{ by, draws, signal, random: context.random.fork("directions") },
    changes: changes.map(({ weights }) => weights),
    nodes: new Set(changes.flatMap(({ layer }) => layer.nodes)),
    progress: (done, total) => context.progress(done, total, "samples' gradients"),
  }).catch((error: unknown) => {
    if (signal.aborted || !(error instanceof PareError)) throw error;
    return fail("fisher", error.message, "Measure the damage instead: kl or noise", error);
  });
  return changes.map(({ layer, format: { activations } }, i) =>
    layer.nodes.reduce((sum, node) => sum + inputDamage(inputs.get(node), activations), damages[i]!),
  );
}

function inputDamage(curvature: InputCurvature | undefined, activations: Format["activations"]): number {
  return curvature && activations ? curvature[activations] / (2 * 12 * levels ** 2) : 0;
}
