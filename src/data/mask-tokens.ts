import { z } from "zod";
import type { Random } from "../random.ts";
import { tensor, toNumbers } from "../tensor/tensor.ts";
import { type Batch, ignoredLabel } from "./dataset.ts";

/** Hiding tokens for a masked language model. */
export const maskTokenOptions = z.object({
  maskToken: z
    .number()
    .int()
    .min(0)
    .optional()
    .describe("id of the mask token: the model learns to fill in tokens that are hidden, in place of the next ones"),
  maskShare: z.number().positive().max(1).default(0.15).describe("share of the tokens that are hidden"),
});

/** How tokens are hidden. */
export interface TokenMasking {
  /** The input that takes the tokens. */
  readonly input: string;
  readonly maskToken: number;
  readonly maskShare: number;
  /** Ids below this may stand in for hidden tokens. */
  readonly vocabulary: number;
}

/**
 * Hides a share of a batch's tokens. Hidden ones are labelled with what stood there, all others {@link ignoredLabel}:
 * 80 % of the hidden ones become the mask token, 10 % any token, and 10 % stay (Devlin et al. 2019). Where another input
 * named after a mask is 0, as it is at padding, nothing is hidden; elsewhere at least one token is.
 */
export function hideTokens(batch: Batch, masking: TokenMasking, random: Random): Batch {
  const { input, maskToken, maskShare, vocabulary } = masking;
  const ids = batch.inputs[input]!;
  const source = toNumbers(ids);
  const out = source.slice();
  const labels = new BigInt64Array(source.length).fill(BigInt(ignoredLabel));
  const attended = attentionOf(batch, input);
  const places = [...source.keys()].filter((i) => attended?.[i] !== 0);
  const sure = places[random.int(places.length)];
  for (const i of places) {
    const hidden = random.next() < maskShare || i === sure;
    const [kind, other] = [random.next(), random.int(vocabulary)];
    if (!hidden) continue;
    labels[i] = BigInt(source[i]!);
    if (kind < 0.8) out[i] = maskToken;
    else if (kind < 0.9) out[i] = other;
  }
  const data = ids.dtype === "int32" ? Int32Array.from(out) : BigInt64Array.from(out, BigInt);
  return {
    ...batch,
    inputs: { ...batch.inputs, [input]: tensor(ids.dtype, ids.shape, data) },
    labels: tensor("int64", ids.shape, labels),
  };
}

function attentionOf({ inputs }: Batch, tokens: string): number[] | undefined {
  const { shape } = inputs[tokens]!;
  const found = Object.entries(inputs).find(([name, t]) => /mask/i.test(name) && t.shape.join() === shape.join());
  return found && toNumbers(found[1]);
}
