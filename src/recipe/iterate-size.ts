import { costs } from "../analysis/cost.ts";
import { didYouMean, fail } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import type { Measurement } from "./ledger.ts";

/** How large a model is, by everything that a target may be about. */
export interface ModelSize {
  /** Share of zeros among the numbers of its weights: matrices and kernels, not biases and scales. */
  readonly sparsity: number;
  /** Multiply-accumulates of one sample. */
  readonly macs: number;
  readonly parameters: number;
  /** Of the file. */
  readonly bytes: number;
  /** Median of an inference; absent where it is not measured. */
  readonly ms?: number;
}

/** What a target may be about. */
export type SizeQuantity = keyof ModelSize;

/** A size to get to. */
export interface SizeTarget {
  readonly quantity: SizeQuantity;
  /** The sparsity to reach; of everything else what may stay. */
  readonly value: number;
  /** `value` is a share of what the original has. */
  readonly relative: boolean;
}

interface QuantityRow {
  /** Factors of the suffixes that a number may have. */
  readonly units: Readonly<Record<string, number>>;
  /** Whether a number up to 1 is a share of the original's. */
  readonly shares: boolean;
}

const counts = { k: 1e3, M: 1e6, G: 1e9 };

const rows: Readonly<Record<SizeQuantity, QuantityRow>> = {
  sparsity: { units: {}, shares: false },
  macs: { units: counts, shares: true },
  parameters: { units: counts, shares: true },
  bytes: { units: { ...counts, B: 1, kB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20 }, shares: true },
  ms: { units: { ms: 1, s: 1e3 }, shares: false },
};

/**
 * A target as a person writes it: `sparsity=0.9`, `macs=50%` or `macs=0.5` of the original's, `bytes=200kB`, `ms=1.5`.
 *
 * @throws PareError where it can't be read, or is out of range
 */
export function parseSizeTarget(text: string): SizeTarget {
  const [, name = "", value = ""] = /^\s*(\w+)\s*=\s*(.+?)\s*$/.exec(text) ?? [];
  const names = Object.keys(rows);
  if (name === "")
    fail("target", `'${text}' is no target`, `Write it as ${names[0]}=0.9; there are ${names.join(", ")}`);
  if (!Object.hasOwn(rows, name)) {
    fail("target", `unknown size '${name}'`, didYouMean(name, names) || `There are ${names.join(", ")}`);
  }
  const quantity = name as SizeQuantity;
  const { units, shares } = rows[quantity];
  const [, digits = "", unit = ""] = /^(\d*\.?\d+(?:e[+-]?\d+)?)\s*([a-z%]*)$/i.exec(value) ?? [];
  const number = Number(digits);
  const factor = unit === "" ? 1 : unit === "%" ? 0.01 : Object.hasOwn(units, unit) ? units[unit]! : Number.NaN;
  const known = ["%", ...Object.keys(units)].join(", ");
  if (digits === "" || Number.isNaN(factor))
    fail("target", `'${value}' is no ${quantity}`, `It takes a number, or one with ${known}`);
  const relative = quantity !== "sparsity" && (unit === "%" || (unit === "" && shares && number <= 1));
  const target = { quantity, value: number * factor, relative };
  const highest = quantity === "sparsity" || relative ? 1 : Number.POSITIVE_INFINITY;
  if (!(target.value > 0 && target.value < highest)) {
    fail("target", `${text} can't be reached`, `A share lies between 0 and 1, everything else above 0`);
  }
  return target;
}

/** What of a quantity is left to remove: for sparsity the share of numbers that are not zero. */
export function leftOf(size: ModelSize, quantity: SizeQuantity): number {
  return quantity === "sparsity" ? 1 - size.sparsity : (size[quantity] ?? Number.POSITIVE_INFINITY);
}

/** What a target lets stay, in the unit of {@link leftOf}. */
export function limitOf({ quantity, value, relative }: SizeTarget, original: ModelSize): number {
  if (quantity === "sparsity") return 1 - value;
  return relative ? value * leftOf(original, quantity) : value;
}

/**
 * A model's size.
 *
 * @param feeds what one inference is fed: of one sample, where the model leaves that free
 * @throws PareError where the runtime refuses the model or the feeds
 */
export async function modelSize(
  graph: Graph,
  { bytes, latency }: Measurement,
  runtime: Runtime,
  feeds: Tensors,
): Promise<ModelSize> {
  const { macs, parameters } = costs(graph, await observeTypes(graph, runtime, feeds));
  return { sparsity: sparsityOf(graph), macs, parameters, bytes, ...(latency && { ms: latency.median }) };
}

function sparsityOf({ weights }: Graph): number {
  let [zeros, all] = [0, 0];
  for (const weight of weights.values()) {
    if (weight.shape.length < 2 || dtypes[weight.dtype].kind !== "float") continue;
    all += weight.size;
    for (const value of toFloat32(weight)) if (value === 0) zeros++;
  }
  return all === 0 ? 0 : zeros / all;
}
