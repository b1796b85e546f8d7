import { type Reference, signalToNoise } from "../../analysis/output-error.ts";
import { type Graph, isNode } from "../../graph/graph.ts";
import { soleConsumer } from "../../graph/walk.ts";
import type { KnownTypes } from "../../ops/lookup.ts";
import { observeTypes, observeValues } from "../../platform/observe.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { withoutBlock } from "../../pruning/drop-residual-block.ts";
import type { ResidualBlock } from "../../pruning/residual-blocks.ts";
import { packedBytes } from "../../tensor/dtype.ts";
import { sizeOf, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { Context } from "../technique.ts";

/** What dropping a block would do: more is worse. */
export type BlockScores = ReadonlyMap<ResidualBlock, number>;

/**
 * Noise that the outputs would have without each block, in decibels: 10 log10(sum (y - y')^2 / sum y^2) against the
 * original's outputs; those of a final Softmax or Sigmoid before it.
 *
 * @param outputs the outputs that were kept of the original
 */
export async function divergences(
  graph: Graph,
  blocks: readonly ResidualBlock[],
  original: Reference,
  outputs: ReadonlySet<string>,
  { runtime, signal, progress }: Context,
): Promise<BlockScores> {
  const scores = new Map<ResidualBlock, number>();
  for (const [i, block] of blocks.entries()) {
    signal.throwIfAborted();
    progress(i, blocks.length, "blocks left out");
    const left = withoutBlock(graph, block);
    const judged = { ...left, outputs: left.outputs.filter(({ name }) => outputs.has(name)) };
    scores.set(block, -(await signalToNoise(judged, runtime, original)));
  }
  return scores;
}

/** Bytes of observed values held at one time. */
const budget = 2 ** 29;

/**
 * Block influence 1 - E[cos(x, x + f(x))] (Men et al. 2024): of every token or row, and of whole images. Where Relu follows
 * the sum, both sides are rectified first.
 */
export async function influences(
  graph: Graph,
  blocks: readonly ResidualBlock[],
  feeds: readonly Tensors[],
  { runtime, signal }: Context,
): Promise<BlockScores> {
  const types = await observeTypes(graph, runtime, feeds[0]!);
  const scores = new Map<ResidualBlock, number>();
  const bytes = Math.max(1, ...blocks.map(({ term, rest }) => (rest.length + 1) * bytesOf(types, term)));
  const together = Math.max(1, Math.floor(budget / bytes));
  for (let from = 0; from < blocks.length; from += together) {
    const sums = blocks.slice(from, from + together).map((block) => new Cosines(graph, block));
    const names = [...new Set(sums.flatMap(({ block }) => [...block.rest, block.term]))];
    const held = new Map<string, Tensor>();
    const visit = (name: string, value: Tensor): void => {
      held.set(name, value);
      if (held.size < names.length) return;
      for (const sum of sums) sum.add(held);
      held.clear();
    };
    await observeValues(graph, runtime, names, feeds, visit, { signal, budget: Number.POSITIVE_INFINITY });
    for (const { block, sum, count } of sums) scores.set(block, 1 - sum / count);
  }
  return scores;
}

function bytesOf(types: KnownTypes, name: string): number {
  const { dtype, shape } = types.get(name)!;
  return packedBytes(dtype, sizeOf(shape));
}

/** Sums up cosines of what a block reads and what it hands on. */
class Cosines {
  readonly block: ResidualBlock;
  readonly #rectified: boolean;
  sum = 0;
  count = 0;

  constructor(graph: Graph, block: ResidualBlock) {
    this.block = block;
    const reader = soleConsumer(graph, block.node.outputs[0]!);
    this.#rectified = reader !== undefined && isNode(reader, "Relu");
  }

  add(values: ReadonlyMap<string, Tensor>): void {
    const term = values.get(this.block.term)!;
    const f = toFloat32(term);
    const parts = this.block.rest.map((name) => toFloat32(values.get(name)!));
    const { shape } = term;
    // tokens and rows are their last axis; an image is all of its channels and pixels
    const size = shape.length >= 4 ? sizeOf(shape.slice(1)) : (shape.at(-1) ?? 1);
    for (let start = 0; start < f.length; start += size) {
      let [dot, xx, yy] = [0, 0, 0];
      for (let i = start; i < start + size; i++) {
        let x = 0;
        for (const part of parts) x += part[i]!;
        let y = x + f[i]!;
        if (this.#rectified) [x, y] = [Math.max(0, x), Math.max(0, y)];
        dot += x * y;
        xx += x * x;
        yy += y * y;
      }
      this.sum += xx === 0 || yy === 0 ? Number(xx === yy) : dot / Math.sqrt(xx * yy);
      this.count++;
    }
  }
}
