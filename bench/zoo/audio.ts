import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { parseTable } from "../../src/data/csv.ts";
import type { Dataset } from "../../src/data/dataset.ts";
import { datasetOf, type Samples } from "../../src/data/samples.ts";
import type { Graph } from "../../src/graph/graph.ts";
import type { Runtime, Tensors } from "../../src/platform/runtime.ts";
import { float32, int64, type Tensor, tensor, toFloat32 } from "../../src/tensor/tensor.ts";
import { feedsOf } from "./samples.ts";

const clipLength = 16_000;

/** Reads 16-bit mono PCM out of a RIFF file, as -1..1. */
export function readWav(path: string): Float32Array {
  const bytes = readFileSync(path);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = bytes.readUInt32LE(at + 4);
    if (bytes.toString("latin1", at, at + 4) === "data") {
      const end = Math.min(bytes.length, at + 8 + size);
      return pcm(bytes.subarray(at + 8, end - ((end - at) % 2)));
    }
    at += 8 + size + (size % 2);
  }
  throw new Error(`${path}: no data chunk`);
}

function pcm(bytes: Buffer): Float32Array {
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readInt16LE(2 * i) / 32768);
}

/** The 200 one-second clips of speech-commands. */
export function readClips(data: string): Float32Array[] {
  const all = pcm(gunzipSync(readFileSync(`${data}/speech-commands/clips-16khz-s16le.bin.gz`)));
  return Array.from({ length: all.length / clipLength }, (_, i) => all.subarray(i * clipLength, (i + 1) * clipLength));
}

function labelsFile(path: string): { label: number; word: string }[] {
  const { header, rows } = parseTable(readFileSync(path, "utf8"), path);
  const [label, word] = [header.indexOf("label"), header.indexOf("word")];
  return rows.map((row) => ({ label: Number(row[label]), word: row[word] ?? "" }));
}

function everySecond(name: string, count: number, read: Samples["read"]): Dataset {
  const half = (first: number): Samples => ({
    count: Math.floor((count - first + 1) / 2),
    read: (indices) => read(indices.map((i) => 2 * i + first)),
  });
  const whole: Samples = { count, read };
  return datasetOf(
    name,
    new Map([
      ["calibration", half(0)],
      ["test", half(1)],
      ["all", whole],
    ]),
  );
}

/** MFCC features of keyword spotting: int8 with zero point 83, `[n, 1, 49, 10]`; every second one calibrates. */
export function mfccs(data: string): Dataset {
  const size = 490;
  const bytes = new Int8Array(readFileSync(`${data}/speech-commands/kws01-mfcc-int8.bin`));
  const labels = labelsFile(`${data}/speech-commands/kws01-labels.csv`);
  return everySecond("speech-commands (MFCC)", labels.length, async (indices) => {
    const values = new Float32Array(indices.length * size);
    for (const [i, at] of indices.entries()) {
      for (let k = 0; k < size; k++) values[i * size + k] = (bytes[at * size + k]! - 83) * 0.5847029089927673;
    }
    const x = float32([indices.length, 1, 49, 10], values);
    return { inputs: { mfcc: x }, labels: int64(indices.map((i) => labels[i]!.label)), size: indices.length };
  });
}

const kwtClasses = "silence unknown yes no up down left right on off stop go".split(" ");
const silence = 10;
const unknown = 11;

/** Clips for KWT-1, without those of silence, which are unlike the ones it was trained with. */
export function keywordClips(data: string): Dataset {
  const clips = readClips(data);
  const labels = labelsFile(`${data}/speech-commands/clips-labels.csv`);
  const spoken = labels.flatMap(({ label }, i) => (label === silence ? [] : [i]));
  const classOf = ({ label, word }: { label: number; word: string }): number =>
    label === unknown ? 1 : kwtClasses.indexOf(word);
  return everySecond("speech-commands (clips)", spoken.length, async (indices) => {
    const values = new Float32Array(indices.length * clipLength);
    for (const [i, at] of indices.entries()) values.set(clips[spoken[at]!]!, i * clipLength);
    const classes = indices.map((at) => classOf(labels[spoken[at]!]!));
    const x = float32([indices.length, clipLength], values);
    return { inputs: { input_1: x }, labels: int64(classes), size: indices.length };
  });
}

/** A recurrent model's states: names of its inputs, and of the outputs that the next step is fed. */
export type States = Readonly<Record<string, string>>;

export const gtcrnStates: States = {
  conv_cache: "conv_cache_out",
  tra_cache: "tra_cache_out",
  inter_cache: "inter_cache_out",
};
export const sileroStates: States = { state: "stateN" };

/** A recurrent model over a stream, from states of zeros on: what each step was fed, its own states included, and gave. */
export async function unroll(
  graph: Graph,
  runtime: Runtime,
  steps: Iterable<Tensors>,
  states: States,
): Promise<{ feeds: Tensors[]; outputs: Tensors[] }> {
  const session = await runtime.open(graph);
  let carried: Tensors = Object.fromEntries(
    Object.keys(states).map((name) => {
      const type = graph.inputs.find((input) => input.name === name)?.type;
      const shape = type?.kind === "tensor" ? type.shape!.map((dim) => (typeof dim === "number" ? dim : 1)) : [];
      return [name, float32(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)))];
    }),
  );
  const [feeds, given]: Tensors[][] = [[], []];
  for (const step of steps) {
    const feed = { ...step, ...carried };
    const outputs = await session.run(feed);
    feeds!.push(feed);
    given!.push(outputs);
    carried = Object.fromEntries(Object.entries(states).map(([name, output]) => [name, outputs[output]!]));
  }
  await session.release();
  return { feeds: feeds!, outputs: given! };
}

/**
 * Frames of a noisy recording as GTCRN takes them, with the caches of the float model. The first half calibrates.
 */
export async function speechFrames(data: string, graph: Graph, runtime: Runtime): Promise<Dataset> {
  const { feeds } = await unroll(graph, runtime, framesOf(readWav(`${data}/gtcrn/mix.wav`)), gtcrnStates);
  const middle = Math.floor(feeds.length / 2);
  return feedsOf("gtcrn/mix.wav", { calibration: feeds.slice(0, middle), test: feeds.slice(middle) });
}

const [frameSize, hop, bins] = [512, 256, 257];
/** The root of a Hann window. */
const frameWindow = Float64Array.from({ length: frameSize }, (_, i) => Math.sin((Math.PI * i) / frameSize));
const cosines = Float64Array.from({ length: frameSize }, (_, i) => Math.cos((2 * Math.PI * i) / frameSize));
const cosine = (turns: number): number => cosines[turns % frameSize]!;
// sin t = cos(t - pi/2), a quarter of the table back
const sine = (turns: number): number => cosines[(turns + (3 * frameSize) / 4) % frameSize]!;

/** GTCRN's steps: 512 samples every 256 under the root of a Hann window, as a spectrum `[1, 257, 1, 2]`. */
export function framesOf(audio: Float32Array): Tensors[] {
  const count = Math.floor((audio.length - frameSize) / hop) + 1;
  return Array.from({ length: count }, (_, frame) => {
    const out = new Float32Array(2 * bins);
    for (let k = 0; k < bins; k++) {
      let [re, im] = [0, 0];
      for (let t = 0; t < frameSize; t++) {
        const x = audio[frame * hop + t]! * frameWindow[t]!;
        re += x * cosine(k * t);
        im -= x * sine(k * t);
      }
      out[2 * k] = re;
      out[2 * k + 1] = im;
    }
    return { mix: float32([1, bins, 1, 2], out) };
  });
}

/** The audio that spectra stand for: inverse transforms under the same window, overlapped and added. */
export function audioOf(spectra: readonly Tensor[]): Float32Array {
  const audio = new Float32Array((spectra.length - 1) * hop + frameSize);
  for (const [frame, spectrum] of spectra.entries()) {
    const values = toFloat32(spectrum);
    for (let t = 0; t < frameSize; t++) {
      let sum = values[0]! + values[2 * (bins - 1)]! * cosine((bins - 1) * t);
      for (let k = 1; k < bins - 1; k++) sum += 2 * (values[2 * k]! * cosine(k * t) - values[2 * k + 1]! * sine(k * t));
      audio[frame * hop + t]! += (sum / frameSize) * frameWindow[t]!;
    }
  }
  return audio;
}

/**
 * Blocks of 512 samples, each behind the last 64 of the block before, with the state of the float model. Twenty clips
 * of single words calibrate; ten others and a noisy recording judge.
 */
export async function voiceBlocks(data: string, graph: Graph, runtime: Runtime): Promise<Dataset> {
  const clips = readClips(data);
  const feeds = async (streams: readonly Float32Array[]): Promise<Tensors[]> =>
    (await unroll(graph, runtime, streams.flatMap(blocksOf), sileroStates)).feeds;
  const judged = [...clips.slice(20, 30), readWav(`${data}/gtcrn/mix.wav`)];
  return feedsOf("speech", { calibration: await feeds(clips.slice(0, 20)), test: await feeds(judged) });
}

/** Silero's steps: blocks of 512 samples, each behind the last 64 of the block before. */
export function blocksOf(stream: Float32Array): Tensors[] {
  const [context, size] = [64, 512];
  const sr = tensor("int64", [], BigInt64Array.of(16_000n));
  return Array.from({ length: Math.floor(stream.length / size) }, (_, i) => {
    const block = new Float32Array(context + size);
    const from = i * size - context;
    block.set(stream.subarray(Math.max(0, from), from + context + size), Math.max(0, -from));
    return { input: float32([1, context + size], block), sr };
  });
}

/** What a recurrent model is calibrated and judged on: recordings in steps, each from states of zeros on. */
export interface Streams {
  readonly states: States;
  readonly calibration: readonly (readonly Tensors[])[];
  readonly test: readonly (readonly Tensors[])[];
}

/** Half of a noisy recording and ten clips of single words to calibrate on, the other half and ten other clips to judge. */
export function gtcrnStreams(data: string): Streams {
  return streamsOf(data, framesOf, gtcrnStates);
}

/** The same recordings for Silero. */
export function sileroStreams(data: string): Streams {
  return streamsOf(data, blocksOf, sileroStates);
}

function streamsOf(data: string, steps: (audio: Float32Array) => Tensors[], states: States): Streams {
  const noisy = readWav(`${data}/gtcrn/mix.wav`);
  const middle = noisy.length >> 1;
  const clips = readClips(data);
  const part = (audio: Float32Array, from: number): Tensors[][] => [audio, ...clips.slice(from, from + 10)].map(steps);
  return { states, calibration: part(noisy.subarray(0, middle), 0), test: part(noisy.subarray(middle), 20) };
}
