/**
 * What codes of few bits cost two transformers, by how they are found: a keyword spotter (cross-entropy) and a language model
 * (perplexity), calibrated and judged on different samples. Lookups stay in float, codes are unpacked to float32 when the
 * model is loaded, so that nothing but the weights' error is measured.
 * `PARE_DATA=FOLDER npx tsx bench/weight-methods.ts [--quick]`
 */
import { type Evaluation, evaluate } from "../src/analysis/evaluate.ts";
import type { Graph } from "../src/graph/graph.ts";
import { metricOf } from "../src/metrics/index.ts";
import { runtime } from "../src/platform/node.ts";
import { quantizeDynamic } from "../src/techniques/quantize-dynamic/index.ts";
import { quantizeStatic } from "../src/techniques/quantize-static/index.ts";
import { quantizeWeights } from "../src/techniques/quantize-weights/index.ts";
import { rotateResidual } from "../src/techniques/rotate-residual/index.ts";
import { smoothActivations } from "../src/techniques/smooth-activations/index.ts";
import type { Step } from "../src/techniques/technique.ts";
import { testContext } from "../src/techniques/testing.ts";
import { record, table } from "./document.ts";
import { dataFolder, openZoo, type ZooModel, zoo } from "./zoo.ts";

const quick = process.argv.includes("--quick");
const cpu = await runtime({ threads: 1 });
const samples = quick ? 16 : 100;
const judgedSamples = quick ? 24 : 1000;

interface Settings {
  readonly bits: 4 | 3;
  readonly granularity: "channel" | "block";
}

/** Steps of every way of finding codes; the first is what the others are compared with. */
const ways: Readonly<Record<string, (settings: Settings) => readonly Step[]>> = {
  "round to nearest": (settings) => [weights({ ...settings, method: "rtn" })],
  HQQ: (settings) => [weights({ ...settings, method: "hqq" })],
  search: (settings) => [weights(settings)],
  "AWQ, round to nearest": (settings) => [weights({ ...settings, method: "rtn", awq: true })],
  "AWQ, search": (settings) => [weights({ ...settings, awq: true })],
  GPTQ: (settings) => [weights({ ...settings, method: "gptq" })],
  "GPTQ, act-order": (settings) => [weights({ ...settings, method: "gptq", actOrder: true })],
  "AWQ, GPTQ": (settings) => [weights({ ...settings, method: "gptq", awq: true })],
  "rotated, GPTQ": (settings) => [rotateResidual(), weights({ ...settings, method: "gptq" })],
};

/** Steps to 8-bit activations, with and without what comes before them. */
const activations: Readonly<Record<string, readonly Step[]>> = {
  static: [quantizeStatic({ samples: Math.min(samples, 64) })],
  "smoothed, static": [smoothActivations({ samples }), quantizeStatic({ samples: Math.min(samples, 64) })],
  "rotated, static": [rotateResidual(), quantizeStatic({ samples: Math.min(samples, 64) })],
  dynamic: [quantizeDynamic()],
  "smoothed, dynamic": [smoothActivations({ samples }), quantizeDynamic()],
  "rotated, dynamic": [rotateResidual(), quantizeDynamic()],
};

function weights(options: NonNullable<Parameters<typeof quantizeWeights>[0]>): Step {
  return quantizeWeights({ format: "storage", embeddings: false, samples, ...options });
}

async function scores({ name, metric }: { name: string; metric: string }): Promise<string> {
  const subject = zoo.find((model) => model.name === name) as ZooModel;
  const { graph, dataset } = await openZoo(subject, dataFolder(), cpu);
  const models: { name: string; graph: Graph }[] = [{ name: "float", graph }];
  const make = async (label: string, steps: readonly Step[]): Promise<void> => {
    let current = graph;
    for (const step of steps) current = await step.apply(current, { ...testContext(cpu), data: dataset });
    models.push({ name: label, graph: current });
    console.log(`${name}: ${label}`);
  };
  const settings = (["channel", "block"] as const).flatMap((granularity) =>
    ([4, 3] as const).map((bits): Settings => ({ bits, granularity })),
  );
  const label = (way: string, { bits, granularity }: Settings): string => `${way}, ${bits} bits by ${granularity}`;
  for (const [way, steps] of Object.entries(ways)) {
    for (const setting of settings) await make(label(way, setting), steps(setting));
  }
  for (const [way, steps] of Object.entries(activations)) await make(way, steps);
  const metrics = [metricOf(metric), ...subject.metrics.filter((other) => other.name !== metric)];
  const judged = await evaluate(models, dataset, cpu, { metrics, split: "test", seed: 1, limit: judgedSamples });
  const float = scoreFor(judged, "float", metric);
  const cell = (which: string, reference: string): string => {
    const [value, base] = [scoreFor(judged, which, metric), scoreFor(judged, reference, metric)];
    const share = which === reference ? "" : ` (${((100 * (value - float)) / (base - float)).toFixed(0)} %)`;
    return `${value.toFixed(3)}${share}`;
  };
  const rows = Object.keys(ways).map((way) => [
    way,
    ...settings.map((setting) => cell(label(way, setting), label("round to nearest", setting))),
  ]);
  const header = ["", ...settings.map(({ bits, granularity }) => `${bits} bits by ${granularity}`)];
  const integers = Object.keys(activations).map((way) => [way, cell(way, way.split(", ").at(-1)!)]);
  return `### ${name}

${metric} on ${judged.samples} samples, ${samples} others calibrate; float ${float.toFixed(3)}. In brackets what is lost as a share of
what rounding to nearest loses.

${table(header, rows)}

Activations in 8 bits too; in brackets as a share of what the same quantization loses without help.

${table(["", metric], integers)}`;
}

function scoreFor({ models }: Evaluation, name: string, metric: string): number {
  return models.find((model) => model.name === name)!.scores.find((score) => score.metric === metric)!.value;
}

const sections = [
  await scores({ name: "kwt1", metric: "cross-entropy" }),
  await scores({ name: "stories260K", metric: "perplexity" }),
];
const body = sections.join("\n\n");
console.log(body);
if (!quick)
  record("weight-methods", "Weights in few bits, by method", "PARE_DATA=FOLDER npx tsx bench/weight-methods.ts", body);
