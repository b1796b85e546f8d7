import type { Command } from "commander";
import { inspect } from "../../analysis/inspect.ts";
import { load } from "../../platform/node.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { inspectionSections } from "../../report/inspection.ts";
import { renderMarkdown } from "../../report/markdown.ts";
import { renderTerminal } from "../../report/terminal.ts";
import { simplify, techniques } from "../../techniques/index.ts";
import { addDataFlags, openData } from "../data.ts";
import { type Environment, environment, terminalOptions } from "../environment.ts";
import { addCommon, type CommonFlags, count } from "../flags.ts";

interface Flags extends CommonFlags {
  readonly data?: string;
  readonly time: boolean;
  readonly top: number;
  readonly markdown?: boolean;
}

/** `pare inspect`: where a model's bytes, parameters, MACs and time are. */
export function define(command: Command, signal: AbortSignal): void {
  command
    .argument("<model>", "an ONNX or Keras file")
    .option("--no-time", "load no weights: nothing is run")
    .option("--top <number>", "layers in each list", count, 12)
    .option("--markdown", "print markdown");
  addCommon(command, "json", "quiet", "threads", "seed", "device");
  addDataFlags(command, false);
  command.action(async (model: string, flags: Flags) => {
    const env = await environment(flags, signal);
    const graph = await load(model);
    const feeds = flags.data === undefined ? undefined : await firstSample(command, env, model, graph);
    const inspection = await inspect(graph, {
      runtime: env.runtime,
      random: env.random,
      time: flags.time,
      techniques: Object.values(techniques),
      simplified: (whole) => simplify().apply(whole, { ...env.context(), log() {} }),
      ...(feeds && { feeds }),
    });
    const sections = inspectionSections({ ...inspection, name: inspection.name || model }, flags.top);
    env.print(flags.markdown ? renderMarkdown(sections) : renderTerminal(sections, terminalOptions()));
    env.json(inspection);
  });
}

async function firstSample(
  command: Command,
  env: Environment,
  model: string,
  graph: Parameters<typeof openData>[3],
): Promise<Tensors | undefined> {
  const { dataset } = await openData(command, env, model, graph);
  for await (const { inputs } of dataset.batches({ batch: 1, limit: 1 })) return inputs;
  return undefined;
}
