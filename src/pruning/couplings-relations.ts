/** An axis of a value, or a virtual one that only rules know of (the groups of a convolution). */
export type AxisId = number;

/** Two sequences of axes, outermost first, number the same elements: what reshapes state, and plain equality. */
export interface ProductRelation {
  readonly left: readonly AxisId[];
  readonly right: readonly AxisId[];
  /** The node that says so. */
  readonly by: string;
}

/** Index `i` of `part` is index `index[i]` of `whole`: slices, splits, concatenations, lookups by constants, padding. */
export interface PartRelation {
  readonly part: AxisId;
  readonly whole: AxisId;
  readonly index: Int32Array;
  readonly by: string;
}

/** Why an axis, or one index of it, must stay. */
export interface Freeze {
  readonly axis: AxisId;
  /** Absent: all of the axis. */
  readonly index?: number;
  readonly reason: string;
  /** An axis of positions (pixels, time steps, kernel taps): nobody expects it to be cut, so nobody is told. */
  readonly position: boolean;
}

/** What the rules of all nodes say. */
export interface Relations {
  /** Size of every axis. */
  readonly sizes: readonly number[];
  readonly products: readonly ProductRelation[];
  readonly parts: readonly PartRelation[];
  readonly freezes: readonly Freeze[];
}
