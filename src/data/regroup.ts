import { fail } from "../errors.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import type { Batch } from "./dataset.ts";

/**
 * Batches of exactly `size` samples out of batches of any size; what remains at the end is dropped.
 *
 * @throws PareError where batches do not fit together
 */
export async function* regrouped(stream: AsyncIterable<Batch>, size: number): AsyncGenerator<Batch> {
  let held: Batch[] = [];
  let count = 0;
  for await (const batch of stream) {
    held.push(batch);
    count += batch.size;
    if (count < size) continue;
    const whole = held.length === 1 ? batch : joined(held, count);
    let at = 0;
    for (; at + size <= count; at += size) yield size === count ? whole : part(whole, at, at + size);
    held = at < count ? [part(whole, at, count)] : [];
    count -= at;
  }
}

/** Some samples of a batch. */
export function part(batch: Batch, from: number, to: number): Batch {
  return mapped(batch, to - from, (x) => {
    const [n = 0, ...inner] = x.shape;
    const row = x.byteLength / n;
    return tensor(x.dtype, [to - from, ...inner], x.bytes(from * row, (to - from) * row));
  });
}

function joined(batches: readonly Batch[], size: number): Batch {
  return mapped(batches[0]!, size, (first, name) => {
    const parts = batches.map((batch) => {
      const x = name === undefined ? batch.labels : batch.inputs[name];
      const like = (a: Tensor): string => `${a.dtype} [${a.shape.slice(1).join(", ")}]`;
      if (x && x.shape[0] === batch.size && like(x) === like(first)) return x.bytes();
      const what = `'${name ?? "labels"}' is ${like(first)} for each sample in one, ${x ? like(x) : "missing"} in another`;
      return fail(
        "train",
        `batches can't be joined to the size wanted: ${what}`,
        "Yield batches of the size asked for",
      );
    });
    const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const bytes of parts) {
      out.set(bytes, at);
      at += bytes.length;
    }
    return tensor(first.dtype, [size, ...first.shape.slice(1)], out);
  });
}

/** A batch of other inputs and labels; what else was known of the samples is left out. */
function mapped(batch: Batch, size: number, change: (x: Tensor, name?: string) => Tensor): Batch {
  const inputs = Object.entries(batch.inputs).map(([name, x]) => [name, change(x, name)] as const);
  return { inputs: Object.fromEntries(inputs), ...(batch.labels && { labels: change(batch.labels) }), size };
}
