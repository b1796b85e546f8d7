import { type Command, Option } from "commander";
import { z } from "zod";
import { fail } from "../../errors.ts";
import { parseOptions } from "../../options.ts";
import { save } from "../../platform/node.ts";
import { random } from "../../random.ts";
import { architectures } from "../../training/architectures/index.ts";
import { finetuneOptions } from "../../training/finetune.ts";
import { keepPreprocess } from "../data.ts";
import { environment } from "../environment.ts";
import { addFlags, readFlags } from "../flags.ts";
import { addTrainFlags, checkTrainPaths, openTrainingData, type TrainFlags, trainModel } from "./finetune.ts";

/** Options of all architectures: each reads what it knows, and refuses the others. */
const shapeOptions = z.object(
  Object.fromEntries(
    Object.values(architectures).flatMap(({ options }) =>
      Object.entries(options.shape).map(([name, field]) => {
        const known = field as z.ZodDefault<z.ZodNumber>;
        return [
          name,
          known
            .unwrap()
            .optional()
            .describe(known.description ?? ""),
        ];
      }),
    ),
  ),
);

/** Training from nothing wants a larger rate, more epochs and more decay than training further, and all of the data. */
const { shape } = finetuneOptions;
const scratchOptions = finetuneOptions.extend({
  epochs: z
    .number()
    .min(0)
    .describe("passes over the training data; fractions are allowed, 0 saves the network as it was drawn")
    .default(10),
  batch: shape.batch.unwrap().default(128),
  optimizer: shape.optimizer.unwrap().describe("the update rule").default("sgd"),
  rate: shape.rate.unwrap().describe("base learning rate").default(0.1),
  decay: shape.decay.unwrap().default(5e-4),
  holdOut: shape.holdOut.unwrap().default(0),
});

/** Flags that say nothing where nothing is trained. */
const trainingFlags = ["--report", "--log", "--work", "--teacher", "--loss-graph", "--simplify"];

function isGiven(command: Command, option: Option, flag: string): boolean {
  return option.long === flag && command.getOptionValueSource(option.attributeName()) === "cli";
}

/** `pare train`: trains an architecture from nothing. */
export function define(command: Command, signal: AbortSignal): void {
  command.addOption(
    new Option("--arch <name>", "the architecture").choices(Object.keys(architectures)).makeOptionMandatory(),
  );
  addFlags(command, shapeOptions);
  addTrainFlags(command, scratchOptions);
  command.action(async (flags: TrainFlags & { readonly arch: string }) => {
    checkTrainPaths(flags);
    const env = await environment(flags, signal);
    const architecture = architectures[flags.arch]!;
    const given = Object.fromEntries(
      Object.entries(readFlags(command, shapeOptions)).filter(([, value]) => value !== undefined),
    );
    const options = parseOptions(architecture.options, given, `pare train --arch ${flags.arch}`, true);
    const graph = architecture.build(options, random(env.seed).fork("weights"));
    const data = await openTrainingData(command, env, flags.output, graph, flags, scratchOptions);
    if (readFlags(command, scratchOptions).epochs === 0) {
      const idle = trainingFlags.find((flag) => command.options.some((option) => isGiven(command, option, flag)));
      if (idle) fail("pare train", `with --epochs 0 nothing is trained, which ${idle} is for`, "Leave it out");
      data.dataset.close?.();
      const saved = await save(keepPreprocess(graph, data), flags.output, { signal });
      env.print(`${saved.path}: untrained\n`);
      env.json({ input: flags.arch, output: saved.path, bytes: saved.bytes, epochs: [] });
      return;
    }
    await trainModel(command, env, {
      graph,
      name: flags.arch,
      shape: options,
      data,
      flags,
      schema: scratchOptions,
      untrained: true,
    });
  });
}
