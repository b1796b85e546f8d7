import { edit } from "../graph/edit.ts";
import type { Graph, Node } from "../graph/graph.ts";
import { consumersOf, links } from "../graph/walk.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import type { Couplings } from "./couplings.ts";
import { type Cuts, type KeptIndices, keptIndices } from "./cut.ts";
import { changeLayer, floatsOf, type LayerChange, takesShift } from "./layer-change.ts";
import { type FittedLayer, type Halves, layerSums } from "./layer-sums.ts";
import { bestPenalty, ridge, together, usualPenalty } from "./least-squares.ts";
import { matrixOf, transposed } from "./patches.ts";
import { type Product, productsOf } from "./products.ts";
import { compensate, type Repaired, type RepairWorld } from "./repair-inputs.ts";
import { residualSum } from "./residual-target.ts";
import { isFloat } from "./unit-weights.ts";

/** Layers with more inputs than this are left: solving takes their third power. */
const mostInputs = 2048;

/** Layers with more inputs than this take the usual penalty: choosing one solves ten times. */
const mostChosen = 640;

/** A layer to fit. */
interface Layer extends FittedLayer {
  /** How many layers that are fitted lie before it, at most. */
  readonly depth: number;
}

/**
 * Fits the layers behind a cut anew, from the inputs to the outputs of the graph, so that each gives of what the layers
 * before it, already fitted, leave it what it gave in the original (He et al. 2017, on patches, with its own inputs as in
 * the asymmetric reconstruction of Zhang et al. 2015):
 *
 *     minimize |y - W x' - b|^2 + penalty |W - W_kept|^2
 *
 * y: the outputs of the original layer that stay, and at the end of a residual branch what the sum lacks besides; x': what
 * the layer reads in the graph that is being repaired. Layers of
 * the same depth are fitted in the same pass over the data. Layers that can't be fitted so (transposed convolutions, those
 * with very many inputs or a weight that several read) are compensated by {@link compensate} first.
 *
 * @param cut the graph that `cutUnits(found, cuts)` gave
 * @param fitted called after every pass
 */
export async function refitLayers(
  found: Couplings,
  cuts: Cuts,
  cut: Graph,
  world: RepairWorld,
  fitted: (done: number, total: number) => void = () => {},
): Promise<Repaired> {
  const kept = keptIndices(found, cuts);
  const layers = layersToFit(found, kept, cut);
  const ours = new Set(layers.map(({ product }) => product.node.outputs[0]));
  const others = (product: Product): boolean => !ours.has(product.node.outputs[0]);
  const compensated = await compensate(found, cuts, cut, "regression", world, others);
  const depths = Math.max(0, ...layers.map(({ depth }) => depth + 1));
  let graph = compensated.graph;
  let count = compensated.layers;
  for (let depth = 0; depth < depths; depth++) {
    const some = layers.filter((layer) => layer.depth === depth);
    const changes = await fitTogether(found, kept, graph, some, world);
    const { producer } = links(graph);
    graph = edit(graph, (draft) => {
      for (const [{ product }, change] of changes) {
        changeLayer(draft, graph, producer.get(product.node.outputs[0]!)!, change);
      }
    });
    count += changes.size;
    fitted(depth + 1, depths);
  }
  return { graph, layers: count };
}

/** The layers whose inputs a cut changes, with how deep they lie. */
function layersToFit(found: Couplings, kept: KeptIndices, cut: Graph): readonly Layer[] {
  const { graph, structure } = found;
  const products = new Map(productsOf(found).map((product) => [product.node, product]));
  const contracted = new Set(
    structure.contractions.flatMap(({ node, input, axes }) =>
      axes.some((axis) => kept.of(node.inputs[input]!, axis)) ? [node] : [],
    ),
  );
  const { producer } = links(cut);
  // how many fitted layers lie before a value that the cut changes; absent where it does not
  const depths = new Map<string, number>();
  const layers: Layer[] = [];
  for (const node of graph.nodes) {
    const before = node.inputs.flatMap((name) => depths.get(name) ?? []);
    if (before.length === 0 && !contracted.has(node)) continue;
    const depth = Math.max(0, ...before);
    const own = producer.get(node.outputs[0]!);
    const known = products.get(node);
    const product = own && known && { ...known, node: own };
    const weight = product && cut.weights.get(own.inputs[1]!);
    const matrix = weight && isFloat(weight.dtype) ? matrixOf(product, weight.shape) : undefined;
    const alone = product && consumersOf(cut, own.inputs[1]!).length === 1;
    const fits = matrix && alone && matrix.inputs <= mostInputs && takesShift(cut, own, matrix.groups * matrix.outputs);
    if (fits) layers.push({ product, matrix, depth });
    for (const name of node.outputs) depths.set(name, depth + (fits ? 1 : 0));
  }
  return layers.map((layer) => {
    const { product, depth } = layer;
    const residual = residualSum(cut, product.node);
    const shapes = [product.node.outputs[0]!, residual?.other ?? ""].map((name) => structure.types.get(name));
    const alike = shapes.every((type) => type?.dtype === "float32" && `${type.shape}` === `${shapes[0]!.shape}`);
    // the other side has to be as it will stay
    const known = residual && (depths.get(residual.other) ?? Number.POSITIVE_INFINITY) <= depth;
    return residual && alike && known ? { ...layer, residual } : layer;
  });
}

async function fitTogether(
  found: Couplings,
  kept: KeptIndices,
  graph: Graph,
  layers: readonly Layer[],
  world: RepairWorld,
): Promise<ReadonlyMap<Layer, LayerChange>> {
  const sums = await layerSums(found, kept, graph, layers, world);
  const { producer } = links(graph);
  const changes = new Map<Layer, LayerChange>();
  for (const layer of layers) {
    const change = changeOf(graph, producer.get(layer.product.node.outputs[0]!)!, layer, sums.get(layer)!);
    if (change) changes.set(layer, change);
  }
  return changes;
}

function changeOf(graph: Graph, node: Node, { product, matrix }: Layer, halves: Halves): LayerChange | undefined {
  const { groups, inputs, outputs } = matrix;
  const weight = graph.weights.get(node.inputs[1]!)!;
  const columnsFirst = node.op !== "Conv" && product.inputs === 0;
  const before = columnsFirst ? transposed(toFloat32(weight), matrix) : toFloat32(weight);
  const size = outputs * inputs;
  const rows = (group: number): Float32Array => before.subarray(group * size, group * size + size);
  const choose = inputs <= mostChosen && halves.every(([a, b]) => a.count > 0 && b.count > 0);
  const penalty = choose ? bestPenalty(halves, rows) : usualPenalty;
  const values = before.slice();
  const bias = new Float64Array(groups * outputs);
  for (const [group, [a, b]] of halves.entries()) {
    const best = ridge(together(a, b), rows(group), penalty);
    if (!best) return undefined;
    values.set(best.weights, group * size);
    bias.set(best.bias, group * outputs);
  }
  const old = node.inputs[2] ? graph.weights.get(node.inputs[2]) : undefined;
  if (old) for (const [o, v] of toFloat32(old).entries()) bias[o]! -= v;
  const made = columnsFirst ? transposed(values, { ...matrix, inputs: outputs, outputs: inputs }) : values;
  return { shift: bias, weight: floatsOf(weight.shape, made, weight.dtype) };
}
