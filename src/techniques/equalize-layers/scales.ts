/** Elements of a layer's weight with the output and the input channel that each belongs to. */
export interface LayerWeight {
  readonly name: string;
  readonly values: Float32Array;
  visit(visitor: (at: number, output: number, input: number) => void): void;
}

/** Channels between layers: outputs of one, inputs of others. */
export interface Joint {
  readonly channels: number;
  readonly producer: LayerWeight;
  readonly consumers: readonly LayerWeight[];
}

/** Sweeps over all joints, at most; each evens out what the neighbours of the one before left. */
const mostSweeps = 40;
/** Until no scale changes by more than this share. */
const settled = 1e-3;

/**
 * The factor k of each channel between layers: k = sqrt(r2 / r1) gives its largest weight r1 in the producer and r2 in the
 * consumers the same size, k r1 = r2 / k. Joints that share a layer are gone over in turn until nothing moves (Nagel et
 * al. 2019, section 4.1). A channel without weights on one side, or with some that are not finite, stays as it is.
 *
 * @param most bound of k and of 1 / k
 */
export function equalizingScales(joints: readonly Joint[], most: number): ReadonlyMap<Joint, Float64Array> {
  const scales = new Map(joints.map((joint) => [joint, new Float64Array(joint.channels).fill(1)]));
  const outputs = new Map(joints.map((joint) => [joint.producer.name, scales.get(joint)!]));
  const inputs = new Map(joints.flatMap((joint) => joint.consumers.map(({ name }) => [name, scales.get(joint)!])));
  const reach = ({ name, values, visit }: LayerWeight, side: "output" | "input", channels: number): Float64Array => {
    const [rows, columns] = [outputs.get(name), inputs.get(name)];
    const largest = new Float64Array(channels);
    visit((at, output, input) => {
      const size = (Math.abs(values[at]!) * (rows?.[output] ?? 1)) / (columns?.[input] ?? 1);
      const channel = side === "output" ? output : input;
      // NaN is no larger than anything
      if (size > largest[channel]!) largest[channel] = size;
    });
    return largest;
  };
  for (let sweep = 0, moved = 1; sweep < mostSweeps && moved > settled; sweep++) {
    moved = 0;
    for (const joint of joints) {
      const own = scales.get(joint)!;
      const made = reach(joint.producer, "output", joint.channels);
      const read = joint.consumers.map((consumer) => reach(consumer, "input", joint.channels));
      for (let c = 0; c < own.length; c++) {
        const ratio = Math.max(...read.map((largest) => largest[c]!)) / made[c]!;
        if (!(ratio > 0 && Number.isFinite(ratio))) continue;
        const k = Math.min(most, Math.max(1 / most, own[c]! * Math.sqrt(ratio)));
        moved = Math.max(moved, Math.abs(k / own[c]! - 1));
        own[c] = k;
      }
    }
  }
  return scales;
}
