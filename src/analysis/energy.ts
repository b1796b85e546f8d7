/**
 * Picojoules in a 45 nm process at 0.9 V (M. Horowitz, "Computing's energy problem (and what we can do about it)",
 * ISSCC 2014). Old silicon, so the joules are too many for today's; the ratios are what counts.
 */
export const picojoules = {
  /** Multiply and add, one each; 8-bit products are added in 32 bits. */
  mac: { float32: 3.7 + 0.9, float16: 1.1 + 0.4, int8: 0.2 + 0.1 },
  /** One byte: 640 pJ and 5 pJ a 32-bit word; the cache is one of 8 KB. */
  byte: { dram: 640 / 4, cache: 5 / 4 },
} as const;

/** What one inference does. */
export interface Activity {
  /** Multiply-adds by the type they are done in. */
  readonly macs: Readonly<Partial<Record<keyof typeof picojoules.mac, number>>>;
  /** Bytes of weights, read from memory once. */
  readonly weightBytes: number;
  /** Bytes of activations, written once and read once. */
  readonly activationBytes: number;
  /** Most bytes of activations alive together; where they fit `cacheBytes` they never go to memory. */
  readonly peakActivationBytes: number;
  /** 1 MiB if absent. */
  readonly cacheBytes?: number;
}

/** Estimated energy of one inference, joules. */
export interface EnergyEstimate {
  readonly joules: number;
  readonly compute: number;
  readonly weights: number;
  readonly activations: number;
  /** What the numbers rest on, for the report. */
  readonly source: string;
}

/**
 * Estimates the energy of one inference from its arithmetic and its memory traffic: Σ macs · pJ + weight bytes · DRAM +
 * 2 · activation bytes · (cache where they fit, else DRAM). An estimate of the model's demand, not of a machine.
 */
export function estimateEnergy(activity: Activity): EnergyEstimate {
  const { macs, weightBytes, activationBytes, peakActivationBytes, cacheBytes = 2 ** 20 } = activity;
  const { mac, byte } = picojoules;
  let compute = 0;
  for (const [type, count] of Object.entries(macs)) compute += mac[type as keyof typeof mac] * count * 1e-12;
  const weights = weightBytes * byte.dram * 1e-12;
  const perByte = peakActivationBytes <= cacheBytes ? byte.cache : byte.dram;
  const activations = 2 * activationBytes * perByte * 1e-12;
  return {
    joules: compute + weights + activations,
    compute,
    weights,
    activations,
    source: "45 nm energies of Horowitz, ISSCC 2014; weights read once from DRAM",
  };
}
