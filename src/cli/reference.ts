import { Command, type Option } from "commander";
import { type CommandRow, commands } from "./commands.ts";
import { addDataFlags } from "./data.ts";

/** docs/cli.md, made from the commands: every command with its arguments and flags. */
export async function cliReference(): Promise<string> {
  const parts = [introduction];
  let group = "";
  for (const row of commands) {
    if (row.group !== group) parts.push(`## ${row.group.replace(/:$/, "")}`);
    group = row.group;
    parts.push(await commandReference(row));
  }
  const data = new Command();
  addDataFlags(data, false);
  parts.push(`## Reading the data`, dataIntroduction, table(data.options.filter((option) => option.helpGroupHeading)));
  return `${parts.join("\n\n")}\n`;
}

const dataIntroduction = `Flags of every command that takes \`--data\`. What they say goes before \`<model>.pare.yaml\`, and that before
what the model's own metadata say.`;

const introduction = `# Command line

<!-- Made from the commands by test/cli-docs.test.ts; write it anew with: npx vitest run test/cli-docs.test.ts -u -->

- \`--json\` prints one JSON object on stdout and nothing else there; progress and notes go to stderr.
- Exit status: 0 done; 1 you can fix it (a message says what and how); 70 a bug of pare (with a stack); 130 interrupted.
- An output file appears whole or not at all, and an input file is never changed.
- Flags that take a list are repeated, or take several values with commas between them.
- A \`--flag\` that is on by default is turned off by \`--no-flag\`.
- \`<model>.pare.yaml\` beside a model says how to feed and judge it: \`preprocess\` (the flags under "Reading the data", in
  camelCase), \`task\`, \`classes\`, \`metrics\`.`;

async function commandReference(row: CommandRow): Promise<string> {
  const command = new Command(row.name).summary(row.summary).description(row.summary);
  (await row.load()).define(command, new AbortController().signal);
  const reading = command.options.some(({ helpGroupHeading }) => helpGroupHeading);
  const options = command.options.filter(({ hidden, helpGroupHeading }) => !hidden && !helpGroupHeading);
  const args = command.registeredArguments.map((argument) => {
    const name = argument.variadic ? `${argument.name()}...` : argument.name();
    return argument.required ? `<${name}>` : `[${name}]`;
  });
  const mandatory = options.filter((option) => option.mandatory).map((option) => option.flags.replace(/^-\w, /, ""));
  const usage = ["pare", row.name, ...args, ...mandatory, "[flags]"].join(" ");
  const lines = [`### ${row.name}`, sentence(row.summary), `\`\`\`\n${usage}\n\`\`\``];
  if (options.length > 0) lines.push(table(options));
  if (reading) lines.push("And the flags for [reading the data](#reading-the-data).");
  return lines.join("\n\n");
}

function table(options: readonly Option[]): string {
  const rows = options.filter(({ hidden }) => !hidden).map(optionRow);
  return ["| flag | |", "| --- | --- |", ...rows].join("\n");
}

function optionRow({ flags, description, argChoices, defaultValue, defaultValueDescription }: Option): string {
  const plain = typeof defaultValue === "number" || typeof defaultValue === "string";
  const value = defaultValueDescription ?? (plain ? String(defaultValue) : undefined);
  const notes = [...(argChoices ? [argChoices.join(", ")] : []), ...(value === undefined ? [] : [`default: ${value}`])];
  const text = notes.length > 0 ? `${description} (${notes.join("; ")})` : description;
  return `| \`${flags}\` | ${text.replaceAll("|", "\\|").replaceAll("<", "&lt;")} |`;
}

function sentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
}
