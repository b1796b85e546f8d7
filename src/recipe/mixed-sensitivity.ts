import type { OutputMeasure } from "../analysis/directions.ts";
import { classDivergence, type Reference, reference, signalToNoise } from "../analysis/output-error.ts";
import type { WeightDifference } from "../analysis/second-order.ts";
import { onnxSize } from "../formats/onnx/index.ts";
import type { Graph } from "../graph/graph.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { calibrationBatches } from "../techniques/calibration-batches.ts";
import type { Context } from "../techniques/technique.ts";
import { changeOf, estimateDamages } from "./mixed-estimate.ts";
import type { Format } from "./mixed-formats.ts";
import type { Layer } from "./mixed-layers.ts";
import { changeOfTime } from "./mixed-times.ts";

/** What a layer in a format, alone, costs and does. */
export interface Effect {
  readonly format: string;
  readonly bits: number;
  /** Bytes of the whole file. */
  readonly bytes: number;
  /** Milliseconds more than in float, conversions included; absent where times were not asked for. */
  readonly ms?: number;
  /** Divergence of the outputs, in nats, or their noise as a share of the signal. */
  readonly damage: number;
}

/** How damage is found: measured as a divergence or as noise, or estimated from second derivatives of either. */
export type DamageMeasure = OutputMeasure | "fisher";

/** What {@link measureEffects} looks at. */
export interface EffectOptions {
  readonly damage: OutputMeasure;
  /** Estimate it by {@link estimateDamages}; measured all the same where that can't be. */
  readonly estimated: boolean;
  /** Samples that outputs are compared on. */
  readonly samples: number;
  /** Time the layers too. */
  readonly times: boolean;
}

/** An effect whose damage is still to be found, of a layer by its place. */
interface Open {
  readonly at: number;
  readonly format: Format;
  readonly effect: Effect;
  /** What an estimate goes by; measured if absent. */
  readonly weights?: readonly WeightDifference[];
}

/**
 * The effect of every format on every layer, each alone: damage to the outputs on calibration samples, bytes,
 * time. By layer; the first is float. A format that changes nothing of a layer is absent there.
 *
 * @throws PareError where there is no data, or the runtime refuses the model
 */
export async function measureEffects(
  graph: Graph,
  layers: readonly Layer[],
  formats: readonly Format[],
  context: Context,
  options: EffectOptions,
): Promise<readonly (readonly Effect[])[]> {
  const { runtime } = context;
  const feeds: Tensors[] = [];
  for await (const { inputs } of calibrationBatches(graph, context, options.samples, 1, "quantize")) feeds.push(inputs);
  const wanted = await reference(graph, runtime, feeds);
  const types = options.times ? await observeTypes(graph, runtime, feeds[0]!) : undefined;
  const float: Effect = { format: "float", bits: 32, bytes: onnxSize(graph), damage: 0, ...(types && { ms: 0 }) };
  const found: Open[] = [];
  for (const format of formats) {
    for await (const [at, made] of eachAlone(graph, layers, format, formats, context)) {
      const weights = options.estimated ? await changeOf(graph, made, layers[at]!, runtime) : undefined;
      const ms = types && { ms: await changeOfTime(graph, made, types, context) };
      const damage = weights ? Number.NaN : await damageOf(made, runtime, wanted, options.damage);
      const effect = { format: format.name, bits: format.bits, bytes: onnxSize(made), damage, ...ms };
      found.push({ at, format, effect, ...(weights && { weights }) });
    }
  }
  const all = options.estimated ? await withEstimates(graph, layers, found, wanted, options.damage, context) : found;
  return layers.map((_, at) => [
    float,
    ...all.flatMap((open) => (open.at === at && Number.isFinite(open.effect.damage) ? [open.effect] : [])),
  ]);
}

/** The graph with one layer after the other in a format, by the layer's place. */
async function* eachAlone(
  graph: Graph,
  layers: readonly Layer[],
  format: Format,
  formats: readonly Format[],
  context: Context,
): AsyncGenerator<readonly [at: number, made: Graph]> {
  let at = 0;
  for await (const made of format.alone(graph, layers, context)) {
    context.signal.throwIfAborted();
    const done = formats.indexOf(format) * layers.length + at;
    context.progress(done, formats.length * layers.length, "layers' sensitivities");
    if (made) yield [at, made];
    at++;
  }
}

/** Estimates what can be; measures where a weight has no gradient. */
async function withEstimates(
  graph: Graph,
  layers: readonly Layer[],
  found: readonly Open[],
  wanted: Reference,
  by: OutputMeasure,
  context: Context,
): Promise<readonly Open[]> {
  const { runtime } = context;
  const changes = found.flatMap(({ at, format, weights }) =>
    weights ? [{ layer: layers[at]!, format, weights }] : [],
  );
  if (changes.length === 0) return found;
  const estimates = (await estimateDamages(graph, changes, wanted, by, context)).values();
  const all: Open[] = [];
  for (const { at, format, effect, weights } of found) {
    let { damage } = effect;
    if (weights) damage = estimates.next().value!;
    if (weights && Number.isNaN(damage)) {
      for await (const made of format.alone(graph, [layers[at]!], context))
        if (made) damage = await damageOf(made, runtime, wanted, by);
    }
    all.push({ at, format, effect: { ...effect, damage } });
  }
  return all;
}

async function damageOf(graph: Graph, runtime: Runtime, wanted: Reference, by: OutputMeasure): Promise<number> {
  if (by === "kl") return classDivergence(graph, runtime, wanted);
  return 10 ** (-(await signalToNoise(graph, runtime, wanted)) / 10);
}
