import { type Draft, edit, renameReads } from "../../../graph/edit.ts";
import { float, type Graph, makeGraph, type Node } from "../../../graph/graph.ts";
import { links, reads } from "../../../graph/walk.ts";
import type { Tensors } from "../../../platform/runtime.ts";
import type { Random } from "../../../random.ts";
import { type Affine, dequantize } from "../../../tensor/affine.ts";
import { float32 } from "../../../tensor/tensor.ts";
import { type Arithmetic, arithmetic } from "../../../training/emit.ts";
import { biasOf, type EmitOptions, gridded, weightSettings, withCodes } from "../constants.ts";
import { channelsRead } from "../input-channels.ts";
import { narrowestWeight } from "../options.ts";
import { integerOnly, type Plan } from "../plan.ts";
import { weightOf } from "../rules.ts";
import type { Setup } from "../setup.ts";
import { type Dropper, dropper } from "./drop.ts";
import { type SoftRounding, softRounding, writeSoftRounding } from "./soft-rounding.ts";
import type { Unit } from "./units.ts";

/** What a unit's graph is made with. */
export interface UnitOptions {
  readonly setup: Setup;
  readonly plan: Plan;
  /** How constants are written, with what is learned already. */
  readonly emit: EmitOptions;
  /** The grid of a value that is quantized inside the unit; undefined for one that stays float. */
  activation(name: string): Affine | undefined;
  /** Quantize each element of an activation in half of the steps only; samples a step. */
  readonly drop?: { readonly batch: number; readonly random: Random };
}

/** A variable for the rounding of a weight. */
export interface RoundingVariable {
  readonly weight: string;
  readonly variable: string;
  readonly soft: SoftRounding;
  /** Name of h. */
  readonly h: string;
}

/** A variable for a bias: start + unit * variable. */
export interface BiasVariable {
  readonly node: Node;
  readonly variable: string;
  readonly start: Float32Array;
  readonly unit: Float32Array;
}

/** A variable for the step of an activation's grid: its factor. */
export interface StepVariable {
  readonly value: string;
  readonly variable: string;
  readonly grid: Affine;
}

/** A unit as a graph whose rounding can be learned; its inputs are those of the unit. */
export interface UnitGraph {
  readonly graph: Graph;
  /** The value to compare. */
  readonly output: string;
  readonly roundings: readonly RoundingVariable[];
  readonly biases: readonly BiasVariable[];
  readonly steps: readonly StepVariable[];
  /** What is fed beside the inputs, anew at every step. */
  offsets(): Tensors;
}

/**
 * Writes a unit with variables: soft rounding of its weights, offsets of its biases, factors on the steps of its
 * activations' grids (Esser et al. 2020: x' = s round(clamp(x / s, low, high)), rounding passing gradients through).
 * With `drop`, each element of an activation, and of the inputs, is quantized with probability 1/2 at a step (Wei et al.
 * 2022, "QDrop").
 */
export function unitGraph(unit: Unit, options: UnitOptions): UnitGraph {
  const { setup, drop } = options;
  const roundings: RoundingVariable[] = [];
  const biases: BiasVariable[] = [];
  const steps: StepVariable[] = [];
  const weights = new Map<string, string>();
  let output = unit.output;
  let found: Dropper | undefined;
  const graph = edit(excerpt(setup.graph, unit), (draft) => {
    const a = arithmetic(draft, "unit");
    const dropping = drop && dropper(draft, a, drop, setup.types);
    if (dropping) found = dropping;
    const inputs = new Set(unit.inputs);
    const replaced = new Map(dropping ? unit.inputs.map((name) => [name, dropping.mixedInput(name)]) : []);
    for (const name of unit.nodes.flatMap(({ outputs }) => outputs)) {
      const grid = options.activation(name);
      if (!grid) continue;
      const variable = draft.fresh(`${name}_step`);
      draft.weights.set(variable, float32([], [1]));
      const rounded = onGrid(a, name, variable, grid);
      replaced.set(name, dropping ? dropping.mixed(name, name, rounded) : rounded);
      steps.push({ value: name, variable, grid });
    }
    for (const node of unit.nodes) {
      const named = renameReads(node, (name) => {
        const next = replaced.get(name);
        return next !== undefined && (inputs.has(name) || readsRounded(name, node, options)) ? next : name;
      });
      const written = unit.learns.includes(node)
        ? withVariables(draft, a, named, node, options, { roundings, biases, weights })
        : named;
      if (written !== node) draft.replace(node, written);
    }
    output = replaced.get(unit.output) ?? unit.output;
    draft.outputs = [{ name: output }];
  });
  return { graph, output, roundings, biases, steps, offsets: found?.offsets ?? (() => ({})) };
}

/** The nodes of a unit alone. */
function excerpt(graph: Graph, { nodes, inputs, output }: Unit): Graph {
  const read = new Set(nodes.flatMap((node) => [...reads(node)]));
  const { opsets, irVersion, functions } = graph;
  return makeGraph({
    nodes,
    weights: new Map([...graph.weights].filter(([name]) => read.has(name))),
    inputs: inputs.map((name) => ({ name, type: { kind: "tensor", dtype: "float32" } })),
    outputs: [{ name: output }],
    opsets,
    irVersion,
    functions,
  });
}

/** Whether a reader of a value reads what its integers stand for. */
export function readsRounded(
  name: string,
  reader: Node,
  { plan, setup }: Pick<UnitOptions, "plan" | "setup">,
): boolean {
  const maker = links(setup.graph).producer.get(name);
  return plan.integer.has(reader) || (maker !== undefined && integerOnly(maker, plan));
}

function onGrid(a: Arithmetic, x: string, factor: string, { scale, zeroPoint, qmin, qmax }: Affine): string {
  const step = a.mul(factor, a.scalar(scale));
  const bounded = a.op("Clip", [a.div(x, step), a.scalar(qmin - zeroPoint), a.scalar(qmax - zeroPoint)]);
  return a.mul(a.op("Round", [bounded]), step);
}

interface Variables {
  readonly roundings: RoundingVariable[];
  readonly biases: BiasVariable[];
  /** Weights written already, by their names in the float graph. */
  readonly weights: Map<string, string>;
}

/** A layer with its weight and bias made of variables; a weight learned before is a constant. */
function withVariables(
  draft: Draft,
  a: Arithmetic,
  node: Node,
  original: Node,
  { setup, emit }: UnitOptions,
  { roundings, biases, weights }: Variables,
): Node {
  const weight = weightOf(original, setup.graph)!;
  const { name, tensor: t } = weight;
  const grid = gridded(original, weight, emit);
  const settings = weightSettings(weight, emit);
  if (!weights.has(name)) {
    const codes = emit.learned?.codes.get(name);
    // where others have fewer bits, the rounding to 8 hardly matters
    const isFine = emit.widths.weight(name) === 8 && narrowestWeight(setup.options) < 8;
    if (codes || isFine) {
      const { values, scales, zeroPoints } = codes ? withCodes(grid, codes, settings.axis) : grid;
      weights.set(name, a.constant(float32(t.shape, dequantize(values, scales, zeroPoints, settings.axis))));
    } else {
      const soft = softRounding(t, grid, settings);
      const variable = draft.fresh(`${name}_rounding`);
      const written = writeSoftRounding(draft, a, variable, soft, grid.scales, settings.axis);
      weights.set(name, written.weight);
      roundings.push({ weight: name, variable, soft, h: written.h });
    }
  }
  const inputs = [...node.inputs];
  inputs[1] = weights.get(name)!;
  if (original.op === "MatMul") return { ...node, inputs };
  const variable = draft.fresh(`${original.outputs[0]}_offset`);
  const bias = biasVariable(original, setup, grid.scales, variable);
  biases.push(bias);
  const channels = [bias.start.length];
  draft.weights.set(variable, float32(channels, new Float32Array(bias.start.length)));
  inputs[2] = a.add(
    a.constant(float32(channels, bias.start)),
    a.mul(variable, a.constant(float32(channels, bias.unit))),
  );
  const attributes = original.op === "Gemm" ? { ...node.attributes, beta: float(1) } : node.attributes;
  return { ...node, inputs, attributes };
}

/** A bias moves in steps of what rounding the weights does to an output: s sqrt(sum over inputs of E[x^2]). */
function biasVariable(node: Node, { graph, calibration }: Setup, scales: Float32Array, variable: string): BiasVariable {
  const { tensor: t, axis } = weightOf(node, graph)!;
  const channels = t.shape[axis ?? 0]!;
  const squares = channelsRead(node, calibration)?.square;
  const mean = squares ? squares.reduce((sum, x) => sum + x, 0) / squares.length : 1;
  const spread = Math.sqrt((mean * t.size) / channels);
  return {
    node,
    variable,
    start: biasOf(node, graph) ?? new Float32Array(channels),
    unit: Float32Array.from({ length: channels }, (_, c) => (scales[c] ?? scales[0]!) * spread),
  };
}
