import type { TrainResult } from "../training/train.ts";

/**
 * Something that a technique found out and the report shows: plain JSON, kept with the step wherever its ledger entry is
 * kept. Numbers are finite; shares are 0..1.
 */
export type Exhibit =
  | NoteExhibit
  | SparsityExhibit
  | SensitivityExhibit
  | GroupsExhibit
  | ProgressExhibit
  | FormatsExhibit
  | GridsExhibit
  | RangesExhibit
  | TrainingExhibit;

/** What a number is. */
export interface Quantity {
  /** As it stands beside an axis: "sparsity", "MACs that stay", "top-1". */
  readonly name: string;
  /** "%" for shares, "B" for bytes, "ms" for times; absent for plain numbers and counts. */
  readonly unit?: string;
}

/** One sentence that the user must know. */
export interface NoteExhibit {
  readonly kind: "note";
  readonly text: string;
}

/** How many weights of each layer are zero once the step is done. */
export interface SparsityExhibit {
  readonly kind: "sparsity";
  /** In the order of execution. */
  readonly layers: readonly {
    /** Label of the node that reads the weight. */
    readonly name: string;
    readonly elements: number;
    readonly zeros: number;
  }[];
}

/** What it costs to compress one layer alone, more and more; where nothing is left, Number.MAX_VALUE. */
export interface SensitivityExhibit {
  readonly kind: "sensitivity";
  /** What grows along a curve: "sparsity", "channels removed". */
  readonly amount: Quantity;
  /** What that costs: more is worse. */
  readonly damage: Quantity;
  readonly layers: readonly {
    readonly name: string;
    /** In the order of the amount. */
    readonly curve: readonly (readonly [amount: number, damage: number])[];
    /** The amount that the scan proposes for this layer. */
    readonly proposed?: number;
  }[];
}

/** What is cut together, and how much of it went. */
export interface GroupsExhibit {
  readonly kind: "groups";
  readonly groups: readonly {
    /** Label of the group, mostly that of the node that makes its units. */
    readonly name: string;
    /** Labels of the nodes whose weights are cut together. */
    readonly members: readonly string[];
    /** Units (channels, neurons, heads) before and after. */
    readonly before: number;
    readonly after: number;
    /** Why nothing can be cut here. */
    readonly frozen?: string;
  }[];
}

/** Quality against the amount of compression, a point a round. */
export interface ProgressExhibit {
  readonly kind: "progress";
  readonly amount: Quantity;
  readonly quality: Quantity & { readonly better: "higher" | "lower" };
  /** In the order they were made; the first may be the model as it was. */
  readonly rounds: readonly {
    /** What it is called, if not by its number from 1. */
    readonly name?: string;
    readonly amount: number;
    /** After retraining or repair, where there is some. */
    readonly quality: number;
    /** Right after the cut, before retraining. */
    readonly cut?: number;
    /** The round whose model is handed out. */
    readonly kept?: true;
  }[];
  /** The worst quality that the budget allows. */
  readonly limit?: number;
}

/** What every format would do to every layer alone, and which one it got. */
export interface FormatsExhibit {
  readonly kind: "formats";
  /** What a format costs: more is worse. */
  readonly damage: Quantity;
  readonly layers: readonly {
    /** Label of the node that reads the weight. */
    readonly name: string;
    readonly elements: number;
    /** The format that it is in now. */
    readonly chosen: string;
    /** Those that were measured, the one it was in before among them. */
    readonly options: readonly {
      readonly format: string;
      /** Bits of a weight. */
      readonly bits: number;
      readonly damage: number;
    }[];
  }[];
}

/** The grids of integers that layers compute on, and how training moved them. */
export interface GridsExhibit {
  readonly kind: "grids";
  /** In the order of execution. */
  readonly layers: readonly {
    /** Label of the node that reads the weight. */
    readonly name: string;
    readonly elements: number;
    /** How wide the weights are: "4 bits", "ternary", "binary". */
    readonly width: string;
    /** Bytes of the integers and scales as tight as they can be packed, and as they are in the file. */
    readonly packed: number;
    readonly stored: number;
  }[];
  /** What the integers span before training and after it. */
  readonly ranges: readonly {
    /** Label of the layer whose weights these are, or name of a value. */
    readonly name: string;
    readonly of: "weights" | "activations";
    readonly bits: number;
    readonly before: readonly [low: number, high: number];
    readonly after: readonly [low: number, high: number];
  }[];
}

/** The ranges that were chosen for activations, against what was seen of them on the samples. */
export interface RangesExhibit {
  readonly kind: "ranges";
  /** Those that quantizing harms most, lowest signal to noise first. */
  readonly values: readonly {
    /** Label of the node that makes the value, or the name of the input. */
    readonly name: string;
    /** Bits of its integers. */
    readonly bits: number;
    /** What the integers span; numbers beyond are clipped to it. */
    readonly range: readonly [min: number, max: number];
    /** Counts over equal bins between the smallest and the largest number seen, exact zeros left out. */
    readonly histogram: { readonly min: number; readonly max: number; readonly counts: readonly number[] };
    /** Share of the numbers beyond the range. */
    readonly clipped: number;
    /** Of the value itself, in decibels: mean square over mean squared error of rounding and clipping. */
    readonly signalToNoise: number;
  }[];
  /** How many values were quantized. */
  readonly quantized: number;
}

/** How a training inside the step went: what {@link TrainResult} tells. */
export interface TrainingExhibit extends Pick<TrainResult, "curve" | "best"> {
  readonly kind: "training";
  /** What sets it apart from others of the same step: "round 3". */
  readonly name?: string;
  readonly epochs: TrainResult["records"];
}
