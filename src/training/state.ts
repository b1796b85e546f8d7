import { fail } from "../errors.ts";
import { edit } from "../graph/edit.ts";
import type { Graph } from "../graph/graph.ts";
import type { Session, Tensors } from "../platform/runtime.ts";
import { float32, type Tensor, tensor, toFloat32, typed } from "../tensor/tensor.ts";
import type { LearningWeight } from "./constraint.ts";
import { canOverwrite } from "./overwritten.ts";
import type { TrainingStep } from "./step.ts";

/**
 * The state of a run. Parameters are in two sets of tensors: each step reads one and writes the other, so nothing is
 * allocated. What else there is, an optimizer's means and averages of weights, is overwritten where the step's graph
 * allows it.
 */
export class StateBuffers {
  readonly #step: TrainingStep;
  /** The loss and the values to report, by output. */
  readonly #told: Readonly<Record<string, Tensor>>;
  #now: Record<string, Tensor>;
  #next: Record<string, Tensor>;
  /** Weights of the best epoch so far. */
  best: ReadonlyMap<string, Tensor> | undefined;

  constructor(step: TrainingStep) {
    this.#step = step;
    this.#told = Object.fromEntries(
      [step.loss, ...Object.values(step.report)].map((output) => [output, float32([], [0])]),
    );
    this.#now = Object.fromEntries([...step.state].map(([name, t]) => [name, copyOf(t)]));
    const learned = new Set(step.parameters.map(({ name }) => name));
    const doubled = ([name, t]: [string, Tensor]): Tensor =>
      !learned.has(name) && canOverwrite(step.graph, name, step.next.get(name)!) ? t : copyOf(t);
    this.#next = Object.fromEntries(Object.entries(this.#now).map((entry) => [entry[0], doubled(entry)]));
  }

  /** Runs one step; gives the loss and the values to report, by their names there. */
  async run(session: Session, feeds: Tensors): Promise<{ loss: number; report: Readonly<Record<string, number>> }> {
    const targets = Object.fromEntries([...this.#step.next].map(([name, output]) => [output, this.#next[name]!]));
    await session.run({ ...feeds, ...this.#now }, { ...this.#told, ...targets });
    [this.#now, this.#next] = [this.#next, this.#now];
    const told = (output: string): number => toFloat32(this.#told[output]!)[0]!;
    const { loss, report } = this.#step;
    return {
      loss: told(loss),
      report: Object.fromEntries(Object.entries(report).map(([name, output]) => [name, told(output)])),
    };
  }

  /** The state as it is now; valid until the next step. */
  state(): ReadonlyMap<string, Tensor> {
    return new Map(Object.entries(this.#now));
  }

  /** What the last step started from; but what it overwrites is as the step left it. */
  before(): Tensors {
    return this.#next;
  }

  /** The parameters for constraints to act on, by the weight's name; valid until the next step. */
  learning(): ReadonlyMap<string, LearningWeight> {
    return new Map(
      this.#step.parameters.map(({ name }) => {
        const held = this.#step.weights.get(name)!;
        const { shape } = this.#now[name]!;
        const [value, before] = [floats(this.#now[name]!), floats(this.#next[name]!)];
        return [name, { shape, value, before, ...(held !== name && { average: floats(this.#now[held]!) }) }];
      }),
    );
  }

  /** Copies of the model's weights as they are now. */
  weights(): ReadonlyMap<string, Tensor> {
    return new Map([...this.#step.weights].map(([name, held]) => [name, copyOf(this.#now[held]!)]));
  }

  restore(state: ReadonlyMap<string, Tensor>): void {
    for (const [name, t] of Object.entries(this.#now)) {
      const kept = state.get(name);
      if (!kept || kept.byteLength !== t.byteLength)
        fail("checkpoint", `it does not fit the run ('${name}')`, "Remove it to start anew");
      floats(t).set(floats(kept));
    }
  }
}

/** The tensor in memory of its own, read straight into it. */
function copyOf(t: Tensor): Tensor {
  const bytes = new Uint8Array(t.byteLength);
  const read = t.bytes(0, t.byteLength, bytes);
  if (read.buffer !== bytes.buffer) bytes.set(read);
  return tensor(t.dtype, t.shape, bytes);
}

/** The values themselves, not a copy. */
function floats(t: Tensor): Float32Array {
  return typed(t) as Float32Array;
}

/** The model with other weights of the same names; untouched ones are shared. */
export function withWeights(model: Graph, weights: ReadonlyMap<string, Tensor>): Graph {
  return edit(model, (draft) => {
    for (const [name, weight] of weights) if (draft.weights.has(name)) draft.weights.set(name, weight);
  });
}
