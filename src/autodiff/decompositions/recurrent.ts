import {
  type Attribute,
  float,
  floatAttribute,
  intAttribute,
  type PlainAttribute,
  stringAttribute,
} from "../../graph/graph.ts";
import { float32 } from "../../tensor/tensor.ts";
import type { Decomposition, Emitter } from "../decompose.ts";
import { ints, scalar } from "../writer.ts";

/** One direction of a recurrent layer at work. */
interface Cell {
  readonly e: Emitter;
  readonly hidden: number;
  /** Gates of the input, all steps at once: [steps, batch, gates * hidden], both biases but what the cell keeps apart. */
  readonly gates: readonly string[];
  /** Recurrent weights transposed: [hidden, gates * hidden]. */
  readonly recurrence: string;
  /** Recurrent bias [gates * hidden], where there is one. */
  readonly recurrentBias?: string;
  readonly peepholes?: string;
  /** Activation `index` of x, clipped before where the node says so. */
  activate(index: number, x: string, clipped?: boolean): string;
}

/** New state from the gates of one step and the old state. */
type Step = (cell: Cell, gates: string, state: readonly string[]) => readonly string[];

const simple: Readonly<Record<string, string>> = {
  affine: "",
  elu: "Elu",
  hardsigmoid: "HardSigmoid",
  leakyrelu: "LeakyRelu",
  relu: "Relu",
  scaledtanh: "",
  sigmoid: "Sigmoid",
  softplus: "Softplus",
  softsign: "Softsign",
  tanh: "Tanh",
  thresholdedrelu: "ThresholdedRelu",
};

function activation(e: Emitter, name: string, alpha: number | undefined, beta: number | undefined, x: string): string {
  const kind = name.toLowerCase();
  if (kind === "affine") {
    return e.op("Add", [e.op("Mul", [x, scalar(e, alpha ?? 1)]), scalar(e, beta ?? 0)]);
  }
  if (kind === "scaledtanh") {
    return e.op("Mul", [e.op("Tanh", [e.op("Mul", [x, scalar(e, beta ?? 1)])]), scalar(e, alpha ?? 1)]);
  }
  const attributes: Record<string, PlainAttribute> = {};
  if (["elu", "hardsigmoid", "leakyrelu", "thresholdedrelu"].includes(kind) && alpha !== undefined) {
    attributes.alpha = float(alpha);
  }
  if (kind === "hardsigmoid" && beta !== undefined) attributes.beta = float(beta);
  return e.op(simple[kind] ?? name, [x], attributes);
}

function listOf(attribute: Attribute | undefined): readonly unknown[] {
  return attribute && Array.isArray(attribute.value) ? (attribute.value as readonly unknown[]) : [];
}

/** What the three layers differ in. */
interface Layer {
  readonly gates: number;
  readonly states: number;
  readonly activations: readonly string[];
  /** Gates whose recurrent bias stays with the recurrent product. */
  apartBias(e: Emitter): boolean;
  step: Step;
}

/** h_t = f(x_t Wᵀ + h_(t-1) Rᵀ + biases), unrolled; clip, sequence lengths, both directions and both layouts included. */
function recurrent(layer: Layer): Decomposition {
  return (e) => {
    const { node } = e;
    const batchFirst = intAttribute(node, "layout", 0) === 1;
    const direction = stringAttribute(node, "direction", "forward");
    const shape = e.type(node.inputs[0]!).shape;
    const [steps, batch] = batchFirst ? [shape[1]!, shape[0]!] : [shape[0]!, shape[1]!];
    const hidden = e.type(node.inputs[2]!).shape[2]!;
    const x = batchFirst ? e.op("Transpose", [node.inputs[0]!], { perm: [1, 0, 2] }) : node.inputs[0]!;
    const directions = direction === "bidirectional" ? [false, true] : [direction === "reverse"];
    const results = directions.map((reverse, d) =>
      oneDirection(e, layer, { x, steps, batch, hidden, d, reverse, batchFirst }),
    );
    const perm = batchFirst ? [1, 0, 2] : undefined;
    const stacked = e.op(
      "Concat",
      results.flatMap(({ outputs }) => outputs),
      { axis: 0 },
    );
    // direction-major rows to [steps, directions, batch, hidden]
    const split = e.op("Reshape", [stacked, ints(e, [directions.length, steps, batch, hidden])]);
    e.give(0, e.op("Transpose", [split], { perm: batchFirst ? [2, 1, 0, 3] : [1, 0, 2, 3] }));
    for (let s = 0; s < layer.states; s++) {
      const last = e.op(
        "Concat",
        results.map(({ final }) => e.op("Unsqueeze", [final[s]!, ints(e, [0])])),
        { axis: 0 },
      );
      if (node.outputs[s + 1]) e.give(s + 1, perm ? e.op("Transpose", [last], { perm }) : last);
    }
    return undefined;
  };
}

interface Direction {
  readonly x: string;
  readonly steps: number;
  readonly batch: number;
  readonly hidden: number;
  readonly d: number;
  readonly reverse: boolean;
  readonly batchFirst: boolean;
}

function oneDirection(e: Emitter, layer: Layer, dir: Direction): { outputs: string[]; final: readonly string[] } {
  const { steps, batch, reverse } = dir;
  const cell = cellOf(e, layer, dir);
  let state = Array.from({ length: layer.states }, (_, s) => initialState(e, s, dir));
  const lengths = e.input(4);
  const outputs: string[] = new Array(steps);
  for (let i = 0; i < steps; i++) {
    const t = reverse ? steps - 1 - i : i;
    const next = layer.step(cell, cell.gates[t]!, state);
    if (lengths) {
      const inside = e.op("Reshape", [
        e.op("Greater", [lengths, e.op("Cast", [e.op("Reshape", [ints(e, [t]), ints(e, [])])], { to: 6 })]),
        ints(e, [batch, 1]),
      ]);
      outputs[t] = e.op("Where", [inside, next[0]!, scalar(e, 0)]);
      state = next.map((value, s) => e.op("Where", [inside, value, state[s]!]));
    } else {
      outputs[t] = next[0]!;
      state = [...next];
    }
  }
  return { outputs, final: state };
}

function initialState(e: Emitter, s: number, { batch, hidden, d, batchFirst }: Direction): string {
  const given = e.input(5 + s);
  if (!given) return e.constant(float32([batch, hidden], new Float32Array(batch * hidden)));
  return row(e, batchFirst ? e.op("Transpose", [given], { perm: [1, 0, 2] }) : given, d);
}

/** Element `d` of the first axis. */
function row(e: Emitter, x: string, d: number): string {
  return e.op("Gather", [x, e.op("Reshape", [ints(e, [d]), ints(e, [])])], { axis: 0 });
}

function cellOf(e: Emitter, layer: Layer, { x, steps, batch, hidden, d }: Direction): Cell {
  const { node } = e;
  const width = layer.gates * hidden;
  const transposed = (i: number): string => e.op("Transpose", [row(e, node.inputs[i]!, d)], { perm: [1, 0] });
  const bias = e.input(3) && e.ops("Split", [row(e, e.input(3)!, d), ints(e, [width, width])], { axis: 0 }, 2);
  const apart = layer.apartBias(e);
  let projected = e.op("MatMul", [x, transposed(1)]);
  if (bias) projected = e.op("Add", [projected, apart ? bias[0]! : e.op("Add", [bias[0]!, bias[1]!])]);
  const parts = e.ops(
    "Split",
    [
      projected,
      ints(
        e,
        Array.from({ length: steps }, () => 1),
      ),
    ],
    { axis: 0 },
    steps,
  );
  const names = listOf(node.attributes.activations).map(String);
  const alphas = listOf(node.attributes.activation_alpha).map(Number);
  const betas = listOf(node.attributes.activation_beta).map(Number);
  const per = layer.activations.length;
  const clip = floatAttribute(node, "clip", 0);
  const peephole = e.input(7);
  return {
    e,
    hidden,
    gates: parts.map((part) => e.op("Reshape", [part, ints(e, [batch, width])])),
    recurrence: transposed(2),
    ...(bias && apart && { recurrentBias: bias[1]! }),
    ...(peephole && { peepholes: row(e, peephole, d) }),
    activate(index, value, clipped = true) {
      const at = d * per + index;
      const x = clip > 0 && clipped ? e.op("Clip", [value, scalar(e, -clip), scalar(e, clip)]) : value;
      return activation(e, names[at] ?? layer.activations[index]!, alphas[at], betas[at], x);
    },
  };
}

function parts(cell: Cell, x: string, count: number): readonly string[] {
  const sizes = Array.from({ length: count }, () => cell.hidden);
  return cell.e.ops("Split", [x, ints(cell.e, sizes)], { axis: -1 }, count);
}

const product = (cell: Cell, h: string): string => cell.e.op("MatMul", [h, cell.recurrence]);
const sum = (cell: Cell, a: string, b: string): string => cell.e.op("Add", [a, b]);
const times = (cell: Cell, a: string, b: string): string => cell.e.op("Mul", [a, b]);

export const rnnDecomposition: Decomposition = recurrent({
  gates: 1,
  states: 1,
  activations: ["Tanh"],
  apartBias: () => false,
  step: (cell, gates, [h]) => [cell.activate(0, sum(cell, gates, product(cell, h!)))],
});

/** Gates in the order z, r, h (ONNX, GRU). */
export const gruDecomposition: Decomposition = recurrent({
  gates: 3,
  states: 1,
  activations: ["Sigmoid", "Tanh"],
  apartBias: (e) => e.input(3) !== undefined,
  step(cell, gates, [h]) {
    const { e, recurrence, recurrentBias } = cell;
    const [xz, xr, xh] = parts(cell, gates, 3) as [string, string, string];
    const linearBeforeReset = intAttribute(e.node, "linear_before_reset", 0) === 1;
    const withBias = (x: string): string => (recurrentBias ? sum(cell, x, recurrentBias) : x);
    const [hz, hr, hh] = parts(cell, withBias(product(cell, h!)), 3) as [string, string, string];
    const z = cell.activate(0, sum(cell, xz, hz));
    const r = cell.activate(0, sum(cell, xr, hr));
    let candidate = times(cell, r, hh);
    if (!linearBeforeReset) {
      const [, , rh] = e.ops("Split", [recurrence, ints(e, [cell.hidden, cell.hidden, cell.hidden])], { axis: 1 }, 3);
      candidate = e.op("MatMul", [times(cell, r, h!), rh!]);
      if (recurrentBias) candidate = sum(cell, candidate, parts(cell, recurrentBias, 3)[2]!);
    }
    const proposed = cell.activate(1, sum(cell, xh, candidate));
    const kept = times(cell, z, h!);
    return [sum(cell, times(cell, e.op("Sub", [scalar(e, 1), z]), proposed), kept)];
  },
});

/** Gates in the order i, o, f, c; peepholes i, o, f (ONNX, LSTM). */
export const lstmDecomposition: Decomposition = recurrent({
  gates: 4,
  states: 2,
  activations: ["Sigmoid", "Tanh", "Tanh"],
  apartBias: () => false,
  step(cell, gates, [h, c]) {
    const { e } = cell;
    const [i, o, f, g] = parts(cell, sum(cell, gates, product(cell, h!)), 4) as [string, string, string, string];
    const [pi, po, pf] = cell.peepholes ? parts(cell, cell.peepholes, 3) : [];
    const peep = (x: string, p: string | undefined, state: string): string =>
      p ? sum(cell, x, times(cell, p, state)) : x;
    const input = cell.activate(0, peep(i, pi, c!));
    const coupled = intAttribute(e.node, "input_forget", 0) === 1;
    const forget = coupled ? e.op("Sub", [scalar(e, 1), input]) : cell.activate(0, peep(f, pf, c!));
    const next = sum(cell, times(cell, forget, c!), times(cell, input, cell.activate(1, g)));
    const output = cell.activate(0, peep(o, po, next));
    // the runtime clips the gates and leaves the cell state alone
    return [times(cell, output, cell.activate(2, next, false)), next];
  },
});
