import type { Random } from "../random.ts";
import { dtypes } from "../tensor/dtype.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import type { Reference } from "./output-error.ts";

/** How the change of outputs is measured: see `classDivergence` and `signalToNoise` in output-error.ts. */
export type OutputMeasure = "kl" | "noise";

/** Draws a direction for every output that counts, by its place, for one of the feeds. */
export type Directions = (feed: number, source: Random) => ReadonlyMap<number, Tensor>;

/**
 * Random directions u of the outputs z with E[u uᵀ] = H, the second derivatives by z of what is measured. Sums over the
 * feeds are means over the rows, or shares of the signal. With random signs v:
 * - kl: H = (diag(p) - p pᵀ) / rows, p = softmax(z), the Fisher information of the classes: u = √p v - p (√p · v). What a class
 *   drawn from p would give in expectation (Martens 2020), without the rare classes whose gradient is huge;
 * - noise: H = 2 / (outputs Σ y²): u = v.
 */
export function directionsOf({ outputs }: Reference, by: OutputMeasure): Directions {
  const places = (outputs[0] ?? []).flatMap(({ dtype }, at) => (dtypes[dtype].kind === "float" ? [at] : []));
  if (by === "kl") {
    const first = places[0] ?? 0;
    const rows = outputs.reduce((sum, all) => sum + rowsOf(all[first]!), 0);
    return (feed, source) => new Map([[first, classDirection(outputs[feed]![first]!, 1 / Math.sqrt(rows), source)]]);
  }
  const lengths = new Map(
    places.map((at) => {
      const signal = outputs.reduce((sum, all) => sum + toFloat32(all[at]!).reduce((s, y) => s + y * y, 0), 0);
      return [at, Math.sqrt(2 / (places.length * Math.max(signal, leastSignal)))];
    }),
  );
  return (feed, source) =>
    new Map(
      [...lengths].map(([at, length]) => {
        const { shape, size } = outputs[feed]![at]!;
        return [
          at,
          float32(
            shape,
            Float32Array.from({ length: size }, () => sign(source) * length),
          ),
        ];
      }),
    );
}

const leastSignal = 1e-30;

function sign(source: Random): number {
  return source.next() < 0.5 ? -1 : 1;
}

function rowsOf({ shape, size }: Tensor): number {
  return size / (shape.at(-1) ?? 1);
}

function classDirection(logits: Tensor, length: number, source: Random): Tensor {
  const z = toFloat32(logits);
  const classes = logits.shape.at(-1) ?? 1;
  const u = new Float32Array(z.length);
  for (let from = 0; from < z.length; from += classes) {
    const row = z.subarray(from, from + classes);
    const top = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const p = Float64Array.from(row, (value) => Math.exp(value - top));
    if (classes === 1) {
      // a class against another of score 0: the Fisher information is p (1 - p)
      u[from] = length * sign(source) * Math.sqrt(1 / (2 + Math.exp(row[0]!) + Math.exp(-row[0]!)));
      continue;
    }
    const total = p.reduce((a, b) => a + b, 0);
    const signed = p.map((value) => sign(source) * Math.sqrt(value / total));
    const along = signed.reduce((a, b) => a + b, 0);
    for (let k = 0; k < classes; k++) u[from + k] = length * (signed[k]! - (along * p[k]!) / total);
  }
  return float32(logits.shape, u);
}
