import { fail } from "../../errors.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { convertOpset } from "../../ops/convert.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { type KeptClusters, keepClusters } from "../../training/keep-clusters.ts";
import { trainingOpset } from "../../training/prepare.ts";
import { options as staticOptions } from "../quantize-static/options.ts";
import { kindOf, neverInteger, obstacle, weightOf } from "../quantize-static/rules.ts";
import { divideSamples } from "../quantize-static/samples.ts";
import { setUp } from "../quantize-static/setup.ts";
import { type Context, technique } from "../technique.ts";
import { activationGrids, type Bits, bitsFor } from "./activation-grids.ts";
import { agreement, outputSteps } from "./check.ts";
import { gridsExhibit, storedBits } from "./exhibits.ts";
import { type Settled, settle, trainedName, writeIntegers } from "./export.ts";
import { type Forms, formsOf } from "./forms.ts";
import { type Simulation, simulate, simulateWeights } from "./insert.ts";
import { type Options, options } from "./options.ts";
import { type Site, siteOfTarget, sitesOfPlan } from "./sites.ts";
import { train } from "./train.ts";
import { planFor } from "./twins.ts";
import { type WeightGrid, weightGrid } from "./weight-grids.ts";
import { surveyTargets, writeWeights } from "./weight-only.ts";

const who = "quantize-aware-train";

/**
 * Trains a model with the rounding of its integers in it, and hands out these integers:
 * `Conv(x, w, b) -> Conv(fake(x), fake(w), b)`, trained, `-> DQ(Q(Conv(DQ(Q(x)), DQ(wq), DQ(bq))))`, with
 * fake(x) = s round(clamp(x / s)). Gradients pass rounding as if it were not there, and steps s are learned too.
 * Esser et al., "Learned Step Size Quantization", 2020 (LSQ); Bhalgat et al. 2020 (LSQ+); Choi et al. 2018 (PACT);
 * Krishnamoorthi 2018 (batch normalization).
 *
 * What is an integer, and where, is planned by quantize-static; without activations by quantize-weights.
 */
export const quantizeAwareTrain = technique({
  name: who,
  summary: "Train with the rounding to 8 to 1 bits in the model, step sizes learned, and write the integers.",
  options,
  data: "required",
  identity: { exclude: ["*"] },
  applies: (node, graph) =>
    kindOf(node, graph) === "compute"
      ? (obstacle(node, graph) ?? (weightOf(node, graph) ? true : "both of its operands are activations"))
      : (neverInteger(node) ?? "it does not multiply with a weight"),
  async apply(input, options, given) {
    checkOptions(options);
    const data = given.training?.data ?? given.data ?? fail(who, "needs samples to find ranges on", "Give data");
    const context = { ...given, data };
    const forms = await formsOf(input, options, context);
    const job =
      options.activationBits === 32
        ? await weightsJob(forms, options, context)
        : await integerJob(forms, options, context);
    if (!job) return input;
    const clusters = job.clusters ? [job.clusters] : [];
    const learned =
      options.epochs > 0 ? await train(job.simulation, input, clusters, options, given) : job.simulation.graph;
    const settled = await settle(forms, job.simulation, learned, job.sitesOf, context);
    const written = job.write(settled, learned);
    await report(job, settled, learned, written, options, context);
    return written;
  },
});

/** What differs between integers everywhere and weights alone. */
interface Job {
  readonly simulation: Simulation;
  readonly values: ReadonlyMap<string, string>;
  readonly clusters: KeptClusters | undefined;
  widthOf(site: Site): Options["weightBits"];
  sitesOf(graph: Graph): readonly Site[];
  write(settled: Settled, learned: Graph): Graph;
}

function checkOptions({ format, activationBits, weightBits, steps }: Options): void {
  const weightsOnly = activationBits === 32;
  const forWeights = format === "storage" || format === "dequantize" || format === "matmulnbits";
  if (forWeights && !weightsOnly)
    fail(
      who,
      `format ${format} computes in float, and activations have ${activationBits} bits`,
      "Use --activation-bits 32, or format qdq",
    );
  if ((format === "qdq" || format === "packed") && weightsOnly)
    fail(who, `format ${format} has integer activations`, "Use format storage, or fewer --activation-bits");
  if (weightsOnly && (steps === "lsq+" || steps === "pact"))
    fail(who, `steps ${steps} are learned of activations, and these stay in float`, "Use --steps lsq");
  if (forWeights && format === "matmulnbits" && weightBits === 3)
    fail(who, "nothing computes on 3-bit weights", "Use format storage, or 4 bits");
}

async function integerJob(forms: Forms, options: Options, context: Context): Promise<Job | undefined> {
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
  const setup = await setUp(folded, feeds, planned, context);
  const { plan } = setup;
  for (const [node, reason] of plan.left) context.skip(nodeLabel(node), reason);
  if (plan.compute.size === 0) return undefined;
  const bits = bitsFor(folded, plan.compute, plan.values, options);
  const sitesOf = (graph: Graph): readonly Site[] => sitesOfPlan(graph, planFor(graph, plan), perChannel);
  const clusters = clustersOf(trained, options, context);
  const weights = weightGrids(forms, sitesOfPlan(folded, plan, perChannel), bits, clusters, options);
  const base = convertOpset(trained, trainingOpset);
  const grids = { activations: activationGrids(setup, bits, options), weights };
  const simulation = simulate(base, planFor(base, plan), grids, options);
  return {
    simulation,
    values: plan.values,
    clusters,
    widthOf: (site) => bits.width(site),
    sitesOf,
    write: (settled, learned) => writeIntegers(settled, plan, simulation, learned, options),
  };
}

async function weightsJob(forms: Forms, options: Options, context: Context): Promise<Job | undefined> {
  const { targets, skipped } = surveyTargets(forms.folded, options);
  for (const { node, reason } of skipped) context.skip(nodeLabel(node), reason);
  if (targets.length === 0) return undefined;
  const bits = bitsFor(forms.folded, [], new Map(), options);
  const sitesOf = (graph: Graph): readonly Site[] =>
    surveyTargets(graph, options).targets.map((target) => siteOfTarget(target, options.perChannel));
  const clusters = clustersOf(forms.trained, options, context);
  const weights = weightGrids(forms, sitesOf(forms.folded), bits, clusters, options);
  const simulation = simulateWeights(convertOpset(forms.trained, trainingOpset), weights);
  return {
    simulation,
    values: new Map(),
    clusters,
    widthOf: (site) => bits.width(site),
    sitesOf,
    write: (settled) => writeWeights(settled, options, context),
  };
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

/** Samples that the simulation and what came of it are compared on. */
const checked = 64;

async function report(
  job: Job,
  settled: Settled,
  learned: Graph,
  written: Graph,
  options: Options,
  context: Context,
): Promise<void> {
  const { simulation, values } = job;
  const widthOf = (name: string): Options["weightBits"] => job.widthOf(settled.coded.get(name)!.site);
  const exhibit = gridsExhibit(settled, simulation, learned, widthOf, storedBits(options));
  context.show(exhibit);
  if (options.epochs === 0) {
    const text =
      "Nothing was trained: this is rounding to the calibrated grids alone. --epochs says how long to train.";
    context.log(text);
    context.show({ kind: "note", text });
  }
  const steps = outputSteps(settled, values, simulation, learned);
  const found = await agreement(learned, written, await someFeeds(settled.graph, context), steps, context);
  const largest =
    found.steps === undefined
      ? `${(100 * found.relative).toPrecision(2)} % of the largest output`
      : `${found.steps.toPrecision(2)} steps`;
  const text = `What was trained and what is handed out agree on ${(100 * found.same).toFixed(1)} % of the outputs' largest entries over ${found.samples} samples; the largest difference is ${largest}.`;
  context.log(text);
  context.show({ kind: "note", text });
  const [packed, stored] = [
    sum(exhibit.layers.map((layer) => layer.packed)),
    sum(exhibit.layers.map((layer) => layer.stored)),
  ];
  if (stored > packed) {
    const note = `The quantized weights hold ${packed} bytes of information; one byte each, as integer kernels take them, they take ${stored}. Compressed (gzip, brotli) the file comes close to the first; --format packed stores 4 bits, and computes in float.`;
    context.log(note);
    context.show({ kind: "note", text: note });
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

async function someFeeds(graph: Graph, context: Context): Promise<readonly Tensors[]> {
  const feeds: Tensors[] = [];
  const { calibration } = await divideSamples(graph, checked, 0, context);
  for await (const feed of calibration) feeds.push(feed);
  return feeds;
}
