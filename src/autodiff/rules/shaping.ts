import { intAttribute, intsAttribute, stringAttribute } from "../../graph/graph.ts";
import { float32, sizeOf, toNumbers } from "../../tensor/tensor.ts";
import type { Backward, Rule } from "../rule.ts";
import { ints, scalar } from "../writer.ts";
import { dyOf, positiveAxis, reshaped, shapeIn, shapeOut, sumOver, sumTo } from "./helpers.ts";

/** Reshape, Flatten, Squeeze, Unsqueeze: the elements stay, so dy takes the input's shape. */
export const reshapeRule: Rule = (g) => [reshaped(g, dyOf(g), shapeOut(g), shapeIn(g, 0))];

export const transposeRule: Rule = (g) => {
  const rank = shapeIn(g, 0).length;
  const perm = intsAttribute(g.node, "perm") ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  return [g.op("Transpose", [dyOf(g)], { perm: perm.map((_, i) => perm.indexOf(i)) })];
};

export const expandRule: Rule = (g) => [sumTo(g, dyOf(g), shapeOut(g), shapeIn(g, 0))];

/** Each axis splits into (repeats, size); the repeats are summed. */
export const tileRule: Rule = (g) => {
  const from = shapeIn(g, 0);
  const split = shapeOut(g).flatMap((dim, axis) => [from[axis] === 0 ? 0 : dim / from[axis]!, from[axis]!]);
  const axes = from.map((_, axis) => 2 * axis);
  return [sumOver(g, reshaped(g, dyOf(g), shapeOut(g), split), axes, false)];
};

export const concatRule: Rule = (g) => {
  const axis = positiveAxis(intAttribute(g.node, "axis", 0), shapeOut(g).length);
  const sizes = g.node.inputs.map((_, i) => shapeIn(g, i)[axis]!);
  return g.ops("Split", [dyOf(g), ints(g, sizes)], { axis }, sizes.length);
};

export const splitRule: Rule = (g) => {
  const axis = positiveAxis(intAttribute(g.node, "axis", 0), shapeIn(g, 0).length);
  const parts = g.node.outputs.map((_, i) => g.dys[i] ?? zeros(g, shapeOut(g, i)));
  return [parts.length === 1 ? parts[0] : g.op("Concat", parts, { axis })];
};

/** A constant of zeros of a shape, made when the graph runs. */
export function zeros(g: Backward, shape: readonly number[]): string {
  return g.op("ConstantOfShape", [ints(g, shape)], { value: float32([1], [0]) });
}

/** Forward slices with known bounds put zeros around dy, and between where they step; others scatter it. */
export const sliceRule: Rule = (g) => {
  const shape = shapeIn(g, 0);
  const [starts, ends, axesIn, stepsIn] = [1, 2, 3, 4].map((i) => constantInts(g, i));
  if (!starts || !ends) return [scatterSlice(g)];
  const axes = (axesIn ?? starts.map((_, i) => i)).map((axis) => positiveAxis(axis, shape.length));
  const steps = shape.map((_, axis) => stepsIn?.[axes.indexOf(axis)] ?? 1);
  if (steps.some((step) => step < 1)) return [scatterSlice(g)];
  const before = shape.map(() => 0);
  for (const [i, axis] of axes.entries()) {
    const start = starts[i]!;
    before[axis] = Math.min(Math.max(start < 0 ? start + shape[axis]! : start, 0), shape[axis]!);
  }
  const last = shape.length - 1;
  // a product with a 0-1 matrix moves single elements apart much faster than padding does
  const apart = steps[last]! > 1 && shape[last]! <= 256;
  const dy = zerosAfter(g, dyOf(g), shapeOut(g), apart ? steps.with(last, 1) : steps);
  const spread = apart
    ? g.op("MatMul", [dy, placing(g, shapeOut(g)[last]!, shape[last]!, before[last]!, steps[last]!)])
    : dy;
  // the zeros behind the last element may reach past the end
  const made = shapeOut(g).map((dim, axis) => dim * steps[axis]!);
  if (apart) {
    made[last] = shape[last]!;
    before[last] = 0;
  }
  const after = shape.map((dim, axis) => dim - before[axis]! - made[axis]!);
  if ([...before, ...after].every((n) => n === 0)) return [spread];
  return [g.op("Pad", [spread, ints(g, [...before, ...after]), scalar(g, 0)])];
};

/** The matrix that puts element i of a row at start + i step of a longer one. */
function placing(g: Backward, from: number, to: number, start: number, step: number): string {
  const matrix = new Float32Array(from * to);
  for (let i = 0; i < from; i++) matrix[i * to + start + i * step] = 1;
  return g.constant(float32([from, to], matrix));
}

/** step - 1 zeros behind each element of an axis. */
function zerosAfter(g: Backward, x: string, shape: readonly number[], steps: readonly number[]): string {
  if (steps.every((step) => step === 1)) return x;
  const split = shape.flatMap((dim, axis) => (steps[axis]! > 1 ? [dim, 1] : [dim]));
  const ends = shape.flatMap((_, axis) => (steps[axis]! > 1 ? [0, steps[axis]! - 1] : [0]));
  const pads = [...split.map(() => 0), ...ends];
  const wide = g.op("Pad", [reshaped(g, x, shape, split), ints(g, pads), scalar(g, 0)]);
  const whole = shape.map((dim, axis) => dim * steps[axis]!);
  return g.op("Reshape", [wide, ints(g, whole)]);
}

function constantInts(g: Backward, i: number): number[] | undefined {
  const value = g.constantInput(i);
  return value && toNumbers(value);
}

/** Where each element came from is found by slicing the element numbers the same way. */
function scatterSlice(g: Backward): string {
  const shape = shapeIn(g, 0);
  const numbers = reshaped(g, range(g, sizeOf(shape)), [sizeOf(shape)], shape);
  const origin = g.op("Slice", [numbers, ...g.node.inputs.slice(1)]);
  const flat = (x: string): string => reshaped(g, x, shapeOut(g), [sizeOf(shapeOut(g))]);
  const sum = g.op("ScatterElements", [zeros(g, [sizeOf(shape)]), flat(origin), flat(dyOf(g))], { axis: 0 });
  return reshaped(g, sum, [sizeOf(shape)], shape);
}

/** 0, 1, ..., n - 1 as int64. */
function range(g: Backward, n: number): string {
  const at = (value: number): string => reshaped(g, ints(g, [value]), [1], []);
  return g.op("Range", [at(0), at(n), at(1)]);
}

/** Constant padding is cut off; reflected and repeated padding adds up where it came from. */
export const padRule: Rule = (g) => {
  const shape = shapeIn(g, 0);
  const pads = constantInts(g, 1);
  const mode = stringAttribute(g.node, "mode", "constant");
  const axes = constantInts(g, 3)?.map((axis) => positiveAxis(axis, shape.length));
  if (mode !== "constant" || !pads) return [scatterPad(g)];
  const all = shape.map((_, i) => i);
  const used = axes ?? all;
  const starts = all.map((axis) => (used.includes(axis) ? pads[used.indexOf(axis)]! : 0));
  if (starts.every((start, i) => start >= 0 && start + shape[i]! <= shapeOut(g)[i]!)) {
    const ends = starts.map((start, i) => start + shape[i]!);
    return [g.op("Slice", [dyOf(g), ints(g, starts), ints(g, ends), ints(g, all)])];
  }
  return [scatterPad(g)];
};

function scatterPad(g: Backward): string {
  const shape = shapeIn(g, 0);
  const size = sizeOf(shape);
  const numbers = reshaped(g, range(g, size), [size], shape);
  const mode = stringAttribute(g.node, "mode", "constant");
  // elements that are pure padding point at one spare place behind the last
  const spare = reshaped(g, ints(g, [size]), [1], []);
  const inputs = [numbers, g.node.inputs[1]!, mode === "constant" ? spare : "", g.node.inputs[3] ?? ""];
  while (inputs.at(-1) === "") inputs.pop();
  const origin = g.op("Pad", inputs, { mode });
  const flat = (x: string): string => reshaped(g, x, shapeOut(g), [sizeOf(shapeOut(g))]);
  const attributes = { axis: 0, reduction: "add" };
  const sum = g.op("ScatterElements", [zeros(g, [size + 1]), flat(origin), flat(dyOf(g))], attributes);
  const kept = g.op("Slice", [sum, ints(g, [0]), ints(g, [size]), ints(g, [0])]);
  return reshaped(g, kept, [size], shape);
}

/** Rows that were looked up get their gradients added up. */
export const gatherRule: Rule = (g) => {
  const shape = shapeIn(g, 0);
  const axis = positiveAxis(intAttribute(g.node, "axis", 0), shape.length);
  const indices = g.type(g.node.inputs[1]!).shape;
  const [outer, inner] = [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis + 1))];
  const picked = sizeOf(indices);
  const known = constantInts(g, 1);
  if (known?.length === 1) {
    const at = known[0]! < 0 ? known[0]! + shape[axis]! : known[0]!;
    const one = reshaped(g, dyOf(g), shapeOut(g), [...shape.slice(0, axis), 1, ...shape.slice(axis + 1)]);
    const before = shape.map((_, i) => (i === axis ? at : 0));
    const after = shape.map((dim, i) => (i === axis ? dim - 1 - at : 0));
    return [g.op("Pad", [one, ints(g, [...before, ...after]), scalar(g, 0)])];
  }
  const rows = g.op("Reshape", [dyOf(g), ints(g, [outer, picked, inner])]);
  const index = g.op("Reshape", [positiveIndices(g, shape[axis]!), ints(g, [1, picked, 1])]);
  const sum = addedAt(g, [outer, shape[axis]!, inner], index, rows, [outer, picked, inner]);
  return [reshaped(g, sum, [outer, shape[axis]!, inner], shape)];
};

/**
 * Zeros of a shape [outer, size, inner] with rows added to them, by an index that spreads over these. On CPUs the runtime's
 * ScatterElements adds in order; its ScatterND adds in several threads at once, which lose each other's sums.
 */
function addedAt(g: Backward, table: readonly number[], index: string, rows: string, shape: readonly number[]): string {
  const places = g.op("Expand", [index, ints(g, shape)]);
  return g.op("ScatterElements", [zeros(g, table), places, rows], { axis: 1, reduction: "add" });
}

/** Indices counted from the front: negative ones have the axis's size added. */
function positiveIndices(g: Backward, size: number): string {
  const known = g.constantInput(1);
  const indices = g.op("Cast", [g.node.inputs[1]!], { to: 7 });
  if (known && toNumbers(known).every((index) => index >= 0)) return indices;
  const negative = g.op("Less", [indices, reshaped(g, ints(g, [0]), [1], [])]);
  return g.op("Where", [negative, g.op("Add", [indices, reshaped(g, ints(g, [size]), [1], [])]), indices]);
}

export const gatherElementsRule: Rule = (g) => {
  const axis = positiveAxis(intAttribute(g.node, "axis", 0), shapeIn(g, 0).length);
  const attributes = { axis, reduction: "add" };
  return [g.op("ScatterElements", [zeros(g, shapeIn(g, 0)), g.node.inputs[1]!, dyOf(g)], attributes)];
};

export const gatherNdRule: Rule = (g) => {
  const batch = intAttribute(g.node, "batch_dims", 0);
  const shape = shapeIn(g, 0);
  const indices = g.type(g.node.inputs[1]!).shape;
  const index = batch === 0 ? g.node.inputs[1]! : batchedIndex(g, shape.slice(0, batch), indices);
  const depth = batch + indices.at(-1)!;
  const [picked, size, inner] = [
    sizeOf(indices.slice(0, -1)),
    sizeOf(shape.slice(0, depth)),
    sizeOf(shape.slice(depth)),
  ];
  const flat = g.op("Reshape", [flatIndices(g, index, shape.slice(0, depth)), ints(g, [1, picked, 1])]);
  const rows = g.op("Reshape", [dyOf(g), ints(g, [1, picked, inner])]);
  const sum = addedAt(g, [1, size, inner], flat, rows, [1, picked, inner]);
  return [reshaped(g, sum, [1, size, inner], shape)];
};

/** Places in a flattened array of coordinates [..., axes] in one of some shape; negative ones count from the end. */
function flatIndices(g: Backward, coordinates: string, shape: readonly number[]): string {
  const index = g.op("Cast", [coordinates], { to: 7 });
  const fromEnd = g.op("Where", [g.op("Less", [index, ints(g, [0])]), ints(g, shape), ints(g, [0])]);
  const strides = shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  const steps = g.op("Mul", [g.op("Add", [index, fromEnd]), ints(g, strides)]);
  return g.op("ReduceSum", [steps, ints(g, [-1])], { keepdims: 0 });
}

/** Indices with the batch coordinates put in front. */
function batchedIndex(g: Backward, batch: readonly number[], indices: readonly number[]): string {
  const lead = indices.slice(0, -1);
  const coordinates = batch.map((dim, axis) => {
    const spread = g.op("Reshape", [range(g, dim), ints(g, [...lead.map((_, i) => (i === axis ? dim : 1)), 1])]);
    return g.op("Expand", [spread, ints(g, [...lead, 1])]);
  });
  return g.op("Concat", [...coordinates, g.op("Cast", [g.node.inputs[1]!], { to: 7 })], { axis: -1 });
}

/** Replaced elements pass nothing back to the data, and their gradients to the updates. */
export const scatterElementsRule: Rule = (g) => {
  const reduction = stringAttribute(g.node, "reduction", "none");
  const axis = positiveAxis(intAttribute(g.node, "axis", 0), shapeIn(g, 0).length);
  const [indices, dy] = [g.node.inputs[1]!, dyOf(g)];
  const updates = (): string => g.op("GatherElements", [dy, indices], { axis });
  const kept = (): string => {
    const holes = g.op("ScatterElements", [dy, indices, zeros(g, shapeIn(g, 2))], { axis });
    return reduction === "none" ? holes : dy;
  };
  return [g.wants(0) ? kept() : undefined, undefined, g.wants(2) ? updates() : undefined];
};

export const scatterNdRule: Rule = (g) => {
  const [indices, dy] = [g.node.inputs[1]!, dyOf(g)];
  const adds = stringAttribute(g.node, "reduction", "none") === "add";
  const kept = (): string => (adds ? dy : g.op("ScatterND", [dy, indices, zeros(g, shapeIn(g, 2))]));
  return [g.wants(0) ? kept() : undefined, undefined, g.wants(2) ? g.op("GatherND", [dy, indices]) : undefined];
};

export const depthToSpaceRule: Rule = (g) => {
  const size = intAttribute(g.node, "blocksize", 1);
  if (stringAttribute(g.node, "mode", "DCR") === "DCR") {
    return [g.op("SpaceToDepth", [dyOf(g)], { blocksize: size })];
  }
  const [n, c, h, w] = shapeIn(g, 0) as [number, number, number, number];
  const split = g.op("Reshape", [dyOf(g), ints(g, [n, c / size ** 2, h, size, w, size])]);
  const moved = g.op("Transpose", [split], { perm: [0, 1, 3, 5, 2, 4] });
  return [g.op("Reshape", [moved, ints(g, [n, c, h, w])])];
};

export const spaceToDepthRule: Rule = (g) => [
  g.op("DepthToSpace", [dyOf(g)], { blocksize: intAttribute(g.node, "blocksize", 1) }),
];

/** The k largest were picked by the indices it gives. */
export const topKRule: Rule = (g) => {
  if (g.dys[0] === undefined) return [];
  const axis = positiveAxis(intAttribute(g.node, "axis", -1), shapeIn(g, 0).length);
  return [g.op("ScatterElements", [zeros(g, shapeIn(g, 0)), g.node.outputs[1]!, g.dys[0]], { axis, reduction: "add" })];
};

export const cumSumRule: Rule = (g) => {
  const attributes = {
    exclusive: intAttribute(g.node, "exclusive", 0),
    reverse: 1 - intAttribute(g.node, "reverse", 0),
  };
  return [g.op("CumSum", [dyOf(g), g.node.inputs[1]!], attributes)];
};

export const triluRule: Rule = (g) => [
  g.op("Trilu", [dyOf(g), ...g.node.inputs.slice(1)], { upper: intAttribute(g.node, "upper", 1) }),
];

/** Reversing a sequence twice restores it. */
export const reverseSequenceRule: Rule = (g) => [
  g.op("ReverseSequence", [dyOf(g), g.node.inputs[1]!], {
    batch_axis: intAttribute(g.node, "batch_axis", 1),
    time_axis: intAttribute(g.node, "time_axis", 0),
  }),
];
