import { fail, PareError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import { observeValues } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { addToHistogram, finiteExtremes, type Histogram, makeHistogram, mergeHistogram } from "../tensor/histogram.ts";
import { split } from "../tensor/statistics.ts";
import { type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { observeExtremes } from "./extremes.ts";
import type { Observation } from "./ranges.ts";

/** Per-channel figures of a tensor. */
export interface ChannelObservation {
  /** Mean of each channel over all samples. */
  readonly mean: Float64Array;
  /** Mean of each channel's squares over all samples. */
  readonly square: Float64Array;
  /** Largest magnitude in each channel. */
  readonly absMax: Float64Array;
  /** Elements of a channel. */
  readonly count: number;
}

/** What {@link calibrate} found out about one tensor. */
export interface CalibratedTensor extends Observation {
  /** By channel axis, as it was asked for; present where any was. */
  readonly channels?: ReadonlyMap<number, ChannelObservation>;
  /** Present instead of usable figures: an element was infinite, as attention masks are. */
  readonly infinite: boolean;
  /** Samples it was seen on. */
  readonly samples: number;
}

/** What calibration found out. */
export interface Calibration {
  readonly tensors: ReadonlyMap<string, CalibratedTensor>;
  readonly samples: number;
  /**
   * By how much the later half of the samples (from the last power of two up to half of them) widened the ranges: mean
   * over the tensors of the share of the final extent. Near 0: enough samples. Absent with fewer than two.
   */
  readonly growth?: number;
}

/** Choices of {@link calibrate}. */
export interface CalibrateOptions {
  /** Tensors whose channels are wanted, with the channel axes, from the end where negative. */
  readonly channels?: ReadonlyMap<string, Iterable<number>>;
  /** Whether to keep histograms; true by default. Without them and without channels no tensor leaves the runtime. */
  readonly histograms?: boolean;
  /** Bins of the histograms; a power of two. */
  readonly bins?: number;
  /** Bytes of observed values held at one time. */
  readonly budget?: number;
  readonly signal?: AbortSignal;
  readonly progress?: (done: number) => void;
}

interface Running {
  readonly histogram?: Histogram;
  min: number;
  max: number;
  sumMin: number;
  sumMax: number;
  samples: number;
  infinite: boolean;
  /** Extent of the range after 2^i samples. */
  readonly extents: number[];
  readonly channels: Map<number, ChannelSums>;
}

/**
 * Runs a graph over samples and keeps of each named tensor its extremes, their means and its histogram; with
 * `channels`, also each channel's mean and largest magnitude. Streaming: memory is that of one run and of the
 * histograms. The order of the samples does not matter (sums are in double precision).
 *
 * @param feeds one entry a sample (or a fixed-size batch, then taken as one sample); iterated again where one run's
 *   values exceed the budget
 * @throws PareError naming a tensor that is NaN, or where there are no samples
 */
export async function calibrate(
  graph: Graph,
  runtime: Runtime,
  names: readonly string[],
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
  options: CalibrateOptions = {},
): Promise<Calibration> {
  if (options.histograms === false && !options.channels?.size) {
    const found = await byExtremes(graph, runtime, names, feeds, options);
    if (found) return found;
  }
  const running = new Map<string, Running>();
  const seen = progressOf(options);
  const visit = (name: string, value: Tensor, index: number): void => {
    seen.sample(index);
    observe(stateOf(running, name, options), name, value, options.channels?.get(name));
  };
  const observing = {
    ...(options.budget !== undefined && { budget: options.budget }),
    ...(options.signal && { signal: options.signal }),
  };
  await observeValues(graph, runtime, names, feeds, visit, observing);
  return finishAll(running, seen.samples());
}

/** Undefined where the runtime can't reduce a tensor (it is empty, say), or NaN is suspected: then look at all. */
async function byExtremes(
  graph: Graph,
  runtime: Runtime,
  names: readonly string[],
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
  options: CalibrateOptions,
): Promise<Calibration | undefined> {
  const running = new Map<string, Running>();
  const seen = progressOf(options);
  const visit = (name: string, min: number, max: number, index: number): void => {
    seen.sample(index);
    const state = stateOf(running, name, options);
    if (Number.isFinite(min) && Number.isFinite(max)) addExtremes(state, min, max);
    else state.infinite = true;
  };
  try {
    const certain = await observeExtremes(graph, runtime, names, feeds, visit, options.signal);
    return certain ? finishAll(running, seen.samples()) : undefined;
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof PareError) return undefined;
    throw error;
  }
}

function progressOf({ progress }: CalibrateOptions): { sample(index: number): void; samples(): number } {
  let samples = 0;
  return {
    sample(index) {
      if (index < samples) return;
      samples = index + 1;
      progress?.(samples);
    },
    samples: () => samples,
  };
}

function stateOf(running: Map<string, Running>, name: string, { bins, histograms = true }: CalibrateOptions): Running {
  const known = running.get(name);
  if (known) return known;
  const state: Running = {
    ...(histograms && { histogram: makeHistogram(bins) }),
    min: Number.POSITIVE_INFINITY,
    max: Number.NEGATIVE_INFINITY,
    sumMin: 0,
    sumMax: 0,
    samples: 0,
    infinite: false,
    extents: [],
    channels: new Map(),
  };
  running.set(name, state);
  return state;
}

function finishAll(running: ReadonlyMap<string, Running>, samples: number): Calibration {
  const tensors = new Map([...running].map(([name, state]) => [name, finish(state)]));
  const growth = meanGrowth([...running.values()], samples);
  return { tensors, samples, ...(growth !== undefined && { growth }) };
}

function observe(state: Running, name: string, value: Tensor, axes: Iterable<number> = []): void {
  const data = toFloat32(value);
  if (data.length === 0 || state.infinite) return;
  const extremes = finiteExtremes(data);
  if (!extremes) {
    if (data.some(Number.isNaN)) {
      fail("calibration", `'${name}' is NaN on sample ${state.samples + 1}`, "Check the data and its preprocessing");
    }
    state.infinite = true;
    return;
  }
  if (state.histogram) addToHistogram(state.histogram, data, name, extremes);
  addExtremes(state, extremes.min, extremes.max);
  for (const axis of axes) observeChannels(state, value.shape, axis, data);
}

function addExtremes(state: Running, min: number, max: number): void {
  state.min = Math.min(state.min, min);
  state.max = Math.max(state.max, max);
  state.sumMin += min;
  state.sumMax += max;
  state.samples++;
  if ((state.samples & (state.samples - 1)) === 0) state.extents.push(extent(state));
}

function observeChannels(state: Running, shape: readonly number[], axis: number, data: Float32Array): void {
  const { outer, channels, inner } = split(shape, axis);
  const empty = (): Float64Array => new Float64Array(channels);
  const sums = state.channels.get(axis) ?? { sum: empty(), squares: empty(), absMax: empty(), count: 0 };
  state.channels.set(axis, sums);
  if (inner === 1) addRows(data, outer, sums);
  else addRuns(data, outer, inner, sums);
  sums.count += outer * inner;
}

interface ChannelSums {
  readonly sum: Float64Array;
  readonly squares: Float64Array;
  readonly absMax: Float64Array;
  /** Elements of a channel. */
  count: number;
}

/** Elements of which `inner` in a row are of one channel. */
function addRuns(data: Float32Array, outer: number, inner: number, { sum, squares, absMax }: ChannelSums): void {
  for (let o = 0, i = 0; o < outer; o++) {
    for (let c = 0; c < sum.length; c++) {
      let s = 0;
      let square = 0;
      let m = absMax[c]!;
      for (const end = i + inner; i < end; i++) {
        const x = data[i]!;
        s += x;
        square += x * x;
        const a = Math.abs(x);
        if (a > m) m = a;
      }
      sum[c]! += s;
      squares[c]! += square;
      absMax[c] = m;
    }
  }
}

/** Rows with an element of each channel. */
function addRows(data: Float32Array, rows: number, { sum, squares, absMax }: ChannelSums): void {
  for (let o = 0, i = 0; o < rows; o++) {
    for (let c = 0; c < sum.length; c++, i++) {
      const x = data[i]!;
      sum[c]! += x;
      squares[c]! += x * x;
      const a = Math.abs(x);
      if (a > absMax[c]!) absMax[c] = a;
    }
  }
}

/** What calibration on the samples of both would have found; `growth` is that of the first. */
export function mergeCalibrations(a: Calibration, b: Calibration): Calibration {
  const tensors = new Map(a.tensors);
  for (const [name, second] of b.tensors) {
    const first = a.tensors.get(name);
    tensors.set(name, first ? mergeTensors(first, second) : second);
  }
  return { ...a, tensors, samples: a.samples + b.samples };
}

function mergeTensors(a: CalibratedTensor, b: CalibratedTensor): CalibratedTensor {
  const histogram = a.histogram && b.histogram && mergedHistogram(a.histogram, b.histogram);
  const samples = a.samples + b.samples;
  const share = a.samples / Math.max(1, samples);
  const channels = new Map<number, ChannelObservation>();
  for (const [axis, x] of a.channels ?? []) {
    const y = b.channels?.get(axis);
    if (y) channels.set(axis, mergeChannels(x, y));
  }
  return {
    min: Math.min(a.min, b.min),
    max: Math.max(a.max, b.max),
    samples,
    infinite: a.infinite || b.infinite,
    meanMin: share * a.meanMin + (1 - share) * b.meanMin,
    meanMax: share * a.meanMax + (1 - share) * b.meanMax,
    ...(histogram && { histogram }),
    ...(channels.size > 0 && { channels }),
  };
}

function mergedHistogram(a: Histogram, b: Histogram): Histogram {
  const merged = { ...a, counts: a.counts.slice() };
  mergeHistogram(merged, b);
  return merged;
}

function mergeChannels(a: ChannelObservation, b: ChannelObservation): ChannelObservation {
  const count = a.count + b.count;
  const mixed = (x: Float64Array, y: Float64Array): Float64Array =>
    x.map((m, c) => (m * a.count + y[c]! * b.count) / count);
  return {
    count,
    mean: mixed(a.mean, b.mean),
    square: mixed(a.square, b.square),
    absMax: a.absMax.map((m, c) => Math.max(m, b.absMax[c]!)),
  };
}

function extent({ min, max }: Pick<Running, "min" | "max">): number {
  return Math.max(max, 0) - Math.min(min, 0);
}

function finish(state: Running): CalibratedTensor {
  const { histogram, min, max, samples, infinite, channels } = state;
  const count = Math.max(1, samples);
  return {
    min,
    max,
    infinite,
    samples,
    meanMin: state.sumMin / count,
    meanMax: state.sumMax / count,
    ...(histogram && { histogram }),
    ...(channels.size > 0 && { channels: new Map([...channels].map(([axis, sums]) => [axis, finishChannels(sums)])) }),
  };
}

function finishChannels({ sum, squares, absMax, count }: ChannelSums): ChannelObservation {
  return { mean: sum.map((s) => s / count), square: squares.map((s) => s / count), absMax, count };
}

function meanGrowth(states: readonly Running[], samples: number): number | undefined {
  if (samples < 2) return undefined;
  const before = Math.floor(Math.log2(samples / 2)); // extents[i] is after 2^i samples
  const shares = states.flatMap((state) => {
    const final = extent(state);
    const earlier = state.extents[before];
    return final > 0 && earlier !== undefined ? [1 - earlier / final] : [];
  });
  return shares.length > 0 ? shares.reduce((a, b) => a + b, 0) / shares.length : undefined;
}
