import { edit } from "../graph/edit.ts";
import type { Graph, Node } from "../graph/graph.ts";
import { consumersOf, links } from "../graph/walk.ts";
import { observeValues } from "../platform/observe.ts";
import { int64, type Tensor, toFloat32, toNumbers } from "../tensor/tensor.ts";
import { teacherPrefix, withTeacher } from "../training/join.ts";
import type { Couplings } from "./couplings.ts";
import { type Cuts, type KeptIndices, keptIndices } from "./cut.ts";
import { changeLayer, floatsOf, type LayerChange, takesShift } from "./layer-change.ts";
import { bestPenalty, noSums, ridge, type Sums, together, usualPenalty } from "./least-squares.ts";
import { type LayerMatrix, layerColumns, matrixOf, transposed } from "./patches.ts";
import { type Product, productsOf } from "./products.ts";
import { compensate, type Repaired, type RepairWorld } from "./repair-inputs.ts";
import { isFloat } from "./unit-weights.ts";

/** Layers with more inputs than this are left: solving takes their third power. */
const mostInputs = 2048;

/** Layers with more inputs than this take the usual penalty: choosing one solves ten times. */
const mostChosen = 640;

/** A layer to fit, in the cut graph. */
interface Layer {
  readonly product: Product;
  readonly matrix: LayerMatrix;
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
 * y: the outputs of the original layer that stay; x': what the layer reads in the graph that is being repaired. Layers of
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
  return layers;
}

/** The two halves of the data, by group of the layer. */
type Halves = readonly (readonly [Sums, Sums])[];

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
    const change = fit(graph, producer.get(layer.product.node.outputs[0]!)!, layer, sums.get(layer)!);
    if (change) changes.set(layer, change);
  }
  return changes;
}

function fit(graph: Graph, node: Node, { product, matrix }: Layer, halves: Halves): LayerChange | undefined {
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

/** Sums of what the layers read in the graph and of what they gave in the original; batches alternate between halves. */
async function layerSums(
  { graph: original, structure }: Couplings,
  kept: KeptIndices,
  graph: Graph,
  layers: readonly Layer[],
  { runtime, feeds, signal }: RepairWorld,
): Promise<ReadonlyMap<Layer, Halves>> {
  const found = new Map(
    layers.map((layer): [Layer, Halves] => {
      const { groups, inputs, outputs } = layer.matrix;
      return [layer, Array.from({ length: groups }, () => [noSums(inputs, outputs), noSums(inputs, outputs)] as const)];
    }),
  );
  const parts = new Map<string, { layer: Layer; part: "count" | "x" | "y" | "xx" | "yx" }>();
  const both = withTeacher(graph, { ...original, functions: [] });
  const probe = edit(both, (draft) => {
    const op = (operator: string, inputs: readonly string[], attributes = {}): string =>
      draft.emit(operator, inputs, attributes, 1, "sums");
    for (const layer of layers) {
      const { product, matrix } = layer;
      const [read, gave] = [product.x, product.node.outputs[0]!];
      const type = (name: string) => {
        const { dtype, shape } = structure.types.get(name)!;
        return { dtype, shape: shape.map((size, axis) => kept.of(name, axis)?.length ?? size) };
      };
      const stays = kept.of(gave, product.outputs);
      const all = `${teacherPrefix}${gave}`;
      const wanted = stays
        ? op("Gather", [all, draft.constant("stays", int64(stays))], { axis: product.outputs })
        : all;
      const kernel = structure.constantOf(product.weight)!.shape.slice(2);
      const { x, y } = layerColumns(
        draft,
        product,
        matrix,
        kernel,
        { name: read, type: type(read) },
        { name: wanted, type: type(gave) },
      );
      const rows = op("Transpose", [x], { perm: [0, 2, 1] });
      parts.set(op("Size", [x]), { layer, part: "count" });
      // of operators that take the mean over positions this one is the same in all versions
      parts.set(op("GlobalAveragePool", [x]), { layer, part: "x" });
      parts.set(op("GlobalAveragePool", [y]), { layer, part: "y" });
      parts.set(op("MatMul", [x, rows]), { layer, part: "xx" });
      parts.set(op("MatMul", [y, rows]), { layer, part: "yx" });
    }
  });
  let positions = 0;
  const visit = (name: string, value: Tensor, index: number): void => {
    const { layer, part } = parts.get(name)!;
    const { groups, inputs } = layer.matrix;
    const halves = found.get(layer)!;
    const half = (index % 2) as 0 | 1;
    if (part === "count") {
      positions = toNumbers(value)[0]! / (groups * inputs);
      for (const pair of halves) pair[half].count += positions;
      return;
    }
    const data = toFloat32(value);
    const scale = part === "x" || part === "y" ? positions : 1;
    for (const [group, pair] of halves.entries()) {
      const into = pair[half][part];
      const from = data.subarray(group * into.length, (group + 1) * into.length);
      for (let i = 0; i < into.length; i++) into[i]! += scale * from[i]!;
    }
  };
  // the parts of a layer belong together: chunks of names never come between them
  await observeValues(probe, runtime, [...parts.keys()], feeds, visit, { signal, budget: Number.POSITIVE_INFINITY });
  return found;
}
