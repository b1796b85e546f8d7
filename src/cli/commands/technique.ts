import type { Command } from "commander";
import { onnxSize } from "../../formats/onnx/index.ts";
import { load, save } from "../../platform/node.ts";
import { run } from "../../recipe/run.ts";
import { ledgerLine, skipLines } from "../../report/document.ts";
import { checkSelection } from "../../techniques/selection.ts";
import type { Technique } from "../../techniques/technique.ts";
import type { CommandModule } from "../commands.ts";
import { addDataFlags, keepPreprocess, openData } from "../data.ts";
import { environment } from "../environment.ts";
import { addCommon, addFlags, type CommonFlags, readFlags } from "../flags.ts";
import { checkOutput } from "../model-files.ts";

interface Flags extends CommonFlags {
  readonly output: string;
  readonly data?: string;
}

/** `pare <technique>`: one technique, its flags derived from the schema of its options. */
export function techniqueCommand(technique: Technique): CommandModule {
  return {
    define(command, signal) {
      command.argument("<model>", "an ONNX or Keras file").requiredOption("-o, --output <file>", "the file to write");
      addFlags(command, technique.options);
      addCommon(command, "json", "quiet", "threads", "seed", "device");
      if (technique.data !== "unused") addDataFlags(command, technique.data === "required");
      command.action((model: string, flags: Flags) => apply(command, technique, model, flags, signal));
    },
  };
}

async function apply(
  command: Command,
  technique: Technique,
  model: string,
  flags: Flags,
  signal: AbortSignal,
): Promise<void> {
  checkOutput(flags.output, [model]);
  const step = technique(readFlags(command, technique.options));
  const env = await environment(flags, signal);
  const graph = await load(model);
  checkSelection(step.options, graph, `pare ${technique.name}`);
  const data = flags.data === undefined ? undefined : await openData(command, env, model, graph);
  const result = await run(graph, [step], env.context(data?.dataset), {
    measure: async (measured) => ({ bytes: onnxSize(measured), scores: [] }),
  });
  const [entry] = result.ledger;
  const saved = await save(data ? keepPreprocess(result.graph, data) : result.graph, flags.output, { signal });
  const lines = [ledgerLine(entry!), ...skipLines(entry!)];
  env.print(`${lines.join("\n")}\n`);
  env.json({ input: model, output: saved.path, bytes: saved.bytes, ledger: result.ledger });
}
