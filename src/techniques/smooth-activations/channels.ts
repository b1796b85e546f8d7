import { type Tensor, toFloat32 } from "../../tensor/tensor.ts";

/** Positions kept of all samples together. */
const keptRows = 128;

/** The ranges of a value's channels, along its last axis, over samples; and some positions of each. */
export class Channels {
  readonly low: Float64Array;
  readonly high: Float64Array;
  readonly #share: number;
  readonly #rows: Float32Array[] = [];

  /** @param samples how many will be added */
  constructor(channels: number, samples: number) {
    this.low = new Float64Array(channels);
    this.high = new Float64Array(channels);
    this.#share = Math.ceil(keptRows / samples);
  }

  /** Takes a sample's value: its numbers are copied where they are kept. */
  add(value: Tensor): void {
    const { low, high } = this;
    const values = toFloat32(value);
    const channels = low.length;
    const rows = values.length / channels;
    for (let r = 0, at = 0; r < rows; r++) {
      for (let c = 0; c < channels; c++, at++) {
        const v = values[at]!;
        if (v < low[c]!) low[c] = v;
        else if (v > high[c]!) high[c] = v;
      }
    }
    const step = Math.ceil(rows / this.#share);
    for (let r = 0; r < rows && this.#rows.length < keptRows; r += step) {
      this.#rows.push(values.slice(r * channels, (r + 1) * channels));
    }
  }

  /** Whether all numbers seen were finite. */
  get finite(): boolean {
    return [this.low, this.high, ...this.#rows].every((part) => part.every(Number.isFinite));
  }

  /** Positions that were kept, [channels] each. */
  get rows(): readonly Float32Array[] {
    return this.#rows;
  }
}
