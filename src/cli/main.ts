import { Command, CommanderError } from "commander";
import { didYouMean, messageOf, PareError } from "../errors.ts";
import { version } from "../version.ts";
import { commands } from "./commands.ts";
import { Interrupted, interruptedStatus, interruptSignal } from "./interrupt.ts";
import { printable } from "./printable.ts";
import { clearProgress } from "./progress.ts";

/** Exit status: the user can fix it. */
const userStatus = 1;
/** Exit status: a bug of pare (EX_SOFTWARE of sysexits.h). */
const bugStatus = 70;

/**
 * Runs the command line and sets the exit status: 0 done, 1 the user can fix it, 70 a bug, 130 interrupted.
 *
 * @param argv arguments after the program's name
 */
export async function main(argv: readonly string[]): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", notWritten);
  try {
    const program = await programFor(argv, interruptSignal());
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    clearProgress();
    process.exitCode = report(error);
    if (process.exitCode === interruptedStatus) process.exit();
  }
}

/** A reader that has seen enough (`pare print m.onnx | head`) is no error, and files are still to be written. */
function notWritten(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE")
    process.exitCode = write(`pare: the output can't be printed (${error.message}).`, userStatus);
}

/** The program with every command listed, and the one that `argv` names built in full: the others cost no import. */
async function programFor(argv: readonly string[], signal: AbortSignal): Promise<Command> {
  const program = new Command("pare")
    .description("Make trained neural networks smaller and faster, and prove what it cost.")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print the help of a command")
    .exitOverride()
    .showHelpAfterError("See `pare <command> --help`.")
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "pare: ")) })
    .configureHelp({ helpWidth: Math.min(process.stdout.columns ?? 100, 100), showGlobalOptions: false })
    .addHelpText("after", "\nEvery command has its own help: pare <command> --help");
  const words = argv.filter((argument) => !argument.startsWith("-"));
  const wanted = words[0] === "help" ? words[1] : words[0];
  for (const row of commands) {
    const command = program.command(row.name).summary(row.summary).description(row.summary).helpGroup(row.group);
    command.copyInheritedSettings(program);
    if (row.name === wanted) (await row.load()).define(command, signal);
  }
  if (wanted !== undefined && !commands.some(({ name }) => name === wanted)) {
    const names = commands.map(({ name }) => name);
    throw new PareError(`pare: unknown command '${wanted}'. ${didYouMean(wanted, names) || "See `pare --help`."}`);
  }
  if (words.length === 0 && argv.length === 0) program.help();
  return program;
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : userStatus;
  if (error instanceof Interrupted) return write(`pare: ${error.message}`, interruptedStatus);
  if (error instanceof PareError) return write(error.message, userStatus);
  const stack = error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
  return write(`pare: this is a bug of pare ${version}, please report it.\n${stack}`, bugStatus);
}

function write(message: string, status: number): number {
  process.stderr.write(`${printable(message)}\n`);
  return status;
}
