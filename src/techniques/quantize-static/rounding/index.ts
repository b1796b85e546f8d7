import { PareError } from "../../../errors.ts";
import { graphDigest } from "../../../formats/digest.ts";
import { nodeLabel } from "../../../graph/graph.ts";
import { links } from "../../../graph/walk.ts";
import type { Tensors } from "../../../platform/runtime.ts";
import type { Random } from "../../../random.ts";
import { affineParams } from "../../../tensor/affine.ts";
import { integerOnly, type Plan } from "../plan.ts";
import { emitOptions, type LearnedRounding, rangesFor, type Setup, type Writing, writeQdq } from "../setup.ts";
import { finishedUnits } from "./checkpoint.ts";
import { type LearnedUnit, learnUnit } from "./learn-unit.ts";
import type { UnitOptions } from "./unit-graph.ts";
import { blockUnits, layerUnits, type Unit } from "./units.ts";

/** A way to quantize whose rounding is to be learned. */
export interface Rounding extends Writing {
  readonly setup: Setup;
  readonly plan: Plan;
}

/**
 * Learns which way weights are rounded, layer by layer or block by block in the order of execution, each with the inputs
 * that the layers before it give by now, towards what it gave in the float network. AdaRound (Nagel et al. 2020) for
 * `adaround`; BRECQ (Li et al. 2021) without its Fisher weights for `block`, with steps of activations learned too, and
 * QDrop (Wei et al. 2022). Finished units are kept in the context's store.
 *
 * @param feeds samples, one a run; iterated twice for each unit
 * @throws PareError where a checkpoint is one of another run
 */
export async function learnRounding(
  rounding: Rounding,
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
): Promise<LearnedRounding> {
  const { setup, plan } = rounding;
  const { context, options, graph } = setup;
  const blocks = options.rounding === "block";
  const units = blocks ? blockUnits(graph, plan) : layerUnits(graph, plan);
  const store = context.training?.store;
  const random = context.random.fork("rounding");
  const finished = store && (await finishedUnits(store, await runOf(rounding, random)));
  let learned = nothing;
  for (const [i, unit] of units.entries()) {
    context.signal.throwIfAborted();
    let kept = finished?.get(i);
    if (!kept) {
      kept = await learnParts(unit, { rounding, learned, feeds, random: random.fork(`unit ${i}`), blocks });
      await finished?.add(i, kept);
    }
    learned = merged(learned, kept);
    context.progress(i + 1, units.length, blocks ? "blocks" : "layers");
  }
  return learned;
}

/** What a run is known by: the model before and as it was to be written, whose grids and biases depend on the data. */
async function runOf(rounding: Rounding, random: Random): Promise<string> {
  const { setup, plan } = rounding;
  const written = await graphDigest(writeQdq(setup, plan, rounding).graph);
  return JSON.stringify([setup.options, random.state(), await graphDigest(setup.graph), written]);
}

interface Surroundings {
  readonly rounding: Rounding;
  readonly learned: LearnedRounding;
  readonly feeds: AsyncIterable<Tensors> | Iterable<Tensors>;
  readonly random: Random;
  readonly blocks: boolean;
}

/** Learns a unit; one that can't be computed for several samples at a time, or differentiated, layer by layer. */
async function learnParts(unit: Unit, surroundings: Surroundings): Promise<LearnedRounding> {
  const { rounding, blocks } = surroundings;
  const { context, graph } = rounding.setup;
  try {
    return told(unit, await learn(unit, surroundings), context.log).learned ?? nothing;
  } catch (error) {
    if (!(error instanceof PareError) || context.signal.aborted) throw error;
    context.log(
      `${labelOf(unit)}: rounded ${blocks && unit.learns.length > 1 ? "layer by layer" : "to nearest"}: ${error.message}`,
    );
    if (unit.learns.length === 1) return nothing;
  }
  const inside = new Set(unit.learns);
  const layers = layerUnits(graph, rounding.plan).filter(({ learns }) => inside.has(learns[0]!));
  let learned = surroundings.learned;
  let own = nothing;
  for (const layer of layers) {
    const found = await learnParts(layer, { ...surroundings, learned, blocks: false });
    [learned, own] = [merged(learned, found), merged(own, found)];
  }
  return own;
}

const nothing: LearnedRounding = { codes: new Map(), biases: new Map(), ranges: new Map() };

function learn(unit: Unit, { rounding, learned, feeds, random, blocks }: Surroundings): Promise<LearnedUnit> {
  const { setup, plan } = rounding;
  const { options, graph } = setup;
  const now = { ...rounding, learned };
  // what is packed computes the same, unpacked
  const plain: Setup = { ...setup, options: { ...options, packed: false } };
  const { graph: quantized, rounded } = writeQdq(plain, plan, now);
  const { producer } = links(graph);
  const nameOf = (value: string): string => {
    const maker = producer.get(value);
    const readers = unit.nodes.filter(({ inputs }) => inputs.includes(value));
    const byAll = readers.every((node) => plan.integer.has(node)) || (maker !== undefined && integerOnly(maker, plan));
    return byAll ? (rounded.get(value) ?? value) : value;
  };
  return learnUnit(unit, {
    setup,
    plan,
    emit: emitOptions(plain, now),
    activation: blocks ? activationGrids(rounding, learned) : () => undefined,
    quantized,
    nameOf,
    feeds,
    samples: options.roundingSamples,
    drops: blocks && options.roundingDrop,
    random,
  });
}

/** Grids of the values that are quantized where they are made, with a step to learn. */
function activationGrids({ setup, plan, method }: Rounding, learned: LearnedRounding): UnitOptions["activation"] {
  const { activationType, symmetricActivations: symmetric } = setup.options;
  const ranges = rangesFor(setup, plan, method);
  return (name) => {
    if (plan.values.get(name) !== name || plan.fixed.has(name)) return undefined;
    const [min, max] = learned.ranges.get(name) ?? ranges.get(name)!;
    return affineParams(min, max, activationType, { symmetric, bits: setup.widths.value(name) });
  };
}

function merged(a: LearnedRounding, b: LearnedRounding): LearnedRounding {
  return {
    codes: new Map([...a.codes, ...b.codes]),
    biases: new Map([...a.biases, ...b.biases]),
    ranges: new Map([...a.ranges, ...b.ranges]),
  };
}

function told(unit: Unit, result: LearnedUnit, log: (message: string) => void): LearnedUnit {
  const { nearest, error, learned } = result;
  const gain = learned ? `${(10 * Math.log10(nearest / error)).toFixed(1)} dB less error` : "rounded to nearest";
  log(`${labelOf(unit)}: ${gain}`);
  return result;
}

function labelOf({ learns }: Unit): string {
  const labels = learns.map(nodeLabel);
  return labels.length === 1 ? labels[0]! : `${labels[0]} to ${labels.at(-1)}`;
}
