import { z } from "zod";
import type { Arithmetic } from "./emit.ts";
import type { Matrices } from "./parameters.ts";

/** Options of all optimizers; each reads what it knows. */
export const optimizerOptions = z.object({
  optimizer: z
    .enum(["sgd", "adam", "adamw", "muon"])
    .describe("the update rule; muon is for matrices and kernels, with adamw for everything else at the same rate")
    .default("sgd"),
  rate: z.number().positive().describe("base learning rate").default(0.1),
  momentum: z.number().min(0).max(1).default(0.9).describe("momentum of SGD and Muon"),
  nesterov: z.boolean().default(true).describe("Nesterov's form of momentum"),
  beta1: z.number().min(0).max(1).default(0.9).describe("decay of Adam's mean"),
  beta2: z.number().min(0).max(1).default(0.999).describe("decay of Adam's mean square"),
  epsilon: z.number().positive().default(1e-8).describe("added to Adam's root"),
  decay: z
    .number()
    .min(0)
    .describe("weight decay of kernels and matrices, not of biases and norms; decoupled in AdamW and Muon")
    .default(5e-4),
});

/** Options of an optimizer, defaults filled in. */
export type OptimizerOptions = z.output<typeof optimizerOptions>;

/** One parameter's update, its values named by strings. */
export interface Update {
  readonly parameter: string;
  readonly gradient: string;
  /** One an entry of the optimizer's `slots`. */
  readonly slots: readonly string[];
  /** Scalar inputs of the step, by the names in `hyper`. */
  readonly hyper: Readonly<Record<string, string>>;
  /** Weight decay of this parameter: 0 for biases and norms. */
  readonly decay: number;
  /** The shape of all of these values. */
  readonly shape: readonly number[];
  /** The linear maps that the parameter holds, if it does. */
  readonly matrices?: Matrices;
}

/** An update rule as nodes. */
export interface Optimizer {
  /** State kept for every parameter, in its shape, zero at first. */
  readonly slots: readonly string[];
  /** Scalars fed at every step, by name; step counted from 0. */
  hyper(step: number, rate: number, options: OptimizerOptions): Readonly<Record<string, number>>;
  /** Writes the update; gives the names of the new parameter and the new slots. */
  update(a: Arithmetic, update: Update, options: OptimizerOptions): { parameter: string; slots: readonly string[] };
}

/**
 * Added to gradients whose squares are kept. Where a weight has no gradient for a while its state would fall below the
 * normal numbers, with which processors compute a hundred times slower; this much moves no weight.
 */
const aboveSubnormal = 1e-18;

/**
 * m ← β1 m + (1 - β1) g, v ← β2 v + (1 - β2) g², p ← p - r c₁ m / (√(c₂ v) + ε) with the corrections c = 1 / (1 - βᵗ)
 * (Kingma and Ba 2015). The state holds m / (1 - β1) and v / (1 - β2), and all factors are kept to scalars: with
 * k = √(c₂ (1 - β2)) the step is r c₁ (1 - β1) / k · m / (√v + ε / k).
 *
 * @param decoupled weight decay beside the gradient, not in it (Loshchilov and Hutter 2019)
 */
function adam(decoupled: boolean): Optimizer {
  return {
    slots: ["mean", "square"],
    hyper: (step, rate, { beta1, beta2, epsilon }) => {
      const k = Math.sqrt((1 - beta2) / (1 - beta2 ** (step + 1)));
      return { rate, correction: (1 - beta1) / (1 - beta1 ** (step + 1)) / k, floor: epsilon / k };
    },
    update(a, { parameter, gradient, slots, hyper, decay }, { beta1, beta2 }) {
      const decayed = decoupled || decay === 0 ? gradient : a.add(gradient, a.mul(parameter, a.scalar(decay)));
      const g = a.add(decayed, a.scalar(aboveSubnormal));
      const mean = a.add(a.mul(slots[0]!, a.scalar(beta1)), g);
      const square = a.add(a.mul(slots[1]!, a.scalar(beta2)), a.mul(g, g));
      const root = a.add(a.op("Sqrt", [square]), hyper.floor!);
      const step = a.mul(a.div(mean, root), a.mul(hyper.rate!, hyper.correction!));
      const kept = decoupled ? shrunk(a, parameter, hyper.rate!, decay) : parameter;
      return { parameter: a.sub(kept, step), slots: [mean, square] };
    },
  };
}

/** Decoupled weight decay: p (1 - r λ). */
function shrunk(a: Arithmetic, parameter: string, rate: string, decay: number): string {
  return decay > 0 ? a.mul(parameter, a.sub(a.scalar(1), a.mul(rate, a.scalar(decay)))) : parameter;
}

/** Of a x + b x³ + c x⁵, which moves singular values to between 0.7 and 1.2 in five passes, also very small ones. */
const quintic = [3.4445, -4.775, 2.0315] as const;
const passes = 5;
/** Root mean square of an update as AdamW's are, so that rates and decays carry over. */
const likeAdam = 0.2;

/**
 * About the nearest matrix with orthonormal rows (or columns, where these are fewer), by Newton and Schulz's iteration:
 * X ← a X + (b A + c A²) X with A = X Xᵀ.
 */
function orthogonal(a: Arithmetic, value: string, [, rows, columns]: Matrices): string {
  const turned = (x: string): string => (rows > columns ? a.op("Transpose", [x], { perm: [0, 2, 1] }) : x);
  const norm = a.op("Sqrt", [a.op("ReduceSumSquare", [value, a.ints([1, 2])], { keepdims: 1 })]);
  let x = turned(a.div(value, a.add(norm, a.scalar(1e-7))));
  const [first, third, fifth] = quintic.map((factor) => a.scalar(factor)) as [string, string, string];
  for (let pass = 0; pass < passes; pass++) {
    const squared = a.op("MatMul", [x, a.op("Transpose", [x], { perm: [0, 2, 1] })]);
    const factor = a.add(a.mul(squared, third), a.mul(a.op("MatMul", [squared, squared]), fifth));
    x = a.add(a.mul(x, first), a.op("MatMul", [factor, x]));
  }
  return turned(x);
}

/** The rule that moves a parameter: Muon leaves what is no linear map to AdamW. */
export function optimizerOf(name: OptimizerOptions["optimizer"], matrices: Matrices | undefined): Optimizer {
  return optimizers[name === "muon" && matrices === undefined ? "adamw" : name];
}

/** The update rules by name. */
export const optimizers: Readonly<Record<OptimizerOptions["optimizer"], Optimizer>> = {
  /** v ← μ v + g, p ← p - r v, or p - r (g + μ v) in Nesterov's form (Sutskever et al. 2013). */
  sgd: {
    slots: ["velocity"],
    hyper: (_, rate) => ({ rate }),
    update(a, { parameter, gradient, slots, hyper, decay }, { momentum, nesterov }) {
      const g = decay > 0 ? a.add(gradient, a.mul(parameter, a.scalar(decay))) : gradient;
      const velocity = a.add(a.mul(slots[0]!, a.scalar(momentum)), g);
      const step = nesterov ? a.add(g, a.mul(velocity, a.scalar(momentum))) : velocity;
      return { parameter: a.sub(parameter, a.mul(step, hyper.rate!)), slots: [velocity] };
    },
  },
  adam: adam(false),
  adamw: adam(true),
  /**
   * v ← μ v + g, p ← p (1 - r λ) - r 0.2 √max(rows, columns) O, O the nearest orthogonal matrix to v, or to g + μ v in
   * Nesterov's form (Jordan et al. 2024; the factor by Liu et al. 2025, "Muon is Scalable for LLM Training").
   */
  muon: {
    slots: ["velocity"],
    hyper: adam(true).hyper,
    update(a, { parameter, gradient, slots, hyper, decay, shape, matrices }, { momentum, nesterov }) {
      const velocity = a.add(a.mul(slots[0]!, a.scalar(momentum)), gradient);
      const towards = nesterov ? a.add(gradient, a.mul(velocity, a.scalar(momentum))) : velocity;
      const flat = orthogonal(a, a.op("Reshape", [towards, a.ints(matrices!)]), matrices!);
      const scale = likeAdam * Math.sqrt(Math.max(matrices![1], matrices![2]));
      const step = a.mul(a.op("Reshape", [flat, a.ints(shape)]), a.mul(hyper.rate!, a.scalar(scale)));
      return { parameter: a.sub(shrunk(a, parameter, hyper.rate!, decay), step), slots: [velocity] };
    },
  },
};
