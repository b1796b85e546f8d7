import { type Graph, type Node, nodeLabel } from "../../graph/graph.ts";
import { convertOpset } from "../../ops/convert.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { type KeptClusters, keepClusters } from "../../training/keep-clusters.ts";
import { trainingOpset } from "../../training/prepare.ts";
import { checkLayerValues, type NamedLayer } from "../layer-values.ts";
import { options as staticOptions } from "../quantize-static/options.ts";
import type { Plan } from "../quantize-static/plan.ts";
import { divideSamples } from "../quantize-static/samples.ts";
import { setUp } from "../quantize-static/setup.ts";
import { layersOf } from "../quantize-static/widths.ts";
import type { Context } from "../technique.ts";
import { activationGrids, type Bits, bitsFor, coarseReads } from "./activation-grids.ts";
import { type Settled, trainedName, writeIntegers } from "./export.ts";
import type { Forms } from "./forms.ts";
import { type Simulation, simulate, simulateWeights } from "./insert.ts";
import type { Options } from "./options.ts";
import { type Site, siteOfTarget, sitesOfPlan } from "./sites.ts";
import { planFor } from "./twins.ts";
import { type WeightGrid, weightGrid } from "./weight-grids.ts";
import { surveyTargets, writeWeights } from "./weight-only.ts";

/** What differs between integers everywhere and weights alone. */
export interface Job {
  readonly simulation: Simulation;
  /** Quantized values, each with the value whose scale it has, and those that layers read on a grid of their own. */
  readonly plan: Pick<Plan, "values" | "coarse">;
  readonly clusters: KeptClusters | undefined;
  /** How wide a weight is. */
  widthOf(site: Site): Options["weightBits"];
  /** The weights in a form of the model that runs. */
  sitesOf(graph: Graph): readonly Site[];
  /** The model that is handed out. */
  write(settled: Settled, learned: Graph): Graph;
}

/**
 * Integers wherever quantize-static would have them; undefined where it would have none.
 *
 * @throws PareError where the data is NaN, or the runtime refuses the model
 */
export async function integerJob(forms: Forms, options: Options, context: Context): Promise<Job | undefined> {
  const { folded, trained } = forms;
  const { include, exclude, percentile, samples, target, depthwise, perChannel, range: method } = options;
  const plain = { biasCorrection: false, equalize: false, protect: false, simplify: false } as const;
  const planned = staticOptions.parse({
    include,
    exclude,
    percentile,
    samples,
    target,
    depthwise,
    perChannel,
    method,
    ...plain,
  });
  const feeds = await divideSamples(folded, samples, 0, context);
  const found = await setUp(folded, feeds, planned, context);
  const plan = { ...found.plan, coarse: coarseReads(folded, found.plan, options) };
  const setup = { ...found, plan };
  for (const [node, reason] of plan.left) context.skip(nodeLabel(node), reason);
  if (plan.compute.size === 0) return undefined;
  checkBits(folded, layersOf(folded, folded.nodes), options);
  const bits = bitsFor(folded, plan, options);
  const sitesOf = (graph: Graph): readonly Site[] => sitesOfPlan(graph, planFor(graph, plan), perChannel);
  const clusters = clustersOf(trained, options, context);
  const weights = weightGrids(forms, sitesOfPlan(folded, plan, perChannel), bits, clusters, options);
  const base = convertOpset(trained, trainingOpset);
  const grids = { activations: activationGrids(setup, bits, options), weights };
  const simulation = simulate(base, planFor(base, plan), grids, options);
  return {
    simulation,
    plan,
    clusters,
    widthOf: (site) => bits.width(site),
    sitesOf,
    write: (settled, learned) => writeIntegers(settled, plan, simulation, learned, options),
  };
}

/** The plan of weights alone. */
const nothing = { compute: new Set<Node>(), values: new Map<string, string>() };

/** Weights alone, as quantize-weights stores them; undefined where there are none. */
export function weightsJob(forms: Forms, options: Options, context: Context): Job | undefined {
  const { targets, skipped } = surveyTargets(forms.folded, options);
  for (const { node, reason } of skipped) context.skip(nodeLabel(node), reason);
  if (targets.length === 0) return undefined;
  const sitesOf = (graph: Graph): readonly Site[] =>
    surveyTargets(graph, options).targets.map((target) => siteOfTarget(target, options.perChannel));
  const layers = sitesOf(forms.folded).map(({ name, nodes }) => ({ weight: name, nodes }));
  checkBits(forms.folded, layers, options);
  const bits = bitsFor(forms.folded, nothing, options);
  const clusters = clustersOf(forms.trained, options, context);
  const weights = weightGrids(forms, sitesOf(forms.folded), bits, clusters, options);
  const simulation = simulateWeights(convertOpset(forms.trained, trainingOpset), weights);
  return {
    simulation,
    plan: nothing,
    clusters,
    widthOf: (site) => bits.width(site),
    sitesOf,
    write: (settled) => writeWeights(settled, options, context),
  };
}

/** Refuses bits for layers that are not there. */
function checkBits(graph: Graph, layers: readonly NamedLayer[], { layerBits, layerActivationBits }: Options): void {
  checkLayerValues(layerBits, layers, graph, "quantize-aware-train", "--layer-bits");
  checkLayerValues(layerActivationBits, layers, graph, "quantize-aware-train", "--layer-activation-bits");
}

function clustersOf(graph: Graph, { keepClusters: which }: Options, context: Context): KeptClusters | undefined {
  const found = which === "auto" ? keepClusters(graph) : undefined;
  if (!found || found.clusters.size === 0) return undefined;
  const most = Math.max(...found.clusters.values());
  context.log(`clusters stay together: ${found.clusters.size} weights of at most ${most} values`);
  return found;
}

/** The grids of all weights, by their names in the form that is trained. */
function weightGrids(
  { trained }: Forms,
  sites: readonly Site[],
  bits: Bits,
  clusters: KeptClusters | undefined,
  options: Options,
): ReadonlyMap<string, WeightGrid> {
  const grids = new Map<string, WeightGrid>();
  for (const site of sites) {
    const name = trainedName(site, trained);
    const weight = name === undefined ? undefined : trained.weights.get(name);
    if (name === undefined || !weight || weight.size !== site.weight.size) continue;
    // elements that share a value share an integer only where they share a step
    const view = clusters?.clusters.has(name) ? ([1, weight.size, 1] as const) : site.view;
    const values = { name, shape: weight.shape, values: toFloat32(weight) };
    grids.set(name, weightGrid(values, view, bits.width(site), options));
  }
  return grids;
}
