import type { Command } from "commander";
import { assertValid, validate } from "../../graph/validate.ts";
import { load } from "../../platform/node.ts";
import { environment } from "../environment.ts";
import { addCommon, type CommonFlags } from "../flags.ts";

/** `pare validate`: a model's structure, and whether the runtime loads it. */
export function define(command: Command, signal: AbortSignal): void {
  command.argument("<model>", "an ONNX or Keras file");
  addCommon(command, "json", "quiet", "threads", "device");
  command.action(async (model: string, flags: CommonFlags) => {
    const env = await environment(flags, signal);
    const graph = await load(model);
    const warnings = validate(graph).filter(({ level }) => level === "warning");
    assertValid(graph, model);
    const session = await env.runtime.open(graph);
    await session.release();
    const { irVersion, opsets, nodes, weights } = graph;
    const sets = Object.entries(opsets).map(([domain, version]) => `${domain || "ai.onnx"} ${version}`);
    env.print(`${model}: valid, and ${env.runtime.name} (${env.runtime.provider}) loads it\n`);
    env.print(`  IR ${irVersion}, opsets ${sets.join(", ")}, ${nodes.length} nodes, ${weights.size} weights\n`);
    for (const { where, what } of warnings) env.print(`  warning: ${where}: ${what}\n`);
    env.json({ model, valid: true, irVersion, opsets, nodes: nodes.length, weights: weights.size, warnings });
  });
}
