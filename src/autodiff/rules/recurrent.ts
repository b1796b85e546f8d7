import { fail } from "../../errors.ts";
import { floatAttribute, intAttribute, type Node, stringAttribute } from "../../graph/graph.ts";
import { float32 } from "../../tensor/tensor.ts";
import type { Backward, Rule } from "../rule.ts";
import { ints, scalar } from "../writer.ts";
import { add, mul, shapeIn, sub, sumOver } from "./helpers.ts";

/**
 * Whether a recurrent layer has a rule of its own: LSTM and GRU with their usual activations, over whole sequences. Others
 * are differentiated through their decomposition.
 */
export function isUsualRecurrence(node: Node): boolean {
  if (node.domain !== "" || (node.op !== "LSTM" && node.op !== "GRU")) return false;
  const usual = node.op === "LSTM" ? ["sigmoid", "tanh", "tanh"] : ["sigmoid", "tanh"];
  const named = node.attributes.activations?.value;
  const activations = Array.isArray(named) ? named.map((name) => `${name}`.toLowerCase()) : usual;
  return (
    activations.every((name, i) => name === usual[i % usual.length]) &&
    floatAttribute(node, "clip", 0) === 0 &&
    intAttribute(node, "layout", 0) === 0 &&
    intAttribute(node, "input_forget", 0) === 0 &&
    !node.inputs[4] &&
    !node.inputs[7] &&
    Boolean(node.outputs[0])
  );
}

/** One direction of a layer, with what its forward pass left behind: all states h. Rows are [steps, batch, ...]. */
interface Layer {
  readonly g: Backward;
  readonly steps: number;
  readonly batch: number;
  readonly hidden: number;
  readonly reverse: boolean;
  /** Weights [gates * hidden, inputs] and [gates * hidden, hidden]. */
  readonly w: string;
  readonly r: string;
  /** Input and recurrent biases [gates * hidden]. */
  readonly biases?: readonly [string, string];
  /** State before each step. */
  readonly before: string;
  /** Gradients of the outputs: of all states, and of the last ones. */
  readonly dy?: string;
  readonly dLast: readonly (string | undefined)[];
  /** First states other than h. */
  readonly c0?: string;
}

/** What goes back: gradients of the gates as fed by the input and by the state, and of the first states. */
interface Back {
  readonly dx: string;
  readonly dh: string;
  /** What multiplied the recurrent weights, in parts of the gates: all of them met `before` if absent. */
  readonly recurrentGradient?: string;
  readonly first: readonly string[];
}

/**
 * Backward pass of a recurrent layer whose forward pass is the runtime's own: gates are computed once more for all steps
 * together out of the states that the layer gave, so that only what depends on the step behind is written step by step.
 */
function recurrentRule(gates: number, back: (layer: Layer) => Back): Rule {
  return (g) => {
    if (!isUsualRecurrence(g.node)) fail(g.node.name || g.node.op, "is trained through its decomposition");
    const [steps, batch, inputs] = shapeIn(g, 0) as [number, number, number];
    const hidden = shapeIn(g, 2)[2]!;
    const width = gates * hidden;
    const direction = stringAttribute(g.node, "direction", "forward");
    const directions = direction === "bidirectional" ? [false, true] : [direction === "reverse"];
    const flat = (x: string, size: number): string => g.op("Reshape", [x, ints(g, [steps * batch, size])]);
    const found = directions.map((reverse, d) => {
      const layer = layerOf(g, { d, reverse, gates, steps, batch, hidden });
      const { dx, dh, recurrentGradient, first } = back(layer);
      const [fx, fh] = [flat(dx, width), flat(dh, width)];
      const against = (rows: string, x: string, size: number): string =>
        g.op("Gemm", [rows, flat(x, size)], { transA: 1 });
      return {
        x: g.wants(0) ? g.op("MatMul", [dx, layer.w]) : undefined,
        w: g.wants(1) ? against(fx, g.node.inputs[0]!, inputs) : undefined,
        r: g.wants(2) ? (recurrentGradient ?? against(fh, layer.before, hidden)) : undefined,
        b: g.wants(3)
          ? g.op("Concat", [sumOver(g, fx, [0], false), sumOver(g, fh, [0], false)], { axis: 0 })
          : undefined,
        first,
      };
    });
    const stacked = (parts: readonly (string | undefined)[], shape: readonly number[]): string | undefined => {
      if (parts[0] === undefined) return undefined;
      const joined = parts.length === 1 ? parts[0] : g.op("Concat", parts as string[], { axis: 0 });
      return g.op("Reshape", [joined, ints(g, [directions.length, ...shape])]);
    };
    const xs = found.flatMap(({ x }) => (x ? [x] : []));
    const firsts = [5, 6].map((i, s) =>
      g.wants(i)
        ? stacked(
            found.map(({ first }) => first[s]),
            [batch, hidden],
          )
        : undefined,
    );
    return [
      xs.length > 1 ? add(g, xs[0]!, xs[1]!) : xs[0],
      stacked(
        found.map(({ w }) => w),
        [width, inputs],
      ),
      stacked(
        found.map(({ r }) => r),
        [width, hidden],
      ),
      stacked(
        found.map(({ b }) => b),
        [2 * width],
      ),
      undefined,
      ...firsts,
    ];
  };
}

interface Place {
  readonly d: number;
  readonly reverse: boolean;
  readonly gates: number;
  readonly steps: number;
  readonly batch: number;
  readonly hidden: number;
}

function layerOf(g: Backward, { d, reverse, gates, steps, batch, hidden }: Place): Layer {
  const { node } = g;
  const index = g.op("Reshape", [ints(g, [d]), ints(g, [])]);
  const chosen = (x: string, axis: number): string => g.op("Gather", [x, index], { axis });
  const first = (i: number): string =>
    node.inputs[i]
      ? g.op("Reshape", [chosen(node.inputs[i], 0), ints(g, [1, batch, hidden])])
      : g.constant(float32([1, batch, hidden], new Float32Array(batch * hidden)));
  const states = chosen(node.outputs[0]!, 1);
  const bias = node.inputs[3]
    ? g.ops("Split", [chosen(node.inputs[3], 0), ints(g, [gates * hidden, gates * hidden])], { axis: 0 }, 2)
    : undefined;
  const dy = g.dys[0];
  const last = (i: number): string | undefined =>
    g.dys[i] && g.op("Reshape", [chosen(g.dys[i], 0), ints(g, [1, batch, hidden])]);
  return {
    g,
    steps,
    batch,
    hidden,
    reverse,
    w: chosen(node.inputs[1]!, 0),
    r: chosen(node.inputs[2]!, 0),
    ...(bias && { biases: [bias[0]!, bias[1]!] as const }),
    before: shifted(g, states, first(5), steps, reverse),
    ...(dy && { dy: chosen(dy, 1) }),
    dLast: [last(1), last(2)],
    ...(node.op === "LSTM" && { c0: first(6) }),
  };
}

/** The state before each step, out of those behind each step and the first one. */
function shifted(g: Backward, states: string, first: string, steps: number, reverse: boolean): string {
  if (steps === 1) return first;
  const [from, to] = reverse ? [1, steps] : [0, steps - 1];
  const rest = g.op("Slice", [states, ints(g, [from]), ints(g, [to]), ints(g, [0])]);
  return g.op("Concat", reverse ? [rest, first] : [first, rest], { axis: 0 });
}

/** Rows [steps, batch, n] step by step, in the order in which the layer ran. */
function eachStep({ g, steps, reverse }: Layer, x: string): readonly string[] {
  if (steps === 1) return [x];
  const parts = g.ops("Split", [x, ints(g, new Array<number>(steps).fill(1))], { axis: 0 }, steps);
  return reverse ? parts.toReversed() : parts;
}

/** Steps in the order in which the layer ran, as rows again. */
function joined({ g, reverse }: Layer, parts: readonly string[]): string {
  if (parts.length === 1) return parts[0]!;
  return g.op("Concat", reverse ? parts.toReversed() : [...parts], { axis: 0 });
}

const side = (g: Backward, parts: readonly string[]): string => g.op("Concat", [...parts], { axis: -1 });

function slices({ g, hidden }: Layer, x: string, count: number): readonly string[] {
  return g.ops("Split", [x, ints(g, new Array<number>(count).fill(hidden))], { axis: -1 }, count);
}

/** x Wᵀ + b. */
function product(g: Backward, x: string, w: string, bias?: string): string {
  const y = g.op("MatMul", [x, g.op("Transpose", [w], { perm: [1, 0] })]);
  return bias ? add(g, y, bias) : y;
}

/** s (1 - s), the slope of a sigmoid. */
const slope = (g: Backward, s: string): string => mul(g, s, sub(g, scalar(g, 1), s));
/** 1 - t², the slope of a tanh. */
const tanhSlope = (g: Backward, t: string): string => sub(g, scalar(g, 1), mul(g, t, t));

function sumOf(g: Backward, parts: readonly (string | undefined)[]): string | undefined {
  const there = parts.filter((part) => part !== undefined);
  return there.length > 1 ? there.reduce((a, b) => add(g, a, b)) : there[0];
}

function zeros({ g, batch, hidden }: Layer): string {
  return g.constant(float32([1, batch, hidden], new Float32Array(batch * hidden)));
}

/**
 * Gates z, r, h: h' = (1 - z) n + z h, n = tanh(x + r (h R + b)), or tanh(x + (r h) R + b) where the reset comes first
 * (Cho et al. 2014). Every gate's gradient is dh' times a factor that all steps have at once, but for the reset's in the
 * second form.
 */
export const gruRule: Rule = recurrentRule(3, (layer) => {
  const { g, before, r: weights, biases, hidden, dy, dLast } = layer;
  const resetLast = intAttribute(g.node, "linear_before_reset", 0) === 1;
  const [wz, wr, wn] = g.ops("Split", [weights, ints(g, [hidden, hidden, hidden])], { axis: 0 }, 3) as [
    string,
    string,
    string,
  ];
  const [xz, xr, xn] = slices(layer, product(g, g.node.inputs[0]!, layer.w, biases?.[0]), 3) as [
    string,
    string,
    string,
  ];
  const [hz, hr, hn] = slices(layer, product(g, before, weights, biases?.[1]), 3) as [string, string, string];
  const z = g.op("Sigmoid", [add(g, xz, hz)]);
  const r = g.op("Sigmoid", [add(g, xr, hr)]);
  const reset = mul(g, r, before);
  let inner = mul(g, r, hn);
  if (!resetLast) {
    const bias = biases && g.op("Slice", [biases[1], ints(g, [2 * hidden]), ints(g, [3 * hidden]), ints(g, [0])]);
    inner = product(g, reset, wn, bias);
  }
  const n = g.op("Tanh", [add(g, xn, inner)]);
  const toZ = mul(g, sub(g, before, n), slope(g, z));
  const toN = mul(g, sub(g, scalar(g, 1), z), tanhSlope(g, n));
  const toR = resetLast ? mul(g, mul(g, toN, hn), slope(g, r)) : mul(g, before, slope(g, r));
  const through = resetLast ? side(g, [toZ, toR, mul(g, toN, r)]) : undefined;

  const at = Object.fromEntries(
    Object.entries({ dy, z, through, ...(resetLast ? {} : { toZ, toN, toR, r }) }).map(([name, x]) => [
      name,
      x === undefined ? [] : eachStep(layer, x),
    ]),
  ) as Record<string, readonly string[]>;
  const pair = resetLast ? undefined : g.op("Concat", [wz, wr], { axis: 0 });
  let carry = dLast[0];
  const dhs = new Array<string>(layer.steps);
  for (let t = layer.steps - 1; t >= 0; t--) {
    const dh = sumOf(g, [at.dy![t], carry]) ?? zeros(layer);
    dhs[t] = dh;
    const kept = mul(g, dh, at.z![t]!);
    if (resetLast) {
      carry = add(g, kept, g.op("MatMul", [mul(g, side(g, [dh, dh, dh]), at.through![t]!), weights]));
      continue;
    }
    const dReset = g.op("MatMul", [mul(g, dh, at.toN![t]!), wn]);
    const gated = side(g, [mul(g, dh, at.toZ![t]!), mul(g, dReset, at.toR![t]!)]);
    carry = g.op("Sum", [kept, mul(g, dReset, at.r![t]!), g.op("MatMul", [gated, pair!])]);
  }
  const dh = joined(layer, dhs);
  const dn = mul(g, dh, toN);
  const dz = mul(g, dh, toZ);
  if (resetLast) {
    const dr = mul(g, dh, toR);
    return { dx: side(g, [dz, dr, dn]), dh: side(g, [dz, dr, mul(g, dn, r)]), first: [carry!] };
  }
  const dr = mul(g, g.op("MatMul", [dn, wn]), toR);
  const rows = (x: string): string => g.op("Reshape", [x, ints(g, [layer.steps * layer.batch, -1])]);
  const against = (x: string, y: string): string => g.op("Gemm", [rows(x), rows(y)], { transA: 1 });
  const dx = side(g, [dz, dr, dn]);
  const recurrentGradient = g.op("Concat", [against(side(g, [dz, dr]), before), against(dn, reset)], { axis: 0 });
  return { dx, dh: dx, recurrentGradient, first: [carry!] };
});

/** Gates i, o, f, g: c' = f c + i g, h' = o tanh(c') (Hochreiter and Schmidhuber 1997, with forget gates). */
export const lstmRule: Rule = recurrentRule(4, (layer) => {
  const { g, before, r: weights, biases, dy, dLast, c0 } = layer;
  const bias = biases && add(g, biases[0], biases[1]);
  const fed = add(g, product(g, g.node.inputs[0]!, layer.w, bias), product(g, before, weights));
  const [pi, po, pf, pg] = slices(layer, fed, 4) as [string, string, string, string];
  const [i, o, f] = [pi, po, pf].map((x) => g.op("Sigmoid", [x])) as [string, string, string];
  const candidate = g.op("Tanh", [pg]);
  const forgets = eachStep(layer, f);
  const news = eachStep(layer, mul(g, i, candidate));
  const cells = [c0!];
  for (const [t, forget] of forgets.entries()) cells.push(add(g, mul(g, forget, cells[t]!), news[t]!));
  const cell = g.op("Tanh", [joined(layer, cells.slice(1))]);
  const toCell = eachStep(layer, mul(g, o, tanhSlope(g, cell)));
  const factors = eachStep(
    layer,
    side(g, [
      mul(g, candidate, slope(g, i)),
      mul(g, cell, slope(g, o)),
      mul(g, joined(layer, cells.slice(0, -1)), slope(g, f)),
      mul(g, i, tanhSlope(g, candidate)),
    ]),
  );
  const dys = dy ? eachStep(layer, dy) : [];
  let [carry, dc] = dLast;
  const gates = new Array<string>(layer.steps);
  for (let t = layer.steps - 1; t >= 0; t--) {
    const dh = sumOf(g, [dys[t], carry]) ?? zeros(layer);
    const dCell = sumOf(g, [dc, mul(g, dh, toCell[t]!)])!;
    gates[t] = mul(g, side(g, [dCell, dh, dCell, dCell]), factors[t]!);
    carry = g.op("MatMul", [gates[t]!, weights]);
    dc = mul(g, dCell, forgets[t]!);
  }
  const dx = joined(layer, gates);
  return { dx, dh: dx, first: [carry!, dc!] };
});
