import { Command, type Option } from "commander";
import { type CommandRow, commands } from "./commands.ts";

/** docs/cli.md, made from the commands: every command with its arguments and flags. */
export async function cliReference(): Promise<string> {
  const parts = [introduction];
  let group = "";
  for (const row of commands) {
    if (row.group !== group) parts.push(`## ${row.group.replace(/:$/, "")}`);
    group = row.group;
    parts.push(await commandReference(row));
  }
  return `${parts.join("\n\n")}\n`;
}

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
  const options = command.options.filter(({ hidden }) => !hidden);
  const args = command.registeredArguments.map((argument) => {
    const name = argument.variadic ? `${argument.name()}...` : argument.name();
    return argument.required ? `<${name}>` : `[${name}]`;
  });
  const mandatory = options.filter((option) => option.mandatory).map((option) => option.flags.replace(/^-\w, /, ""));
  const usage = ["pare", row.name, ...args, ...mandatory, "[flags]"].join(" ");
  const table = ["| flag | |", "| --- | --- |", ...options.map(optionRow)].join("\n");
  const lines = [`### ${row.name}`, sentence(row.summary), `\`\`\`\n${usage}\n\`\`\``];
  return [...lines, ...(options.length > 0 ? [table] : [])].join("\n\n");
}

function optionRow({ flags, description }: Option): string {
  return `| \`${flags}\` | ${description.replaceAll("|", "\\|").replaceAll("<", "&lt;")} |`;
}

function sentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
}
