import { gradient } from "../autodiff/gradient.ts";
import { type Batch, ignoredLabel } from "../data/dataset.ts";
import { fail } from "../errors.ts";
import { edit } from "../graph/edit.ts";
import type { Graph } from "../graph/graph.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Session, Tensors } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { dtypes } from "../tensor/dtype.ts";
import { float32, sizeOf, toFloat32 } from "../tensor/tensor.ts";
import { arithmetic } from "./emit.ts";
import { objectiveFor, objectiveOptions } from "./objective.ts";
import { logitsOf, type Prepared, prepare } from "./prepare.ts";

/** The feed of the random directions that outputs without labels are projected on. */
const directions = "pare_directions";

/**
 * Gradients of a loss to weights, batch by batch. With labels the loss is that of {@link objectiveFor}. Without, it is the
 * product of the outputs (logits) with normal numbers, drawn anew for every batch: the expected square of its gradient is
 * the diagonal of the Gauss-Newton matrix of the squared distance to the model's own outputs, whose gradient itself is 0.
 *
 * @param names weights; those that are rewritten for differentiation are absent from what is yielded
 * @param ignore class that does not count
 * @throws PareError where the model has no float output, or an operator on the way has no gradient
 */
export async function* weightGradients(
  graph: Graph,
  names: readonly string[],
  batches: AsyncIterable<Batch>,
  runtime: Runtime,
  signal: AbortSignal,
  ignore: number = ignoredLabel,
): AsyncGenerator<ReadonlyMap<string, Float32Array>> {
  let made: Backward | undefined;
  let count = 0;
  try {
    for await (const batch of batches) {
      signal.throwIfAborted();
      made ??= await backward(graph, names, batch, runtime, ignore);
      // the backward pass is written for one length
      const feeds = made.feeds(batch, count++);
      if (shapesOf(feeds) !== made.shapes) continue;
      const values = await made.session.run(feeds);
      yield new Map([...made.gradients].map(([name, value]) => [name, toFloat32(values[value]!)]));
    }
  } finally {
    await made?.session.release();
  }
}

interface Backward {
  readonly session: Session;
  feeds(batch: Batch, index: number): Tensors;
  readonly shapes: string;
  readonly gradients: ReadonlyMap<string, string>;
}

/** Shapes of feeds as text, to compare. */
export function shapesOf(feeds: Tensors): string {
  return Object.entries(feeds)
    .map(([name, { shape }]) => `${name}:${shape.join("x")}`)
    .join();
}

interface Scored {
  readonly graph: Graph;
  readonly loss: string;
  feeds(batch: Batch, index: number): Tensors;
}

async function backward(
  graph: Graph,
  names: readonly string[],
  batch: Batch,
  runtime: Runtime,
  ignore: number,
): Promise<Backward> {
  const scored = batch.labels
    ? await labelledLoss(graph, batch, runtime, ignore)
    : await projectedLoss(graph, batch, runtime);
  const feeds = scored.feeds(batch, 0);
  const missing = scored.graph.inputs.find(({ name }) => !scored.graph.weights.has(name) && !(name in feeds));
  if (missing) fail("gradients", `the data has no values for the input '${missing.name}'`);
  const own = names.filter((name) => scored.graph.weights.has(name));
  const typed = Object.entries(feeds).map(([name, { dtype, shape }]) => ({
    name,
    type: { kind: "tensor" as const, dtype, shape },
  }));
  const base = { ...scored.graph, inputs: typed };
  const { graph: whole, gradients } = gradient(base, scored.loss, own, await observeTypes(base, runtime, feeds));
  const found = new Map(
    own.flatMap((name): [string, string][] => {
      const value = gradients.get(name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
  const session = await runtime.open({ ...whole, outputs: [...new Set(found.values())].map((name) => ({ name })) });
  return { session, feeds: scored.feeds, shapes: shapesOf(feeds), gradients: found };
}

const inferenceForm = { batchStatistics: false, frozen: () => true };

async function labelledLoss(graph: Graph, batch: Batch, runtime: Runtime, ignore: number): Promise<Scored> {
  const objective = await objectiveFor(graph, runtime, batch, objectiveOptions.parse({ ignore }));
  const feeds = (some: Batch): Tensors => objective.feeds(some);
  const prepared = await prepare(objective.model, runtime, batch.inputs, inferenceForm);
  const types = await observeTypes(prepared.graph, runtime, feeds(batch));
  let loss = "";
  const scored = edit(prepared.graph, (draft) => {
    const written = objective.objective(arithmetic(draft, "loss"), {
      logits: (output) => prepared.logits.get(output) ?? output,
      type: (value) => types.get(value) ?? fail("loss", `nothing is known of the value '${value}'`),
    });
    loss = written.loss;
    draft.outputs = [{ name: loss }];
  });
  return { graph: scored, loss, feeds };
}

async function projectedLoss(graph: Graph, batch: Batch, runtime: Runtime): Promise<Scored> {
  const prepared = await prepare(graph, runtime, batch.inputs, inferenceForm);
  const types = await observeTypes(prepared.graph, runtime, batch.inputs);
  const [output, { dtype, shape }] = firstFloat(prepared, types);
  let loss = "";
  const scored = edit(prepared.graph, (draft) => {
    draft.inputs.push({ name: directions, type: { kind: "tensor", dtype: "float32", shape } });
    const a = arithmetic(draft, "projected");
    const values = dtype === "float32" ? output : a.op("Cast", [output], { to: 1 });
    loss = a.op("ReduceSum", [a.mul(values, directions)], { keepdims: 0 });
    draft.outputs = [{ name: loss }];
  });
  const feeds = ({ inputs }: Batch, index: number): Tensors => {
    const source = random(index);
    const drawn = Float32Array.from({ length: sizeOf(shape) }, () => source.normal());
    return { ...inputs, [directions]: float32(shape, drawn) };
  };
  return { graph: scored, loss, feeds };
}

function firstFloat(
  { graph }: Prepared,
  types: Awaited<ReturnType<typeof observeTypes>>,
): [name: string, type: { dtype: string; shape: readonly number[] }] {
  for (const { name } of graph.outputs) {
    const logits = logitsOf(graph, name);
    const type = types.get(logits);
    if (type && dtypes[type.dtype].kind === "float") return [logits, type];
  }
  return fail("gradients", "the model has no float output");
}
