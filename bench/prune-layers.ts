/**
 * What leaving out residual blocks costs, by either score and without training, on data that did not choose the blocks.
 * `PARE_DATA=FOLDER npx tsx bench/prune-layers.ts [MODEL...]`
 */
import { evaluate } from "../src/analysis/evaluate.ts";
import type { Graph } from "../src/graph/graph.ts";
import { runtime } from "../src/platform/node.ts";
import { pruneLayers } from "../src/techniques/prune-layers/index.ts";
import { testContext } from "../src/techniques/testing.ts";
import { record, table } from "./document.ts";
import { dataFolder, openZoo, zoo } from "./zoo.ts";

const cpu = await runtime({ threads: 2 });
/** Blocks to remove from each model. */
const counts: Readonly<Record<string, readonly number[]>> = {
  resnet20: [1, 2, 3],
  resnet56: [1, 2, 4, 8],
  kwt1: [1, 2, 4, 8],
  stories260K: [1, 2, 3],
};
const samples = 64;
const judged = 2000;
const named = process.argv.slice(2);
const rows: string[][] = [];
for (const [name, amounts] of Object.entries(counts)) {
  if (named.length > 0 && !named.includes(name)) continue;
  const model = zoo.find((each) => each.name === name)!;
  const { graph, dataset } = await openZoo(model, dataFolder(), cpu);
  const [metric] = model.metrics;
  const models: { name: string; graph: Graph }[] = [{ name: "as it was", graph }];
  for (const score of ["divergence", "influence"] as const) {
    for (const count of amounts) {
      const step = pruneLayers({ count, score, samples });
      const context = { ...testContext(cpu), data: dataset };
      models.push({ name: `${score} ${count}`, graph: await step.apply(graph, context) });
    }
  }
  const options = { metrics: [metric!], split: "test", limit: judged, seed: 1 };
  const { models: scored } = await evaluate(models, dataset, cpu, options);
  const show = (at: string): string => {
    const { value } = scored.find((each) => each.name === at)!.scores[0]!;
    return metric!.unit === "%" ? `${(100 * value).toFixed(1)} %` : value.toFixed(2);
  };
  for (const count of amounts) {
    const cells = [`${count}`, show(`divergence ${count}`), show(`influence ${count}`)];
    rows.push([count === amounts[0] ? `${name}: ${metric!.name} ${show("as it was")}` : "", ...cells]);
    console.log(rows.at(-1)!.join(" | "));
  }
}
const body = `Whole residual blocks left out one after the other, nothing trained: chosen on ${samples} samples by what the outputs change
without each (divergence) or by what passes through it (influence); judged on others, ${judged} at most.

${table(["model", "blocks out", "by divergence", "by influence"], rows)}`;
if (named.length === 0) {
  record("prune-layers", "Layers left out", "PARE_DATA=FOLDER npx tsx bench/prune-layers.ts", body);
} else console.log(body);
