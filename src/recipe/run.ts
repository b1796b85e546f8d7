import { type Graph, opKey } from "../graph/graph.ts";
import { assertValid } from "../graph/validate.ts";
import { allNodes } from "../graph/walk.ts";
import type { Exhibit } from "../techniques/exhibit.ts";
import type { Context, Step, TrainingContext } from "../techniques/technique.ts";
import { within } from "../training/checkpoint.ts";
import type { StepCache } from "./cache.ts";
import type { Changes, LedgerEntry, Measurement, Skip } from "./ledger.ts";

/** What {@link run} does around the steps. */
export interface RunOptions {
  /** Measures a graph: called for the first graph, and after every step. */
  measure(graph: Graph): Promise<Measurement>;
  /** Where finished steps are kept, so that a killed run goes on where it stopped. */
  readonly cache?: StepCache;
  /** Called after every step. */
  onEntry?(entry: LedgerEntry): void;
}

/** The last graph, and what every step did. */
export interface RunResult {
  readonly graph: Graph;
  readonly ledger: readonly LedgerEntry[];
}

/**
 * Applies steps in order: each draws from its own random stream, its result is validated and measured, and what it
 * skipped and showed is recorded.
 *
 * @throws PareError where a step refuses, or breaks the graph; the signal's reason once it is aborted
 */
export async function run(
  graph: Graph,
  steps: readonly Step[],
  context: Context,
  options: RunOptions,
): Promise<RunResult> {
  const ledger: LedgerEntry[] = [];
  let before = await options.measure(graph);
  for (const [index, step] of steps.entries()) {
    context.signal.throwIfAborted();
    const known = await options.cache?.get(index, step);
    const done = known
      ? await scoredAnew(known, before, options)
      : await applyStep(graph, step, index, before, context, options);
    if (!known) await options.cache?.put(index, step, done.graph, done.entry);
    ledger.push(done.entry);
    options.onEntry?.(done.entry);
    ({ graph } = done);
    before = done.entry.after;
  }
  return { graph, ledger };
}

interface Done {
  readonly graph: Graph;
  readonly entry: LedgerEntry;
}

/** A kept step with this run's scores: an earlier run may have had other metrics or samples. Times stay as they were. */
async function scoredAnew({ graph, entry }: Done, before: Measurement, { measure }: RunOptions): Promise<Done> {
  const timedThen = (now: Measurement, { latency }: Measurement): Measurement => ({
    ...now,
    ...(latency && { latency }),
  });
  const after = timedThen(await measure(graph), entry.after);
  return { graph, entry: { ...entry, before: timedThen(before, entry.before), after } };
}

async function applyStep(
  graph: Graph,
  step: Step,
  index: number,
  before: Measurement,
  context: Context,
  options: RunOptions,
): Promise<Done> {
  const skips: Skip[] = [];
  const exhibits: Exhibit[] = [];
  const start = performance.now();
  const changed = await step.apply(graph, {
    ...context,
    random: context.random.fork(`${index}:${step.name}`),
    ...(context.training && { training: ofStep(context.training, index) }),
    skip(node, reason) {
      skips.push({ node, reason });
      context.skip(node, reason);
    },
    show(exhibit) {
      exhibits.push(exhibit);
      context.show(exhibit);
    },
  });
  const seconds = (performance.now() - start) / 1000;
  context.signal.throwIfAborted();
  assertValid(changed, step.name);
  const after = await options.measure(changed);
  const changes = changesBetween(graph, changed);
  const { name, options: bound } = step;
  const entry = { step: name, options: bound, seconds, before, after, changes, skips, exhibits, resumed: false };
  return { graph: changed, entry };
}

/** Each step keeps its checkpoints under its own name. */
function ofStep({ store, ...rest }: TrainingContext, index: number): TrainingContext {
  return { ...rest, ...(store && { store: within(store, `step${index}`) }) };
}

/** What differs between two graphs, in numbers; nested subgraphs are counted too. */
export function changesBetween(before: Graph, after: Graph): Changes {
  const count = (graph: Graph, sign: number, into: Map<string, number>): number => {
    let nodes = 0;
    for (const node of allNodes(graph)) {
      into.set(opKey(node), (into.get(opKey(node)) ?? 0) + sign);
      nodes++;
    }
    return nodes;
  };
  const operators = new Map<string, number>();
  const nodesBefore = count(before, -1, operators);
  const nodesAfter = count(after, 1, operators);
  const old = new Set(before.weights.values());
  return {
    nodesBefore,
    nodesAfter,
    operators: Object.fromEntries([...operators].filter(([, n]) => n !== 0).sort(([a], [b]) => (a < b ? -1 : 1))),
    weightsChanged: [...after.weights.values()].filter((weight) => !old.has(weight)).length,
  };
}
