import { floats } from "../../../graph/graph.ts";
import { float32, type Tensor, toFloat32 } from "../../../tensor/tensor.ts";
import { computed } from "../arrange.ts";
import type { Attributes, KerasTensor } from "../builder.ts";
import { isJson, type Json, settings as settingsOf } from "../settings.ts";
import { activationName, hardSigmoidAttributes } from "./activation.ts";
import { addWeight, expectChannels, type LayerCall, type LayerRule, unsupported, weightsOf } from "./layer.ts";

/** How a kind of cell is laid out. */
interface Cell {
  readonly op: "LSTM" | "GRU" | "RNN";
  /** For each gate of ONNX's order, the place of Keras'. */
  readonly gates: readonly number[];
  /** The settings that name its functions, in ONNX's order. */
  readonly activations: readonly ("activation" | "recurrent_activation")[];
}

const cells: Readonly<Record<string, Cell>> = {
  // Keras: input, forget, cell, output; ONNX: input, output, forget, cell
  LSTM: { op: "LSTM", gates: [0, 3, 1, 2], activations: ["recurrent_activation", "activation", "activation"] },
  // both: update, reset, hidden
  GRU: { op: "GRU", gates: [0, 1, 2], activations: ["recurrent_activation", "activation"] },
  SimpleRNN: { op: "RNN", gates: [0], activations: ["activation"] },
};

/** Keras' function names as ONNX's recurrent operators know them. */
const functions: Readonly<Record<string, string>> = {
  tanh: "Tanh",
  sigmoid: "Sigmoid",
  relu: "Relu",
  linear: "Affine",
  hard_sigmoid: "HardSigmoid",
  softsign: "Softsign",
  softplus: "Softplus",
  elu: "Elu",
};

/** A recurrent layer that runs one way. */
export const recurrent: LayerRule = (c) => {
  const [x, ...states] = c.inputs.concat(statesByName(c)).map(c.b.plain);
  const backwards = c.settings.flag("go_backwards", false);
  const run = runCell(c, c.className, x, [c], [states], backwards ? "reverse" : "forward");
  const sequence = c.settings.flag("return_sequences", false);
  const stateful = c.settings.flag("return_state", false);
  const last = stateful || !sequence ? run.each(run.h) : [];
  let y = sequence ? c.b.op(`${c.name}/Squeeze`, "Squeeze", [run.steps(), c.b.ints([2])]) : last[0]!;
  // Keras leaves the steps in the order in which they were run
  if (sequence && backwards) y = reversed(c, y);
  const shape = sequence ? [x!.shape[0]!, x!.shape[1]!, run.size] : [x!.shape[0]!, run.size];
  const tensor = (value: string): KerasTensor => ({ ...x!, value, shape: [x!.shape[0]!, run.size] });
  const output: KerasTensor = { ...x!, value: y, shape };
  if (!stateful) return output;
  return [output, ...last.map(tensor), ...(run.memory === undefined ? [] : run.each(run.memory).map(tensor))];
};

/** Two runs over the steps, one from each end, joined. */
export const bidirectional: LayerRule = (c) => {
  const [x, ...states] = c.inputs.concat(statesByName(c)).map(c.b.plain);
  const layer = c.settings.object("layer");
  if (!layer || !isJson(layer.config)) return unsupported(c, "its layer can't be read", "The file is damaged");
  const back = c.settings.object("backward_layer");
  const kind = String(layer.class_name);
  const forward = directed(c, layer.config, "forward_layer", "forward_");
  const backward = directed(c, isJson(back?.config) ? back.config : layer.config, "backward_layer", "backward_");
  const half = states.length / 2;
  const run = runCell(c, kind, x, [forward, backward], [states.slice(0, half), states.slice(half)], "bidirectional");
  const mode = c.settings.json.merge_mode === null ? "none" : c.settings.text("merge_mode", "concat");
  const sequence = forward.settings.flag("return_sequences", false);
  const stateful = forward.settings.flag("return_state", false);
  const last = stateful ? run.each(run.h) : [];
  const both = sequence ? run.steps() : c.b.op(`${c.name}/batch_first`, "Transpose", [run.h], { perm: [1, 0, 2] });
  const lead = x!.shape.slice(0, sequence ? 2 : 1);
  const made = (value: string, size: number): KerasTensor => ({ ...x!, value, shape: [...lead, size] });
  const outputs = merged(c, both, mode, sequence ? 2 : 1, run.size).map(([value, size]) => made(value, size));
  if (!stateful) return outputs;
  const state = (value: string): KerasTensor => ({ ...x!, value, shape: [x!.shape[0]!, run.size] });
  const memory = run.memory === undefined ? [] : run.each(run.memory);
  return [...outputs, ...last.flatMap((value, i) => [value, ...memory.slice(i, i + 1)]).map(state)];
};

function merged(c: LayerCall, both: string, mode: string, axis: number, size: number): [value: string, size: number][] {
  const reduce = { sum: "ReduceSum", mul: "ReduceProd", ave: "ReduceMean" }[mode];
  if (reduce) return [[c.b.op(`${c.name}/merge`, reduce, [both, c.b.ints([axis])], { keepdims: 0 }), size]];
  if (mode === "concat") {
    const kept = new Array<number>(axis).fill(0);
    return [[c.b.op(`${c.name}/merge`, "Reshape", [both, c.b.ints([...kept, 2 * size])]), 2 * size]];
  }
  if (mode !== "none") return unsupported(c, `its merge mode '${mode}' is not known`);
  return [0, 1].map((i) => [c.b.op(`${c.name}/Gather`, "Gather", [both, c.b.index(i)], { axis }), size]);
}

/** The settings and weights of one direction, seen as a layer. */
function directed(c: LayerCall, config: Json, attribute: string, prefix: string): LayerCall {
  return { ...c, settings: settingsOf(c.settings.who, config), weights: c.weights.part(attribute, prefix) };
}

function statesByName(c: LayerCall): KerasTensor[] {
  const given = c.named.initial_state;
  return given === undefined || given === null ? [] : ([given].flat(2) as KerasTensor[]);
}

interface Run {
  readonly size: number;
  /** The last outputs, and an LSTM's cell states: [directions, n, size] */
  readonly h: string;
  readonly memory: string | undefined;
  /** Writes all outputs as [n, steps, directions, size]. */
  steps(): string;
  /** Writes the directions of `h` or `memory` apart, each [n, size]. */
  each(value: string): string[];
}

/** Writes ONNX's operator, which wants the steps first. */
function runCell(
  c: LayerCall,
  kind: string,
  x: KerasTensor | undefined,
  directions: readonly LayerCall[],
  states: readonly (readonly KerasTensor[])[],
  direction: "forward" | "reverse" | "bidirectional",
): Run {
  const cell = Object.hasOwn(cells, kind) ? cells[kind] : undefined;
  if (!cell) return unsupported(c, `it runs a layer of class '${kind}'`);
  if (x?.shape.length !== 3) return unsupported(c, "its input is no sequence of vectors", "The file is damaged");
  if (x.masked) return unsupported(c, "its input is masked", "Train it without mask_zero and Masking");
  const parts = directions.map((d) => cellWeights(d, cell, x.shape[2]!));
  const size = parts[0]!.size;
  if (parts.some((part) => part.size !== size)) unsupported(c, "its directions have unlike sizes");
  const weight = (name: string, pick: (part: CellWeights) => Tensor): string =>
    addWeight(c, name, stacked(parts.map(pick)));
  const initial = states.flat().length > 0 ? initialStates(c, cell, states) : [];
  const inputs = [
    c.b.op(`${c.name}/steps_first`, "Transpose", [x.value], { perm: [1, 0, 2] }),
    weight("kernel", ({ kernel }) => kernel),
    weight("recurrent_kernel", ({ recurrent }) => recurrent),
    weight("bias", ({ bias }) => bias),
    ...(initial.length > 0 ? ["", ...initial] : []),
  ];
  const attributes: Attributes = {
    hidden_size: size,
    direction,
    ...functionAttributes(c, directions, cell),
    ...(cell.op === "GRU" && { linear_before_reset: parts[0]!.resetAfter ? 1 : 0 }),
  };
  const [y, h, memory] = c.b.ops(c.name, cell.op, inputs, attributes, cell.op === "LSTM" ? 3 : 2);
  return {
    size,
    h: h!,
    memory,
    steps: () => c.b.op(`${c.name}/batch_first`, "Transpose", [y!], { perm: [2, 0, 1, 3] }),
    each: (value) =>
      directions.length === 1
        ? [c.b.op(`${c.name}/last`, "Squeeze", [value, c.b.ints([0])])]
        : directions.map((_, i) => c.b.op(`${c.name}/last`, "Gather", [value, c.b.index(i)], { axis: 0 })),
  };
}

interface CellWeights {
  readonly size: number;
  /** [1, gates * size, in] */
  readonly kernel: Tensor;
  /** [1, gates * size, size] */
  readonly recurrent: Tensor;
  /** [1, 2 * gates * size]: of the inputs, then of the states */
  readonly bias: Tensor;
  readonly resetAfter: boolean;
}

function cellWeights(d: LayerCall, { op, gates }: Cell, features: number | null): CellWeights {
  const resetAfter = op === "GRU" && d.settings.flag("reset_after", false);
  const source = { ...d, weights: d.weights.part("cell", "") };
  const names = ["kernel", "recurrent_kernel", d.settings.flag("use_bias", true) && "bias"] as const;
  const [kernel, recurrent, bias] = weightsOf(source, names, [2, 2, resetAfter ? 2 : 1]);
  const size = recurrent!.shape[0]!;
  const width = gates.length * size;
  expectChannels(d, kernel!.shape[0]!, features);
  const fits = kernel!.shape[1] === width && recurrent!.shape[1] === width && (!bias || bias.size % width === 0);
  if (!fits) unsupported(d, "its weights do not fit together", "The file is damaged");
  return {
    size,
    resetAfter,
    kernel: computed([1, width, kernel!.shape[0]!], () => gateRows(toFloat32(kernel!), gates, size)),
    recurrent: computed([1, width, size], () => gateRows(toFloat32(recurrent!), gates, size)),
    bias: bias
      ? computed([1, 2 * width], () => gateBiases(toFloat32(bias), gates, size))
      : float32([1, 2 * width], new Float32Array(2 * width)),
  };
}

/** [in, gates * size] as [gates * size, in], the gates in ONNX's order. */
function gateRows(x: Float32Array, gates: readonly number[], size: number): Float32Array {
  const width = gates.length * size;
  const rows = x.length / width;
  const out = new Float32Array(x.length);
  for (const [to, from] of gates.entries()) {
    for (let unit = 0; unit < size; unit++) {
      const at = (to * size + unit) * rows;
      for (let row = 0; row < rows; row++) out[at + row] = x[row * width + from * size + unit]!;
    }
  }
  return out;
}

/** One row of biases, or two (of the inputs, of the states), as two rows. */
function gateBiases(x: Float32Array, gates: readonly number[], size: number): Float32Array {
  const width = gates.length * size;
  const out = new Float32Array(2 * width);
  for (let row = 0; row * width < x.length; row++) {
    for (const [to, from] of gates.entries()) {
      const start = row * width + from * size;
      out.set(x.subarray(start, start + size), row * width + to * size);
    }
  }
  return out;
}

/** Tensors of one direction each as one. */
function stacked(parts: readonly Tensor[]): Tensor {
  const [first, second] = parts as [Tensor, Tensor | undefined];
  if (!second) return first;
  return computed([2, ...first.shape.slice(1)], () => {
    const out = new Float32Array(2 * first.size);
    out.set(toFloat32(first));
    out.set(toFloat32(second), first.size);
    return out;
  });
}

/** The states to begin with, [directions, n, size]. */
function initialStates(c: LayerCall, cell: Cell, states: readonly (readonly KerasTensor[])[]): string[] {
  const count = cell.op === "LSTM" ? 2 : 1;
  if (states.some(({ length }) => length !== count)) unsupported(c, "it is called with a wrong number of states");
  return Array.from({ length: count }, (_, i) => {
    const each = states.map((of) => c.b.op(`${c.name}/state`, "Unsqueeze", [of[i]!.value, c.b.ints([0])]));
    return each.length === 1 ? each[0]! : c.b.op(`${c.name}/states`, "Concat", each, { axis: 0 });
  });
}

function functionAttributes(c: LayerCall, directions: readonly LayerCall[], cell: Cell): Attributes {
  const names = directions.flatMap((d) =>
    cell.activations.map((setting) => activationName(d, setting, setting === "activation" ? "tanh" : "sigmoid") ?? ""),
  );
  const onnx = names.map((name) => functions[name] ?? unsupported(c, `its activation '${name}' can't be used inside`));
  const { alpha, beta } = hardSigmoidAttributes(c.keras);
  // a value for each function that takes one, in order
  const alphas = onnx.flatMap((name) =>
    name === "HardSigmoid" ? [alpha] : name === "Affine" || name === "Elu" ? [1] : [],
  );
  const betas = onnx.flatMap((name) => (name === "HardSigmoid" ? [beta] : name === "Affine" ? [0] : []));
  return {
    activations: onnx,
    ...(alphas.length > 0 && { activation_alpha: floats(alphas) }),
    ...(betas.length > 0 && { activation_beta: floats(betas) }),
  };
}

function reversed(c: LayerCall, y: string): string {
  const all = [c.b.ints([-1]), c.b.ints([Number.MIN_SAFE_INTEGER]), c.b.ints([1]), c.b.ints([-1])];
  return c.b.op(`${c.name}/reversed`, "Slice", [y, ...all]);
}
