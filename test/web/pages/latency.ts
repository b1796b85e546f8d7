import { type LatencyResult, measureLatency } from "../../../src/analysis/latency.ts";
import { readOnnx } from "../../../src/formats/onnx/index.ts";
import { memorySource } from "../../../src/formats/source.ts";
import type { PageFunction } from "../chromium.ts";
import { feedsOf, type WireSamples } from "../samples.ts";

/** Models' files, the first the one to compare with. */
export interface Race {
  readonly models: readonly { readonly name: string; readonly model: Uint8Array }[];
  /** The first sample is fed. */
  readonly samples: WireSamples;
  /** To spend on each model. */
  readonly seconds: number;
}

/** Times models against each other, one sample an inference. */
const latency: PageFunction<Race, LatencyResult> = async (runtime, { models, samples, seconds }) => {
  const named = models.map(({ name, model }) => ({ name, graph: readOnnx(memorySource(model)) }));
  return measureLatency(named, runtime, feedsOf(samples, 0, 1), { seconds });
};

export default latency;
