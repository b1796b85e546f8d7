import { type Command, Option } from "commander";
import { diff, summarize } from "../../graph/diff.ts";
import { assertValid } from "../../graph/validate.ts";
import { convertOpset } from "../../ops/convert.ts";
import { load, save } from "../../platform/node.ts";
import { bytes } from "../../report/format.ts";
import { environment } from "../environment.ts";
import { addCommon, type CommonFlags, count } from "../flags.ts";
import { checkPaths } from "../paths.ts";

interface Flags extends CommonFlags {
  readonly output: string;
  readonly weights: "auto" | "inside" | "outside";
  readonly layout: "keras" | "channels-first";
  readonly opset?: number;
}

/** `pare convert`: the same model as ONNX, stored another way or in a newer operator set. */
export function define(command: Command, signal: AbortSignal): void {
  command
    .argument("<model>", "an ONNX or Keras file")
    .requiredOption("-o, --output <file>", "the file to write")
    .addOption(
      new Option("--weights <place>", "in the model file, or in a file beside it")
        .choices(["auto", "inside", "outside"])
        .default("auto", "auto: outside where it was, or where one file can't hold them"),
    )
    .addOption(
      new Option("--layout <order>", "axes of a Keras model's image inputs: as Keras has them, or channels first")
        .choices(["keras", "channels-first"])
        .default("keras", "keras"),
    )
    .option("--opset <number>", "raise ONNX's own operator set to this version", count);
  addCommon(command, "json", "quiet");
  command.action(async (model: string, flags: Flags) => {
    checkPaths({ inputs: [model], output: flags.output });
    const env = await environment(flags, signal);
    const before = await load(model, { layout: flags.layout });
    const graph = flags.opset === undefined ? before : convertOpset(before, flags.opset);
    assertValid(graph, model);
    const external = flags.weights === "auto" ? "auto" : flags.weights === "outside";
    const saved = await save(graph, flags.output, { signal, external });
    env.print(`${saved.path}: ${bytes(saved.bytes)}; ${summarize(diff(before, graph))}\n`);
    env.json({ input: model, output: saved.path, bytes: saved.bytes, external: saved.external ?? null });
  });
}
