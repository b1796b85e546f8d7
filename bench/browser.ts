/**
 * Quantization in the browser: whether a page gives the bytes and the predictions that Node gives, and how long it takes.
 * `PARE_DATA=FOLDER npx tsx bench/browser.ts`
 */
import type { LatencyResult } from "../src/analysis/latency.ts";
import { encodeOnnx } from "../src/formats/onnx/index.ts";
import { runtime } from "../src/platform/node.ts";
import type { Runtime } from "../src/platform/runtime.ts";
import { toNumbers } from "../src/tensor/tensor.ts";
import { closeChromium, inChromium } from "../test/web/chromium.ts";
import compress, { type Job, type Outcome } from "../test/web/pages/compress.ts";
import type { Race } from "../test/web/pages/latency.ts";
import predict, { type Prediction } from "../test/web/pages/predict.ts";
import type { WireSamples } from "../test/web/samples.ts";
import { record, table } from "./document.ts";
import { join } from "./zoo/samples.ts";
import { dataFolder, openZoo, zoo } from "./zoo.ts";

/** Runs of each technique: in the first, the page still compiles. */
const repeats = 3;
const calibrationSamples = 64;
const testSamples = 300;

const jobs: readonly [technique: string, options: Readonly<Record<string, unknown>>][] = [
  ["simplify", {}],
  ["quantize-dynamic", { conv: "integer" }],
  ["quantize-static", {}],
  ["quantize-weights", { bits: 4 }],
];

interface Subject {
  readonly name: string;
  readonly model: Uint8Array;
  readonly calibration: WireSamples;
  readonly test: WireSamples;
  readonly labels: readonly number[];
}

const wasm = await runtime({ provider: "wasm", threads: 2 });
const cpu = await runtime({ threads: 2 });

async function subject(name: string): Promise<Subject> {
  const model = zoo.find((known) => known.name === name)!;
  const { graph, dataset } = await openZoo(model, dataFolder(), cpu);
  const read = async (split: string, limit: number) => {
    const batches = [];
    for await (const batch of dataset.batches({ split, batch: limit, limit })) batches.push(batch);
    const { inputs, labels } = join(batches);
    const [input, x] = Object.entries(inputs)[0]!;
    return { samples: { input, shape: x.shape.slice(1), bytes: x.bytes() }, labels: labels ? toNumbers(labels) : [] };
  };
  const calibration = await read("calibration", calibrationSamples);
  const test = await read("test", testSamples);
  return {
    name,
    model: encodeOnnx(graph),
    calibration: calibration.samples,
    test: test.samples,
    labels: [...test.labels],
  };
}

/** What one model gives for the test samples, in the page and in Node. */
interface Predictions {
  readonly page: readonly number[];
  readonly wasm: readonly number[];
  readonly cpu: readonly number[];
}

async function predictions(model: Uint8Array, samples: WireSamples): Promise<Predictions> {
  const args: Prediction = { model, samples };
  return {
    page: await inChromium<Prediction, number[]>("predict", args),
    wasm: await predict(wasm, args),
    cpu: await predict(cpu, args),
  };
}

/** The place of the largest value of each row. */
function classesOf(outputs: readonly number[], rows: number): number[] {
  const width = outputs.length / rows;
  return Array.from({ length: rows }, (_, i) => {
    const row = outputs.slice(i * width, (i + 1) * width);
    return row.indexOf(Math.max(...row));
  });
}

/** Share of places where two lists agree, in percent. */
function agreement(a: readonly number[], b: readonly number[]): string {
  return `${((100 * a.filter((value, i) => value === b[i]).length) / a.length).toFixed(1)} %`;
}

function predictionCells({ page, wasm: node, cpu: native }: Predictions, labels: readonly number[]): string[] {
  const [here, there, natively] = [page, node, native].map((outputs) => classesOf(outputs, labels.length));
  const apart = page.reduce((most, value, i) => Math.max(most, Math.abs(value - native[i]!)), 0);
  return [
    agreement(here!, labels),
    page.every((value, i) => value === node[i]) ? "equal" : agreement(here!, there!),
    `${agreement(here!, natively!)}, ${apart === 0 ? "equal" : `within ${apart.toExponential(0)}`}`,
  ];
}

async function compressedBy(onnx: Runtime, page: Uint8Array, job: Job): Promise<string> {
  const { model } = await compress(onnx, job);
  if (Buffer.from(page).equals(model)) return "equal";
  if (page.length !== model.length) return `${page.length} and ${model.length} bytes`;
  return `${page.reduce((count, byte, i) => count + Number(byte !== model[i]), 0)} of ${page.length} differ`;
}

interface Rows {
  readonly bytes: string[][];
  readonly latency: string[][];
}

async function measure({ name, model, calibration, test, labels }: Subject): Promise<Rows> {
  const bytes = [
    [
      name,
      "float",
      `${(model.length / 1000).toFixed(0)} kB`,
      "",
      "",
      "",
      ...predictionCells(await predictions(model, test), labels),
    ],
  ];
  const models = [{ name: "float", model }];
  for (const [technique, options] of jobs) {
    const job: Job = { model, samples: calibration, technique, options };
    const runs: Outcome[] = [];
    for (let i = 0; i < repeats; i++) runs.push(await inChromium<Job, Outcome>("compress", job));
    const made = runs[0]!.model;
    if (!runs.every((run) => Buffer.from(run.model).equals(made))) throw new Error(`${technique} varies between runs`);
    models.push({ name: technique, model: made });
    bytes.push([
      name,
      [technique, ...Object.entries(options).map(([key, value]) => `--${key} ${value}`)].join(" "),
      `${(made.length / 1000).toFixed(0)} kB`,
      `${Math.min(...runs.map(({ milliseconds }) => milliseconds)).toFixed(0)} ms`,
      await compressedBy(wasm, made, job),
      await compressedBy(cpu, made, job),
      ...predictionCells(await predictions(made, test), labels),
    ]);
    console.log(bytes.at(-1)!.join("  "));
  }
  const race: Race = { models, samples: test, seconds: 3 };
  const raced = await inChromium<Race, LatencyResult>("latency", race);
  const latency = raced.models.map((m) => [
    name,
    m.name,
    `${m.median.toFixed(3)} ms`,
    `${m.minimum.toFixed(3)} ms`,
    m.ratio === undefined ? "" : `${(1 / m.ratio).toFixed(2)} x`,
  ]);
  for (const row of latency) console.log(row.join("  "));
  return { bytes, latency };
}

const measured: Rows[] = [];
try {
  for (const name of ["resnet8", "kws-dscnn"]) measured.push(await measure(await subject(name)));
} finally {
  await closeChromium();
}
record(
  "browser",
  "In the browser",
  "PARE_DATA=FOLDER npx tsx bench/browser.ts",
  [
    `Headless Chromium, ${wasm.name} on WebAssembly with two threads; ${calibrationSamples} calibration samples, ${testSamples} test samples.`,
    `The time is that of the whole technique in the page, the least of ${repeats} runs. Beside it, the page's bytes against those made in`,
    "Node on the same provider and on native kernels, and its predictions (top-1 against the labels, then against Node's",
    "for the same file). quantize-static and, given data, quantize-weights look at activations, and native kernels sum in",
    "another order: those differ in the last bits of a float there, and with them some of what is written.",
    "",
    table(
      ["model", "technique", "size", "time", "Node, WASM", "Node, native", "top-1", "as Node, WASM", "as Node, native"],
      measured.flatMap(({ bytes }) => bytes),
    ),
    "",
    "One inference of one sample in the page. WebAssembly's SIMD has no 8-bit multiplication: there, integers save bytes, not time.",
    "",
    table(
      ["model", "technique", "median", "least", "faster than float"],
      measured.flatMap(({ latency }) => latency),
    ),
  ].join("\n"),
);
