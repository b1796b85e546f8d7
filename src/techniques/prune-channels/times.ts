import { fail } from "../../errors.ts";
import type { Couplings, Group } from "../../pruning/index.ts";
import { type LayerTimes, layerTimes } from "../../pruning/layer-times.ts";
import type { Context } from "../technique.ts";

const entry = "layer-times";

/**
 * Times of layers, kept with the checkpoints of the training behind the cut: measured anew they would come out a little
 * differently, and with them the network that was in training.
 *
 * @throws PareError where the runtime can't profile, or what was kept is damaged
 */
export async function keptTimes(
  found: Couplings,
  groups: readonly Group[],
  { runtime, signal, progress, training }: Context,
): Promise<LayerTimes> {
  const store = training?.store;
  const bytes = await store?.read(entry);
  const kept = bytes && decoded(bytes, store?.name);
  const timed = (done: number, total: number): void => progress(done, total, "layer shapes");
  const times = await layerTimes(found, groups, runtime, signal, timed, kept);
  await store?.write(entry, new TextEncoder().encode(JSON.stringify([...times.measured])));
  return times;
}

function decoded(bytes: Uint8Array, folder = "the work folder"): ReadonlyMap<string, number> {
  try {
    return new Map(JSON.parse(new TextDecoder().decode(bytes)) as [string, number][]);
  } catch (error) {
    return fail(`${folder}: ${entry}`, "is damaged", "Remove the folder to start anew", error);
  }
}
