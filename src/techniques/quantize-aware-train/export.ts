import { fail } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import { convertOpset } from "../../ops/convert.ts";
import { type Affine, roundHalfEven } from "../../tensor/affine.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { withWeights } from "../../training/state.ts";
import type { GivenWeight } from "../quantize-static/constants.ts";
import { emit } from "../quantize-static/emit.ts";
import type { Plan } from "../quantize-static/plan.ts";
import { padIntegers } from "../quantize-static/qoperator.ts";
import type { Context } from "../technique.ts";
import { type Forms, fold } from "./forms.ts";
import { largestRead, type Simulation } from "./insert.ts";
import { type RunningLayer, runningLayer } from "./layers.ts";
import type { Options } from "./options.ts";
import type { Site } from "./sites.ts";
import { planFor, twinOf } from "./twins.ts";
import { channelAt, codesOf, spread, stepsOf, type WeightGrid } from "./weight-grids.ts";

/** A weight as integers, in the order of the weight that runs. */
export interface Coded {
  readonly site: Site;
  /** One byte an element, in the weight's order. */
  readonly codes: Int8Array;
  /** One, or one an outer and inner index of the site's view. */
  readonly steps: Float32Array;
  readonly grid: WeightGrid;
}

/** A trained model as it will run, its weights on their grids, and these as integers, by name. */
export interface Settled {
  readonly graph: Graph;
  readonly coded: ReadonlyMap<string, Coded>;
  /** Biases as they were rounded in training, by their layers' outputs. */
  readonly biases: ReadonlyMap<string, Float32Array>;
}

/**
 * Puts every weight of a trained model onto its grid and folds batch normalization behind it: the factor of a channel goes
 * into its scale, and the integers stay what they were, a negative factor turning their signs.
 *
 * @param sitesOf the weights in the form that runs
 */
export async function settle(
  forms: Forms,
  simulation: Simulation,
  learned: Graph,
  sitesOf: (graph: Graph) => readonly Site[],
  context: Context,
): Promise<Settled> {
  const trained = withWeights(forms.trained, learned.weights);
  const integers = new Map<string, Omit<Coded, "site">>();
  const rounded = new Map<string, Tensor>();
  for (const [name, how] of simulation.weights) {
    const weight = trained.weights.get(name)!;
    const values = toFloat32(weight);
    const { grid } = how;
    const steps = stepsOf(values, how, learned);
    const codes = codesOf(values, steps, grid);
    const onGrid = Float32Array.from(codes, (q, i) => q * steps[channelAt(grid, i)]!);
    integers.set(name, { codes, steps, grid });
    rounded.set(name, float32(weight.shape, onGrid));
  }
  const onGrids = withWeights(trained, rounded);
  const same = forms.folded === forms.trained;
  const graph = same ? onGrids : await fold(onGrids, context);
  const running = new Map<string, RunningLayer>();
  for (const [output, layer] of simulation.layers)
    running.set(output, runningLayer(layer, integers.get(layer.weight)!.steps, learned));
  const coded = new Map<string, Coded>();
  for (const site of sitesOf(graph)) {
    const known = integers.get(trainedName(site, forms.trained) ?? "");
    if (!known) continue;
    const asTrained = same && known.steps.length === site.view[0] * site.view[2];
    const steps = running.get(site.nodes[0]!.outputs[0]!)?.steps;
    coded.set(site.name, asTrained ? { site, ...known } : { ...scaled(site, known.codes, steps), grid: known.grid });
  }
  const biases = new Map([...running].flatMap(([output, { bias }]) => (bias ? [[output, bias] as const] : [])));
  return { graph, coded, biases };
}

/** What a weight of the form that runs is called in the form that is trained. */
export function trainedName(site: Site, trained: Graph): string | undefined {
  const node = site.nodes[0]!;
  return twinOf(node, trained)?.node.inputs[node.inputs.indexOf(site.name)];
}

/**
 * The step of every channel that makes the weight of its integers; signs go to the integers.
 *
 * @param known the steps that fake quantization of the biases had, where there was some
 */
function scaled(site: Site, integers: Int8Array, known: Float32Array | undefined): Omit<Coded, "grid"> {
  const values = toFloat32(site.weight);
  if (values.length !== integers.length) fail(`weight '${site.name}'`, "changed its size when the model was folded");
  const [outer, length, inner] = site.view;
  const codes = integers.slice();
  const steps = new Float32Array(outer * inner);
  for (let c = 0; c < steps.length; c++) {
    const from = Math.floor(c / inner) * length * inner + (c % inner);
    let [products, squares] = [0, 0];
    for (let k = 0, i = from; k < length; k++, i += inner) {
      products += values[i]! * codes[i]!;
      squares += codes[i]! * codes[i]!;
    }
    if (products < 0) for (let k = 0, i = from; k < length; k++, i += inner) codes[i] = -codes[i]!;
    const found = squares > 0 && products !== 0 ? Math.abs(products) / squares : 1;
    steps[c] = known?.length === steps.length ? known[c]! : found;
  }
  return { site, codes, steps };
}

/**
 * The smaller type that integers fit. Not int2: ONNX Runtime 1.30 takes such weights for those of integer kernels, which
 * then refuse them.
 */
export function typeOf(codes: Int8Array): GivenWeight["dtype"] {
  return codes.every((code) => code >= -8 && code <= 7) ? "int4" : "int8";
}

/** First operator set with weights of a type. */
const opsetOf = { int8: 13, int4: 21 } as const;

/** Writes a plan with the integers and scales that training found. */
export function writeIntegers(
  { graph, coded, biases }: Settled,
  plan: Plan,
  simulation: Simulation,
  learned: Graph,
  { format }: Options,
): Graph {
  const weights = new Map<string, GivenWeight>();
  const grids = new Map([...simulation.activations].map(([source, { grid }]) => [source, grid]));
  for (const [name, { codes, steps, site, grid }] of coded) {
    const factor = format === "packed" ? 1 : spread(grid, largestRead(site.nodes, plan, grids));
    const scales = steps.map((step) => step / factor);
    weights.set(name, { scales, dtype: format === "packed" ? typeOf(codes) : "int8" });
  }
  const opset = Math.max(...[...weights.values()].map(({ dtype }) => opsetOf[dtype]));
  const activations = new Map(
    [...simulation.activations.keys()].map((source) => [source, gridOf(simulation, learned, source)]),
  );
  const raised = convertOpset(graph, opset);
  const { graph: written } = emit(raised, planFor(raised, plan), new Map(), {
    activationType: "uint8",
    weightType: "int8",
    perChannel: true,
    symmetricActivations: false,
    symmetricWeights: true,
    reduceRange: () => false,
    widths: { weight: () => 8, value: () => 8 },
    weightScales: "min-max",
    packed: false,
    corrected: false,
    given: { activations, constants: simulation.constants, weights },
    learned: { codes: new Map(), biases },
  });
  return padIntegers(written);
}

/** The grid of a value as it is after training. */
export function gridOf(
  { activations }: Pick<Simulation, "activations">,
  { weights }: Pick<Graph, "weights">,
  source: string,
): Affine {
  const { grid, names } = activations.get(source)!;
  const number = (name: string): number => toFloat32(weights.get(name)!)[0]!;
  const offset = names.offset === undefined ? grid.zeroPoint : number(names.offset);
  const zeroPoint = roundHalfEven(Math.min(Math.max(offset, grid.qmin), grid.qmax));
  return { ...grid, scale: number(names.scale), zeroPoint };
}
