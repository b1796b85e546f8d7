import { encodeOnnx, readOnnx } from "../../../src/formats/onnx/index.ts";
import { memorySource } from "../../../src/formats/source.ts";
import { random } from "../../../src/random.ts";
import { techniques } from "../../../src/techniques/index.ts";
import type { PageFunction } from "../chromium.ts";
import { unlabelled, type WireSamples } from "../samples.ts";

/** A model's file, samples to calibrate with, and one technique. */
export interface Job {
  readonly model: Uint8Array;
  readonly samples: WireSamples;
  readonly technique: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/** The compressed model's file, and how long the technique took. */
export interface Outcome {
  readonly model: Uint8Array;
  readonly milliseconds: number;
}

/** Applies a technique. */
const compress: PageFunction<Job, Outcome> = async (runtime, { model, samples, technique, options }) => {
  const context = {
    runtime,
    data: unlabelled(samples),
    random: random(7),
    log() {},
    progress() {},
    skip() {},
    show() {},
    signal: new AbortController().signal,
  };
  const started = performance.now();
  const graph = await techniques[technique]!(options).apply(readOnnx(memorySource(model)), context);
  const compressed = encodeOnnx(graph);
  return { model: compressed, milliseconds: performance.now() - started };
};

export default compress;
