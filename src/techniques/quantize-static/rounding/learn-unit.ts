import type { Range } from "../../../analysis/ranges.ts";
import { edit } from "../../../graph/edit.ts";
import type { Tensors } from "../../../platform/runtime.ts";
import type { Random } from "../../../random.ts";
import type { Affine } from "../../../tensor/affine.ts";
import { float32, sizeOf, type Tensor, toFloat32 } from "../../../tensor/tensor.ts";
import { type CapturedSamples, captureSamples, type Source } from "../../../training/captured.ts";
import { type Reconstruction, reconstruct, reconstructionError, wantedName } from "../../../training/reconstruct.ts";
import type { EmitOptions } from "../constants.ts";
import { macs } from "../plan.ts";
import type { LearnedRounding, Setup } from "../setup.ts";
import { floatName } from "./drop.ts";
import { roundedCodes, roundingPenalty } from "./soft-rounding.ts";
import { type UnitGraph, type UnitOptions, unitGraph } from "./unit-graph.ts";
import type { Unit } from "./units.ts";

/** How a unit is learned. */
export interface LearnOptions extends Omit<UnitOptions, "drop"> {
  /** The network with everything before the unit on integers. */
  readonly quantized: Source["graph"];
  /** What a value of the float network is called in it, for the readers of the unit. */
  nameOf(value: string): string;
  readonly feeds: AsyncIterable<Tensors> | Iterable<Tensors>;
  readonly samples: number;
  /** Quantize each activation in half of the steps only. */
  readonly drops: boolean;
  readonly random: Random;
}

/** What came of a unit; `learned` is absent where rounding to nearest was no worse. */
export interface LearnedUnit {
  /** Mean squared errors of the output, on samples that were not learned from where there are enough. */
  readonly nearest: number;
  readonly error: number;
  readonly learned?: LearnedRounding;
}

/** Bytes of a unit's values held; of larger ones fewer samples are taken. */
const budget = 2 ** 28;
/** Samples a step; fewer where they take more multiplications, or have more elements. A large picture is many samples. */
const [fewestBatch, mostBatch] = [4, 32];
const stepWork = 2 ** 28;
const stepElements = 2 ** 20;
/** With fewer samples than this, all are learned from and judged on. */
const fewest = 16;
/** Share of the steps before rounding is forced to either side, and the exponent that forces it from then on. */
const free = 0.2;
const [firstBeta, lastBeta] = [20, 2];
/** Rate of the factors on the steps of activations, relative to that of the rounding. */
const stepRate = 0.05;
/** Steps for biases and activations alone once all weights are decided: a share of those before, and a number at least. */
const settling = 0.25;
const fewestSettling = 100;
/** Their rate at first, relative to that of the rounding. */
const settlingRate = 3;

/**
 * Learns the rounding of one unit: gives its output as in the float network, from inputs as they are by now. Once every
 * weight is decided, biases and steps of activations settle at a falling rate: an error in the mean of a channel counts
 * little here, but is all that is left behind a pooling over the picture.
 */
export async function learnUnit(unit: Unit, options: LearnOptions): Promise<LearnedUnit> {
  const { setup, random, drops } = options;
  const { runtime, signal } = setup.context;
  const { roundingSteps: steps, roundingRate: rate } = setup.options;
  const all = await capture(unit, options);
  const judges = all.count >= fewest ? Math.floor(all.count / 8) : 0;
  const samples = all.part(0, all.count - judges);
  const judged = judges > 0 ? all.part(samples.count, all.count) : samples;
  const batch = Math.min(samples.count, batchOf(unit, setup));
  const how = { runtime, batch, signal, steps, rate, random };
  const plain = unitGraph(unit, options);
  const toNearest = new Map(plain.roundings.map(({ variable, soft }) => [variable, soft.nearest]));
  const nearest = await reconstructionError(plain, toNearest, judged, how);
  const unitError = await reconstructionError(plain, toNearest, samples, how);
  if (unitError === 0) return { nearest, error: nearest };
  const soft = drops ? unitGraph(unit, { ...options, drop: { batch, random } }) : plain;
  const learns = soft.roundings.length > 0;
  const found = learns ? await reconstruct(taskOf(soft, options, unitError), samples, how) : startOf(soft);
  const codes = new Map(
    soft.roundings.map(({ weight, variable, soft }) => [weight, roundedCodes(soft, found.get(variable)!)]),
  );
  const decided = withStart(unitGraph(unit, { ...options, emit: withKnown(options.emit, codes) }), soft, found);
  const settles = decided.biases.length + decided.steps.length > 0;
  const settled = settles
    ? await reconstruct(taskOf(decided, options, unitError), samples, {
        ...how,
        decays: true,
        rate: settlingRate * rate,
        steps: Math.max(fewestSettling, Math.ceil(settling * steps)),
      })
    : new Map<string, Tensor>();
  const error = await reconstructionError(decided, settled, judged, how);
  return error < nearest ? { nearest, error, learned: resultOf(decided, codes, settled) } : { nearest, error: nearest };
}

function batchOf({ nodes, learns }: Unit, { types }: Setup): number {
  const work = learns.reduce((sum, node) => sum + macs(node, types), 0);
  const sizes = nodes.flatMap(({ outputs }) => outputs.map((name) => sizeOf(types.get(name)?.shape ?? [])));
  const most = Math.floor(Math.min(mostBatch, stepWork / work, stepElements / Math.max(...sizes)));
  return Math.max(fewestBatch, most);
}

/** Variables before they are learned. */
function startOf({ graph, biases, steps }: UnitGraph): ReadonlyMap<string, Tensor> {
  return new Map([...biases, ...steps].map(({ variable }) => [variable, graph.weights.get(variable)!]));
}

function withKnown(emit: EmitOptions, codes: ReadonlyMap<string, Int16Array>): EmitOptions {
  const { codes: earlier = [], biases = new Map() } = emit.learned ?? {};
  return { ...emit, learned: { codes: new Map([...earlier, ...codes]), biases } };
}

/** A unit whose biases and steps start where those of another form of it are. */
function withStart(unit: UnitGraph, other: UnitGraph, found: ReadonlyMap<string, Tensor>): UnitGraph {
  const graph = edit(unit.graph, (draft) => {
    for (const kind of ["biases", "steps"] as const) {
      for (const [i, { variable }] of unit[kind].entries())
        draft.weights.set(variable, found.get(other[kind][i]!.variable)!);
    }
  });
  return { ...unit, graph };
}

function capture(
  unit: Unit,
  { setup, quantized, nameOf, feeds, samples, drops }: LearnOptions,
): Promise<CapturedSamples> {
  const { types, context, graph } = setup;
  const bytes = (name: string): number => 4 * sizeOf(types.get(name)!.shape);
  const inputs = unit.inputs.reduce((sum, name) => sum + bytes(name), 0) * (drops ? 2 : 1);
  const limit = Math.max(1, Math.min(samples, Math.floor(budget / (inputs + bytes(unit.output)))));
  const floats = drops ? unit.inputs.map((name): [string, string] => [name, floatName(name)]) : [];
  const sources: Source[] = [
    { graph, values: new Map([...floats, [unit.output, wantedName]]) },
    { graph: quantized, values: new Map(unit.inputs.map((name) => [nameOf(name), name])) },
  ];
  return captureSamples(sources, context.runtime, feeds, { limit, signal: context.signal });
}

function taskOf(unit: UnitGraph, { setup }: LearnOptions, unitError: number): Reconstruction {
  const { roundings, biases, steps } = unit;
  const strength = setup.options.roundingPenalty;
  const parameters = new Map([
    ...roundings.map(({ variable }): [string, number] => [variable, 1]),
    ...biases.map(({ variable }): [string, number] => [variable, 1]),
    ...steps.map(({ variable }): [string, number] => [variable, stepRate]),
  ]);
  const hs = roundings.map(({ h, soft }) => ({ h, size: soft.start.size }));
  return {
    graph: unit.graph,
    output: unit.output,
    parameters,
    unit: unitError,
    ...(hs.length > 0 && { penalty: (a) => a.mul(roundingPenalty(a, hs, "rounding_beta"), "rounding_strength") }),
    fed(step, all) {
      const share = Math.max(0, (step / all - free) / (1 - free));
      const beta = lastBeta + ((firstBeta - lastBeta) * (1 + Math.cos(Math.PI * share))) / 2;
      const scalar = (value: number): Tensor => float32([], [value]);
      return {
        ...(hs.length > 0 && { rounding_beta: scalar(beta), rounding_strength: scalar(share > 0 ? strength : 0) }),
        ...unit.offsets(),
      };
    },
  };
}

/** Learned variables as what is written into the model. */
function resultOf(
  { biases, steps }: UnitGraph,
  codes: ReadonlyMap<string, Int16Array>,
  found: ReadonlyMap<string, Tensor>,
): LearnedRounding {
  const values = (variable: string): Float32Array => toFloat32(found.get(variable)!);
  return {
    codes,
    biases: new Map(
      biases.map(({ node, variable, start, unit }) => {
        const offsets = values(variable);
        return [node.outputs[0]!, start.map((b, c) => b + unit[c]! * offsets[c]!)];
      }),
    ),
    ranges: new Map(steps.map(({ value, variable, grid }) => [value, rangeOf(grid, values(variable)[0]!)])),
  };
}

/** The range that a grid spans once its step is multiplied by a factor. */
function rangeOf({ scale, zeroPoint, qmin, qmax }: Affine, factor: number): Range {
  const step = scale * Math.abs(factor);
  return [step * (qmin - zeroPoint), step * (qmax - zeroPoint)];
}
