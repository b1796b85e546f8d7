import { type Command, Option } from "commander";
import { diff, summarize } from "../../graph/diff.ts";
import { assertValid } from "../../graph/validate.ts";
import { load, save } from "../../platform/node.ts";
import { bytes } from "../../report/format.ts";
import { environment } from "../environment.ts";
import { addCommon, type CommonFlags } from "../flags.ts";
import { checkOutput } from "../model-files.ts";

interface Flags extends CommonFlags {
  readonly output: string;
  readonly weights: "auto" | "inside" | "outside";
}

/** `pare convert`: the same model, stored another way. */
export function define(command: Command, signal: AbortSignal): void {
  command
    .argument("<model>", "an ONNX file")
    .requiredOption("-o, --output <file>", "the file to write")
    .addOption(
      new Option("--weights <place>", "in the model file, or in a file beside it")
        .choices(["auto", "inside", "outside"])
        .default("auto"),
    );
  addCommon(command, "json", "quiet");
  command.action(async (model: string, flags: Flags) => {
    checkOutput(flags.output, [model]);
    const env = await environment(flags, signal);
    const before = await load(model);
    const graph = before;
    assertValid(graph, model);
    const external = flags.weights === "auto" ? "auto" : flags.weights === "outside";
    const saved = await save(graph, flags.output, { signal, external });
    env.print(`${saved.path}: ${bytes(saved.bytes)}; ${summarize(diff(before, graph))}\n`);
    env.json({ input: model, output: saved.path, bytes: saved.bytes, external: saved.external ?? null });
  });
}
