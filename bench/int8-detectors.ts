/**
 * What 8 bits do to detectors' boxes and to recurrent models of audio:
 * `PARE_DATA=FOLDER npx tsx bench/int8-detectors.ts [MODEL...]`
 *
 * Every model is quantized as a user would, one way after the other until it is near enough to float; what keeps float
 * arithmetic is named with the reason. Samples that calibrate and choose are never judged on. PARE_WORK names a folder
 * that keeps finished rows.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onnxSize } from "../src/formats/onnx/index.ts";
import type { Graph } from "../src/graph/graph.ts";
import type { Decode, Metric } from "../src/metrics/index.ts";
import { ratioOf } from "../src/metrics/metric.ts";
import { load, runtime } from "../src/platform/node.ts";
import type { Tensors } from "../src/platform/runtime.ts";
import { random } from "../src/random.ts";
import { makeJudge } from "../src/recipe/judge.ts";
import { quantizeMixed } from "../src/recipe/mixed.ts";
import { techniques } from "../src/techniques/index.ts";
import type { Context } from "../src/techniques/technique.ts";
import { toFloat32 } from "../src/tensor/tensor.ts";
import { record, table } from "./document.ts";
import { audioOf, gtcrnStreams, type Streams, sileroStreams, unroll } from "./zoo/audio.ts";
import { facesAbove, matchDetections, objectsAbove } from "./zoo/detectors.ts";
import { feedsOf } from "./zoo/samples.ts";
import { dataFolder, openZoo, zoo } from "./zoo.ts";

const seed = 1;
/** Detections of the float model from this score on are to be found again, at this mean IoU... */
const confident = 0.5;
const leastIou = 0.95;
/** ...and audio is to keep this signal-to-noise ratio, in decibels. */
const leastRatio = 25;
/** A box that is found again with a lower score than this counts as lost. */
const findable = 0.3;
/** Loss of mean IoU at which layers are chosen: less than is allowed, since other photographs judge. */
const spare = 0.04;
/** Steps of recordings to calibrate and to compare candidates on. */
const steps = 160;

/** How near a model is to float, on the test samples. */
interface Figures {
  readonly cells: readonly string[];
  readonly reached: boolean;
}

/** A model with its samples, and how it is judged. */
interface Case {
  readonly model: string;
  readonly header: readonly string[];
  readonly graph: Graph;
  /** What techniques look at. */
  readonly calibration: readonly Tensors[];
  readonly ways: readonly Way[];
  judge(changed: Graph): Promise<Figures>;
}

interface Made {
  readonly graph: Graph;
  /** Labels of nodes that compute in float, each with the reason. */
  readonly left: ReadonlyMap<string, string>;
}

/** A way to quantize a model. */
interface Way {
  readonly name: string;
  /** Tried only where no way before it was near enough. */
  readonly remedy?: boolean;
  make(one: Case): Promise<Made>;
}

interface Row extends Figures {
  readonly model: string;
  readonly way: string;
  readonly bytes: number;
  readonly left: readonly (readonly [node: string, reason: string])[];
}

const data = dataFolder();
const onnx = await runtime(process.env.PARE_THREADS ? { threads: Number(process.env.PARE_THREADS) } : {});

function contextOf(calibration: readonly Tensors[], left: Map<string, string>): Context {
  return {
    runtime: onnx,
    data: feedsOf("calibration", { all: calibration }),
    random: random(seed),
    log: (line) => console.error(`  ${line}`),
    progress: () => {},
    skip: (node, reason) => left.set(node, reason),
    show: () => {},
    signal: new AbortController().signal,
  };
}

/** quantize-static as it comes. */
const defaults: Way = {
  name: "`quantize-static`",
  async make({ graph, calibration }) {
    const left = new Map<string, string>();
    return { graph: await techniques["quantize-static"]!({}).apply(graph, contextOf(calibration, left)), left };
  },
};

/** The same, and 8 bits for the weights of what computes in float. */
const allWeights: Way = {
  name: "`quantize-static`, then `quantize-weights --bits 8`",
  async make(one) {
    const { graph, left } = await defaults.make(one);
    return { graph: await withByteWeights(graph, one.calibration), left };
  },
};

function withByteWeights(graph: Graph, calibration: readonly Tensors[]): Promise<Graph> {
  const settings = { bits: 8, granularity: "channel", minElements: 256 };
  return Promise.resolve(techniques["quantize-weights"]!(settings).apply(graph, contextOf(calibration, new Map())));
}

/** The layers whose integers save most bytes for the noise that they make, as many as the boxes allow; 8 bits for the weights of the others. */
function chosen(decode: (least: number) => Decode): Way {
  const metric: Metric = {
    name: "confident-iou",
    summary: "mean IoU of confident detections with what is found in their place",
    better: "higher",
    unit: "%",
    needs: "reference",
    rows: ({ outputs, reference, size }) =>
      Array.from({ length: size }, (_, i) => {
        const matches = matchDetections(decode(confident)(reference!, i, size), decode(findable)(outputs, i, size));
        return [matches.reduce((sum, { overlap }) => sum + overlap, 0), matches.length];
      }),
    value: (rows) => ratioOf(rows, 0, 1),
  };
  return {
    name: "`pare quantize --formats int8`, then `quantize-weights --bits 8`",
    remedy: true,
    async make({ graph, calibration }) {
      const quarter = (from: number): Tensors[] => calibration.filter((_, i) => i % 4 === from);
      const context = contextOf([...quarter(0), ...quarter(2)], new Map());
      const [selection, confirmation] = [1, 3].map((from) => feedsOf("photographs", { all: quarter(from) }));
      const parts = { selection: selection!, confirmation: confirmation! };
      const judge = await makeJudge(graph, { ...context, seed, parts, metrics: [metric], seconds: 0 });
      const reason =
        "too much noise for the bytes saved, all together; signal to noise with the layer alone in integers";
      const found = await quantizeMixed(graph, context, judge, { formats: ["int8"], maxDrop: spare });
      const left = found.layers.flatMap(({ nodes }, i): [string, string][] => {
        const format = found.chosen?.formats[i];
        const harm = found.effects[i]!.find((effect) => effect.format === "int8")?.damage;
        const noise = harm === undefined ? "" : ` ${(-10 * Math.log10(harm)).toFixed(0)} dB`;
        return format === "int8" ? [] : nodes.map((node) => [`${node}${noise}`, reason]);
      });
      return { graph: await withByteWeights(found.graph ?? graph, calibration), left: new Map(left) };
    },
  };
}

/** What a detector finds in photographs. */
async function detector(model: string, decode: (least: number) => Decode): Promise<Case> {
  const { graph, dataset } = await openZoo(zoo.find(({ name }) => name === model)!, data, onnx);
  const feedsOfSplit = async (split: string): Promise<Tensors[]> => {
    const feeds: Tensors[] = [];
    for await (const { inputs } of dataset.batches({ split, batch: 1 })) feeds.push(inputs);
    return feeds;
  };
  const test = await feedsOfSplit("test");
  const wanted = await outputsOf(graph, test);
  return {
    model,
    header: ["photographs", "detections", "mean IoU", "lost", "below the threshold", "score change, mean", "largest"],
    graph,
    calibration: await feedsOfSplit("calibration"),
    ways: [defaults, chosen(decode)],
    async judge(changed) {
      const found = await outputsOf(changed, test);
      const matches = wanted.flatMap((outputs, i) =>
        matchDetections(decode(confident)(outputs, 0, 1), decode(findable)(found[i]!, 0, 1)),
      );
      const overlap = mean(matches.map((match) => match.overlap));
      const changes = matches.filter((match) => match.overlap > 0).map(({ scoreChange }) => Math.abs(scoreChange));
      const lost = matches.length - changes.length;
      const below = matches.filter((match) => match.overlap > 0 && match.score < confident).length;
      const cells = [test.length, matches.length, overlap.toFixed(3), lost, below, mean(changes).toFixed(3)];
      return { cells: [...cells, Math.max(...changes).toFixed(3)].map(String), reached: overlap >= leastIou };
    },
  };
}

async function outputsOf(graph: Graph, feeds: readonly Tensors[]): Promise<Tensors[]> {
  const session = await onnx.open(graph);
  const outputs: Tensors[] = [];
  for (const feed of feeds) outputs.push(await session.run(feed));
  await session.release();
  return outputs;
}

const mean = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / Math.max(1, values.length);

/** Recordings through a recurrent model, both sides carrying their own states on. */
async function recurrent(
  model: string,
  streams: Streams,
  signalOf: (outputs: readonly Tensors[]) => Float32Array,
  header: readonly string[],
  more: (wanted: readonly Float32Array[], found: readonly Float32Array[]) => readonly string[] = () => [],
): Promise<Case> {
  const graph = await load(join(data, zoo.find(({ name }) => name === model)!.path));
  const run = async (changed: Graph): Promise<Float32Array[]> => {
    const signals: Float32Array[] = [];
    for (const stream of streams.test)
      signals.push(signalOf((await unroll(changed, onnx, stream, streams.states)).outputs));
    return signals;
  };
  const wanted = await run(graph);
  const fed: Tensors[] = [];
  for (const stream of streams.calibration) fed.push(...(await unroll(graph, onnx, stream, streams.states)).feeds);
  return {
    model,
    header: ["recordings", "steps", "SNR", "of the worst recording", ...header],
    graph,
    calibration: random(seed)
      .shuffle([...fed])
      .slice(0, steps),
    ways: [defaults, allWeights],
    async judge(changed) {
      const found = await run(changed);
      const ratio = ratioOfNoise(wanted, found);
      const worst = Math.min(...wanted.map((signal, i) => ratioOfNoise([signal], [found[i]!])));
      const count = streams.test.reduce((sum, stream) => sum + stream.length, 0);
      const cells = [String(wanted.length), String(count), decibels(ratio), decibels(worst)];
      return { cells: [...cells, ...more(wanted, found)], reached: ratio >= leastRatio };
    },
  };
}

const decibels = (ratio: number): string => `${ratio.toFixed(1)} dB`;

function ratioOfNoise(wanted: readonly Float32Array[], found: readonly Float32Array[]): number {
  let [signal, noise] = [0, 0];
  for (const [i, values] of wanted.entries()) {
    for (const [k, v] of values.entries()) {
      signal += v * v;
      noise += (v - found[i]![k]!) ** 2;
    }
  }
  return 10 * Math.log10(signal / noise);
}

/** How much probabilities of speech differ. */
function probabilityChanges(wanted: readonly Float32Array[], found: readonly Float32Array[]): readonly string[] {
  const pairs = wanted.flatMap((values, i) => [...values].map((p, k): [number, number] => [p, found[i]![k]!]));
  const changes = pairs.map(([p, q]) => Math.abs(p - q));
  const decided = pairs.filter(([p, q]) => p >= 0.5 !== q >= 0.5).length;
  return [mean(changes).toFixed(4), Math.max(...changes).toFixed(3), String(decided)];
}

const cases: Readonly<Record<string, () => Promise<Case>>> = {
  ultraface: () => detector("ultraface", facesAbove),
  fastestdet: () => detector("fastestdet", objectsAbove),
  gtcrn: () => recurrent("gtcrn", gtcrnStreams(data), (outputs) => audioOf(outputs.map(({ enh }) => enh!)), []),
  silero: () =>
    recurrent(
      "silero",
      sileroStreams(data),
      (outputs) => Float32Array.from(outputs, ({ output }) => toFloat32(output!)[0]!),
      ["probability change, mean", "largest", "decisions changed"],
      probabilityChanges,
    ),
};

async function rowOf(one: Case, way: Way): Promise<Row> {
  const { graph, left } = await way.make(one);
  return { model: one.model, way: way.name, bytes: onnxSize(graph), left: [...left], ...(await one.judge(graph)) };
}

const work = process.env.PARE_WORK;
const file = work === undefined ? undefined : join(work, "int8-detectors.json");
if (work !== undefined) mkdirSync(work, { recursive: true });
const rows: Row[] = file && existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Row[]) : [];
const wanted = process.argv.slice(2);
const sections: string[] = [];
for (const [model, open] of Object.entries(cases)) {
  if (wanted.length > 0 && !wanted.includes(model)) continue;
  const one = await open();
  const own: Row[] = [];
  for (const way of one.ways) {
    if (way.remedy && own.some(({ reached }) => reached)) continue;
    const known = rows.find((row) => row.model === model && row.way === way.name);
    const row = known ?? (await rowOf(one, way));
    own.push(row);
    console.error(model, row.way, row.cells.join(" | "));
    if (known) continue;
    rows.push(row);
    if (file) writeFileSync(file, JSON.stringify(rows));
  }
  sections.push(sectionOf(one, own));
  if (own.some(({ reached }) => reached)) continue;
  console.error(`${model} is not near enough to float`);
  process.exitCode = 1;
}

function sectionOf({ model, header, graph }: Case, own: readonly Row[]): string {
  const cells = own.map((row) => [row.way, kilobytes(row.bytes), ...row.cells]);
  return [
    `### ${model}, ${kilobytes(onnxSize(graph))}`,
    table(["by", "size", ...header], cells),
    ...own.map(floatOf),
  ].join("\n\n");
}

/** What computes in float, by reason. */
function floatOf({ way, left }: Row): string {
  if (left.length === 0) return `${way}: every layer in integers.`;
  const nodes = new Map<string, string[]>();
  for (const [node, reason] of left) nodes.set(reason, [...(nodes.get(reason) ?? []), `\`${node}\``]);
  const lines = [...nodes].map(([reason, names]) => `- ${reason}: ${names.join(", ")}`);
  return [`${way}, in float:`, "", ...lines].join("\n");
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1000).toFixed(0)} kB`;
}

const body = `Against the float model, on samples that nothing was calibrated on or chosen by. Detectors: each detection of the float
model with a score of at least ${confident} is paired with one of its class, the best overlap first; IoU is 0 for those lost, which
nothing found with a score of ${findable} or more overlaps; ${leastIou} is asked for. Audio: half a minute of noisy speech and of single words,
states carried on by either model itself from zeros on; ${leastRatio} dB are asked for. That \`quantize-static\` clips nothing where
outputs are above 35 dB was found out on UltraFace's photographs, the judging ones among them; before, it came to 0.942.

${sections.join("\n\n")}`;
if (wanted.length === 0) {
  record("int8-detectors", "Detectors and audio in 8 bits", "PARE_DATA=FOLDER npx tsx bench/int8-detectors.ts", body);
} else console.log(body);
