import { fail } from "../../errors.ts";
import { type PruningSchedule, type PruningScheduleOptions, pruningSchedule } from "../../pruning/schedules.ts";
import type { Random } from "../../random.ts";
import { float32, type Tensor, tensor, toFloat32, typed } from "../../tensor/tensor.ts";
import type { Constraint, LearningWeight, Moment } from "../../training/constraint.ts";
import { clear } from "../../training/keep-zeros.ts";
import { elementOrder } from "../weight-matrices/matrix.ts";
import type { TrainingScore } from "./check.ts";
import { blocksToPrune } from "./densities.ts";
import type { Layer } from "./layers.ts";
import type { PruneWeightsOptions } from "./options.ts";
import { lowestMask, type Pattern } from "./patterns.ts";
import { aboveZeros, lowest } from "./scores.ts";
import type { GoalAt } from "./targets.ts";

/** What is pruned while a model trains, and how. */
export interface GradualOptions {
  readonly layers: readonly Layer[];
  readonly pattern: Pattern;
  readonly density: PruneWeightsOptions["density"];
  readonly score: TrainingScore;
  readonly schedule: PruningScheduleOptions;
  /** The final sparsity of layers that have none of their own. */
  readonly sparsity: number;
  readonly goalAt: GoalAt;
  readonly random: Random;
}

/** What is kept of one layer between steps. */
interface Pruned {
  readonly layer: Layer;
  /** In the weight's own order: 1 where it is pruned. */
  readonly mask: Uint8Array;
  /** Sum of w Δw over the updates: how far each weight moved away from zero. */
  readonly movement: Float32Array | undefined;
  zeros: number;
}

/**
 * Prunes a model while it trains: at the steps that a schedule names the lowest weights are chosen anew from what the
 * weights are by then; what was pruned stays at zero from then on. Nothing of it is left in the model.
 *
 * Movement (Sanh et al. 2020): the sum over the updates of w Δw, which for plain gradient descent is the learning rate
 * times -w ∂L/∂w. At step 0, where nothing has moved, magnitude chooses.
 */
export class GradualPruning implements Constraint {
  readonly #options: GradualOptions;
  readonly #pruned = new Map<Layer, Pruned>();
  #schedule: PruningSchedule | undefined;

  constructor(options: GradualOptions) {
    this.#options = options;
    for (const layer of options.layers) {
      const { size } = layer.target.weight;
      const movement = options.score === "movement" ? new Float32Array(size) : undefined;
      this.#pruned.set(layer, { layer, mask: new Uint8Array(size), movement, zeros: 0 });
    }
  }

  /** Layers whose weights learn, and so are pruned; all before the first step. */
  get layers(): readonly Layer[] {
    return [...this.#pruned.keys()];
  }

  apply(at: Moment, weights: ReadonlyMap<string, LearningWeight>): void {
    this.#leaveOut((layer) => !weights.has(layer.target.name));
    for (const [layer, pruned] of this.#pruned) {
      const weight = weights.get(layer.target.name)!;
      if (pruned.movement && at.step > 0) addMovement(pruned.movement, weight);
      hold(pruned, weight);
    }
    const schedule = this.#scheduleOf(at);
    if (schedule.prunes(at.step)) this.#choose(schedule.sparsityAt(at.step), at.step, weights);
  }

  ready(at: Omit<Moment, "rate">): boolean {
    return at.step >= this.#scheduleOf(at).settled;
  }

  state(): ReadonlyMap<string, Tensor> {
    const state = new Map<string, Tensor>();
    for (const { layer, mask, movement } of this.#pruned.values()) {
      state.set(`mask/${layer.target.name}`, tensor("uint8", [mask.length], mask));
      if (movement) state.set(`movement/${layer.target.name}`, float32([movement.length], movement));
    }
    return state;
  }

  restore(state: ReadonlyMap<string, Tensor>): void {
    this.#leaveOut(({ target }) => !state.has(`mask/${target.name}`));
    for (const pruned of this.#pruned.values()) {
      pruned.mask.set(typed(state.get(`mask/${pruned.layer.target.name}`)!) as Uint8Array);
      pruned.zeros = pruned.mask.reduce((sum, bit) => sum + bit, 0);
      pruned.movement?.set(toFloat32(state.get(`movement/${pruned.layer.target.name}`)!));
    }
  }

  /** Shares of zeros: of all layers together, and of each weight. */
  summaries(): Readonly<Record<string, number>> {
    const shares: Record<string, number> = {};
    let [zeros, elements] = [0, 0];
    for (const [{ target }, pruned] of this.#pruned) {
      shares[`sparsity/${target.name}`] = pruned.zeros / pruned.mask.length;
      zeros += pruned.zeros;
      elements += pruned.mask.length;
    }
    return { sparsity: zeros / elements, ...shares };
  }

  /** Forgets layers whose weights do not learn: they stay as they are. */
  #leaveOut(absent: (layer: Layer) => boolean): void {
    for (const layer of this.#pruned.keys()) if (absent(layer)) this.#pruned.delete(layer);
    if (this.#pruned.size === 0) {
      fail("prune-weights", "none of the weights to prune learns", "Check what is frozen, or prune without training");
    }
  }

  #scheduleOf({ steps }: Omit<Moment, "rate">): PruningSchedule {
    const { schedule, sparsity } = this.#options;
    this.#schedule ??= pruningSchedule(schedule, sparsity, steps);
    return this.#schedule;
  }

  /** Marks the lowest of every layer, those that are marked already first. */
  #choose(sparsity: number, step: number, weights: ReadonlyMap<string, LearningWeight>): void {
    const { pattern, density, sparsity: final } = this.#options;
    const scores = this.#scorer(step, weights);
    // layers with shares of their own go the same part of the way
    const goal = this.#options.goalAt((share) => (final > 0 ? (share * sparsity) / final : share));
    const counting = blocksToPrune({ layers: this.layers, density, goal, pattern, scores });
    let counted = counting.next();
    while (!counted.done) counted = counting.next();
    for (const [layer, count] of counted.value) {
      const pruned = this.#pruned.get(layer)!;
      const matrix = lowestMask(scores(layer), layer, pattern, count);
      const order = elementOrder(layer);
      if (order) for (let i = 0; i < matrix.length; i++) pruned.mask[order[i]!] = matrix[i]!;
      else pruned.mask.set(matrix);
      pruned.zeros = matrix.reduce((sum, bit) => sum + bit, 0);
      hold(pruned, weights.get(layer.target.name)!);
    }
  }

  #scorer(step: number, weights: ReadonlyMap<string, LearningWeight>): (layer: Layer) => Float32Array {
    const { score, random } = this.#options;
    const matrix = (layer: Layer, of: (i: number) => number): Float32Array => {
      const order = elementOrder(layer);
      return Float32Array.from({ length: layer.rows * layer.columns }, (_, at) => of(order ? order[at]! : at));
    };
    const learned = (layer: Layer): Float32Array => weights.get(layer.target.name)!.value;
    if (score === "random") {
      return (layer) => {
        const [chance, value] = [random.fork(`${step}:${layer.target.name}`), learned(layer)];
        return matrix(layer, (i) => (value[i] === 0 ? 0 : chance.next()));
      };
    }
    if (score === "movement" && step > 0) {
      const low = Math.min(...[...this.#pruned.values()].map(({ movement }) => lowest(movement!)));
      return (layer) => {
        const [movement, value] = [this.#pruned.get(layer)!.movement!, learned(layer)];
        return matrix(layer, (i) => aboveZeros(movement[i]!, value[i]!, low));
      };
    }
    return (layer) => {
      const value = learned(layer);
      return matrix(layer, (i) => Math.abs(value[i]!));
    };
  }
}

/** Keeps what is pruned at zero, in the running average too. */
function hold({ mask, zeros }: Pruned, { value, average }: LearningWeight): void {
  if (zeros === 0) return;
  clear(value, mask);
  if (average) clear(average, mask);
}

function addMovement(movement: Float32Array, { value, before }: LearningWeight): void {
  for (let i = 0; i < movement.length; i++) movement[i]! += before[i]! * (value[i]! - before[i]!);
}
