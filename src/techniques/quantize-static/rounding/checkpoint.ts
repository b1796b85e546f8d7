import type { Range } from "../../../analysis/ranges.ts";
import { fail } from "../../../errors.ts";
import { float32, type Tensor, tensor, toFloat32, toNumbers, typed } from "../../../tensor/tensor.ts";
import { type CheckpointStore, decodeCheckpoint, encodeCheckpoint, within } from "../../../training/checkpoint.ts";
import type { LearnedRounding } from "../setup.ts";

/** Units that are finished, in a store. */
export interface FinishedUnits {
  get(unit: number): LearnedRounding | undefined;
  add(unit: number, learned: LearnedRounding): Promise<void>;
}

/**
 * Reads what an earlier start of the same run finished.
 *
 * @param run what it is a run of: model, options, seed, and what the data decided
 * @throws PareError where the store holds units of another run
 */
export async function finishedUnits(store: CheckpointStore, run: string): Promise<FinishedUnits> {
  const own = within(store, "rounding");
  const nameOf = (unit: number): string => `${unit}.onnx`;
  const found: LearnedRounding[] = [];
  for (let bytes = await own.read(nameOf(0)); bytes; bytes = await own.read(nameOf(found.length))) {
    const checkpoint = decodeCheckpoint(bytes, nameOf(found.length));
    if (checkpoint.run !== run) {
      fail(
        store.name ?? "rounding",
        "holds the rounding of another run",
        "Choose another folder, or remove it to start anew",
      );
    }
    found.push(decode(checkpoint.state));
  }
  return {
    get: (unit) => found[unit],
    add: (unit, learned) =>
      own.write(nameOf(unit), encodeCheckpoint({ run, step: unit, state: encode(learned), progress: {} })),
  };
}

function encode({ codes, biases, ranges }: LearnedRounding): ReadonlyMap<string, Tensor> {
  return new Map<string, Tensor>([
    ...[...codes].map(([name, c]): [string, Tensor] => [`code/${name}`, tensor("int16", [c.length], c)]),
    ...[...biases].map(([name, b]): [string, Tensor] => [`bias/${name}`, float32([b.length], b)]),
    // in double precision: the same bytes as without a stop
    ...[...ranges].map(([name, r]): [string, Tensor] => [
      `range/${name}`,
      tensor("float64", [2], Float64Array.from(r)),
    ]),
  ]);
}

function decode(state: ReadonlyMap<string, Tensor>): LearnedRounding {
  const of = <T>(kind: string, read: (t: Tensor) => T): ReadonlyMap<string, T> =>
    new Map(
      [...state].flatMap(([name, t]) => (name.startsWith(`${kind}/`) ? [[name.slice(kind.length + 1), read(t)]] : [])),
    );
  return {
    codes: of("code", (t) => typed(t) as Int16Array),
    biases: of("bias", toFloat32),
    ranges: of("range", (t) => toNumbers(t) as unknown as Range),
  };
}
