import type { Arithmetic } from "./emit.ts";
import type { Loss } from "./losses.ts";

/** Log of a probability of nothing: finite, so that no difference of two becomes NaN. */
const impossible = -1e30;

/**
 * -log of the probability that the label sequence is what remains of the outputs once repetitions are merged and blanks
 * dropped (Graves et al. 2006), over all alignments by the forward recursion in logarithms; divided by the length of the
 * sequence, mean over samples. With the labels spread as blank, l1, blank, l2, ..., blank:
 * a(0, s) = p(0, s) for the first two s; a(t, s) = p(t, s) (a(t-1, s) + a(t-1, s-1) + a(t-1, s-2)), the last only where
 * label s differs from label s-2.
 *
 * Logits are [n, steps, classes], all steps counted; labels [n, longest] with negative ones behind each sequence's end.
 * The recursion is unrolled: some 20 nodes a step with the gradient.
 */
export const ctc: Loss = (a, { prediction, shape, target }, { blank }) => {
  const { states, lengths } = spread(a, target, blank);
  const steps = shape[1]!;
  const logs = a.op("LogSoftmax", [prediction], { axis: 2 });
  const places = a.op("Expand", [a.op("Unsqueeze", [states, a.ints([1])]), a.ints([1, steps, 1])]);
  const emitted = a.op("GatherElements", [logs, places], { axis: 2 });
  const each = a.ops("Split", [emitted, a.ints(new Array(steps).fill(1))], { axis: 1 }, steps);

  // all rows [n, 1, states]
  const position = a.op("Range", [whole(a, 0), a.op("Squeeze", [a.op("Shape", [states], { start: 1 })]), whole(a, 1)]);
  const only = (condition: string): string => a.op("Where", [condition, a.scalar(0), a.scalar(impossible)]);
  const row = (x: string): string => a.op("Unsqueeze", [x, a.ints([1])]);
  const twoBefore = a.op("Pad", [states, a.ints([0, 2, 0, -2]), whole(a, blank)]);
  const skipping = row(only(a.op("Not", [a.op("Equal", [states, twoBefore])])));
  const last = a.mul(lengths, a.ints([2]));
  const ending = row(
    only(a.op("Or", [a.op("Equal", [position, last]), a.op("Equal", [position, a.sub(last, a.ints([1]))])])),
  );

  let forward = a.add(each[0]!, only(a.op("Less", [position, a.ints([2])])));
  for (const log of each.slice(1)) {
    const padded = a.op("Pad", [forward, a.ints([0, 0, 2, 0, 0, 0]), a.scalar(impossible)]);
    const slice = (from: number, to: number): string =>
      a.op("Slice", [padded, a.ints([from]), a.ints([to]), a.ints([2])]);
    const sources = a.op("Concat", [forward, slice(1, -1), a.add(slice(0, -2), skipping)], { axis: 1 });
    forward = a.add(a.op("ReduceLogSumExp", [sources, a.ints([1])]), log);
  }
  const likelihood = a.op("ReduceLogSumExp", [a.add(forward, ending), a.ints([1, 2])], { keepdims: 0 });
  const size = a.op("Squeeze", [a.op("Cast", [a.op("Max", [lengths, a.ints([1])])], { to: 1 }), a.ints([1])]);
  return a.op("ReduceMean", [a.op("Neg", [a.div(likelihood, size)])], { keepdims: 0 });
};

/** Labels with blanks around each, [n, 2 longest + 1], and the lengths of the sequences, [n, 1]. */
function spread(a: Arithmetic, target: string, blank: number): { states: string; lengths: string } {
  const valid = a.op("GreaterOrEqual", [target, a.ints([0])]);
  const labels = a.op("Where", [valid, target, a.ints([blank])]);
  const blanks = a.op("Expand", [a.ints([blank]), a.op("Shape", [target])]);
  const column = (x: string): string => a.op("Unsqueeze", [x, a.ints([2])]);
  const pairs = a.op("Reshape", [a.op("Concat", [column(blanks), column(labels)], { axis: 2 }), a.ints([0, -1])]);
  const states = a.op("Pad", [pairs, a.ints([0, 0, 0, 1]), whole(a, blank)]);
  const lengths = a.op("ReduceSum", [a.op("Cast", [valid], { to: 7 }), a.ints([1])]);
  return { states, lengths };
}

function whole(a: Arithmetic, value: number): string {
  return a.op("Reshape", [a.ints([value]), a.ints([])]);
}
